"""``python -m harness new-backend NAME``: the files with which a backend begins."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.errors import CrosscheckError
from harness.scaffold import new_backend

#: as pytest's for a usage error
USAGE_ERROR = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files and say what to do next; a mistake is one sentence on stderr and exit code 4."""
    parser = argparse.ArgumentParser(prog="python -m harness", description="Tools for authors of backends.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    new = commands.add_parser("new-backend", help="write a backend to be filled in, its test and its registration")
    new.add_argument("name", metavar="NAME", help="what it is called on the command line, such as my-framework")
    new.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="folder for the files (this one)")
    options = parser.parse_args(arguments)
    try:
        print(new_backend(options.name, options.output))
    except CrosscheckError as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
