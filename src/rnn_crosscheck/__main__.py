"""``rnn-crosscheck``: what there is to do beside ``pytest --crosscheck``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rnn_crosscheck.harness.errors import CrosscheckError, in_a_sentence

#: as pytest's for a usage error
USAGE_ERROR = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command and print what it says; a mistake is one sentence on stderr and exit code 4."""
    options = _parser().parse_args(arguments)
    carry_out: Callable[[argparse.Namespace], object] = options.carry_out
    try:
        with in_a_sentence(f"The command {options.command!r} can't be carried out"):
            print(carry_out(options))
    except CrosscheckError as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rnn-crosscheck",
        description="Lists backends, builds reports, begins backends. The comparison itself is `pytest --crosscheck`.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, carry_out: Callable[[argparse.Namespace], object], text: str, example: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=f"Example: rnn-crosscheck {example}"
        )
        added.set_defaults(carry_out=carry_out)
        return added

    command("list", _list, "show every backend, whether it can be used here, and what to do if not", "list")

    report = command(
        "report",
        _report,
        "build the report of a comparison anew from what is on disk",
        "report comparison --baseline comparison-of-last-week",
    )
    report.add_argument("folder", type=Path, metavar="DIR", help="folder of a comparison")
    report.add_argument(
        "--baseline", type=Path, metavar="OLD", help="folder of an earlier comparison: what changed since?"
    )

    predictions = command(
        "predictions",
        _predictions,
        "report on predictions of models that were trained anywhere",
        "predictions mine.csv theirs.parquet",
    )
    predictions.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="JSON, CSV or Parquet with a column of labels (actual_pred or label), columns of probabilities "
        "(<model>_prob or probability), and example_id and text if there are any",
    )
    predictions.add_argument(
        "--output",
        type=Path,
        default=Path("predictions-report"),
        metavar="DIR",
        help="folder for the report (predictions-report)",
    )

    new = command(
        "new-backend",
        _new_backend,
        "write a backend to be filled in, its test and its registration",
        "new-backend my-framework",
    )
    new.add_argument("name", metavar="NAME", help="what it is called on the command line, such as my-framework")
    new.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="folder for the files (this one)")
    return parser


def _list(options: argparse.Namespace) -> object:
    from rnn_crosscheck.harness.session.listing import listing

    del options
    return listing()


def _report(options: argparse.Namespace) -> object:
    from rnn_crosscheck.reports.build import build

    return build(options.folder, options.baseline).report


def _predictions(options: argparse.Namespace) -> object:
    from rnn_crosscheck.reports.from_predictions import build

    return build(options.files, options.output)


def _new_backend(options: argparse.Namespace) -> object:
    from rnn_crosscheck.harness.conformance.scaffold import new_backend

    return new_backend(options.name, options.output)


def entry() -> None:
    """Be the console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
