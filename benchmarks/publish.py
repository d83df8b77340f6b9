"""Copy a finished comparison into ``docs/comparisons/NAME``, and its verdict and figure into the README.

    pytest --benchmark --crosscheck-protocol imdb
    python benchmarks/publish.py comparison imdb

What is committed is what the report builder wrote: nothing is typed by hand. A test holds the README's table
against the report's.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- {name}: begin, written by benchmarks/publish.py -->", "<!-- {name}: end -->"


def main_part(report: str, folder: str) -> str:
    """Give the verdict and its figure, with paths that hold in the README."""
    found = re.search(r"^- .*?!\[[^\]]*\]\(figures/accuracy\.svg\)\n\n\*[^\n]*\*$", report, re.DOTALL | re.MULTILINE)
    if found is None:
        raise SystemExit("The report has no accuracy figure; was anything trained?")
    return found[0].replace("(figures/", f"({folder}/figures/").replace("(details/", f"({folder}/details/")


def publish(comparison: Path, name: str, root: Path = ROOT) -> None:
    """Copy report, figures, tables and the protocol, and bring the README up to date."""
    target = root / "docs" / "comparisons" / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in ("report.md", "comparison.json", "pairs.csv", "where.csv"):
        shutil.copyfile(comparison / file, target / file)
    for part in ("figures", "details"):
        shutil.copytree(comparison / part, target / part)
    protocol = json.loads((comparison / "manifest.json").read_text())["protocol"]
    shutil.copyfile(root / "harness" / "protocols" / f"{protocol['name']}.toml", target / "protocol.toml")
    readme = root / "README.md"
    text = readme.read_text()
    begin, end = BEGIN.format(name=name), END.format(name=name)
    if begin not in text:
        print(f"README.md doesn't show it; it would between the lines {begin!r} and {end!r}.")
        return
    part = main_part((target / "report.md").read_text(), f"docs/comparisons/{name}")
    before, rest = text.split(begin, 1)
    readme.write_text(f"{before}{begin}\n\n{part}\n\n{end}{rest.split(end, 1)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("comparison", type=Path, help="folder of the comparison")
    parser.add_argument("name", help="name below docs/comparisons")
    arguments = parser.parse_args()
    publish(arguments.comparison, arguments.name)


if __name__ == "__main__":
    main()
