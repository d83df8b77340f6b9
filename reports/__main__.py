"""``python -m reports RESULTS_DIR``: build the report of a comparison again from what is on disk."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import CrosscheckError

#: as pytest's for a usage error
USAGE_ERROR = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the report and print its path; a mistake is one sentence on stderr and exit code 4."""
    parser = argparse.ArgumentParser(
        prog="python -m reports", description="Build report.md, comparison.json and the figures of a comparison."
    )
    parser.add_argument("results", type=Path, metavar="RESULTS_DIR", help="folder of a comparison, such as comparison")
    options = parser.parse_args(arguments)
    from reports.build import build

    try:
        print(build(options.results).report)
    except CrosscheckError as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
