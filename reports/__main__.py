"""Builds a report again from what is on disk.

``python -m reports RESULTS_DIR`` for a comparison, ``python -m reports --predictions FILE...`` for predictions of
models trained anywhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import CrosscheckError, UsageError

#: as pytest's for a usage error
USAGE_ERROR = 4

#: where the report of predictions goes
OUTPUT = Path("predictions-report")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the report and print its path; a mistake is one sentence on stderr and exit code 4."""
    parser = argparse.ArgumentParser(
        prog="python -m reports", description="Build report.md, comparison.json and the figures of a comparison."
    )
    parser.add_argument(
        "results", type=Path, nargs="?", metavar="RESULTS_DIR", help="folder of a comparison, such as comparison"
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="predictions of models trained anywhere, instead of a comparison: JSON, CSV or Parquet with a column of "
        "labels (actual_pred or label), columns of probabilities (<model>_prob or probability), and example_id and "
        "text if there are any",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help=f"folder for the report of --predictions (default: {OUTPUT})"
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="OLD",
        help="folder of an earlier comparison: what changed since?",
    )
    options = parser.parse_args(arguments)
    try:
        print(_build(options.results, options.predictions, options.output, options.baseline))
    except CrosscheckError as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    return 0


def _build(
    results: Path | None, predictions: Sequence[Path] | None, output: Path | None, baseline: Path | None
) -> Path:
    if (results is None) == (predictions is None):
        raise UsageError("Give either the folder of a comparison or --predictions with one or more files.")
    if predictions is not None:
        if baseline is not None:
            raise UsageError("--baseline goes with the folder of a comparison, not with --predictions.")
        from reports.from_predictions import build as build_predictions

        return build_predictions(predictions, output or OUTPUT)
    if output is not None:
        raise UsageError("--output goes with --predictions; the report of a comparison is written into its folder.")
    assert results is not None
    from reports.build import build

    return build(results, baseline).report


if __name__ == "__main__":
    sys.exit(main())
