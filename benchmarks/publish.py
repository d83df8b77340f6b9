"""Copy a finished comparison into ``docs/comparisons/NAME``, and its verdict and figure into the README.

    pytest --benchmark --crosscheck-protocol imdb
    python -m benchmarks.publish comparison imdb

A local backend (module:Class) has to be importable: PYTHONPATH=docs/findings. What is committed is what the report
builder wrote: nothing is typed by hand. A test holds the README's table against the report's.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.page import picture
from rnn_crosscheck.harness.execution.chosen import look_up
from rnn_crosscheck.harness.execution.plan import Asked, plan_all
from rnn_crosscheck.harness.parity.stages import FACTORS
from rnn_crosscheck.harness.protocol import DIVISIONS
from rnn_crosscheck.harness.results import DatasetFacts, Manifest, read_record
from rnn_crosscheck.reports.pages import browse
from tests import browser

ROOT = Path(__file__).parents[1]
PICTURE = "examples.png"
BEGIN, END = "<!-- {name}: begin, written by benchmarks/publish.py -->", "<!-- {name}: end -->"


def main_part(report: str, folder: str) -> str:
    """Give the verdict and its figure, with paths that hold in the README."""
    found = re.search(r"^- .*?!\[[^\]]*\]\(figures/accuracy\.svg\)\n\n\*[^\n]*\*$", report, re.DOTALL | re.MULTILINE)
    if found is None:
        raise SystemExit("The report has no accuracy figure; was anything trained?")
    return found[0].replace("(figures/", f"({folder}/figures/").replace("(details/", f"({folder}/details/")


def with_picture(page: str, root: str = "") -> str:
    """Put a picture where a page of the report leads to all examples: that page is too large to be committed."""
    shown = (
        f"![The page to browse all examples: a scatter of both sides' probabilities, who is right, and the texts with "
        f"the words that moved each side]({root}figures/{PICTURE})\n\n"
        f"*`{browse.PAGE}`, which lies in the folder of every comparison: all examples, to filter, search and read.*"
    )
    return re.sub(rf"^\[Browse all .*\]\([./]*{re.escape(browse.PAGE)}\).*$", shown, page, flags=re.MULTILINE)


def differing(comparison: Path) -> list[str]:
    """Name the runs and checks of a comparison whose keys aren't those of the code that stands here."""
    manifest = read_record(comparison / "manifest.json", Manifest)
    fingerprint = read_record(comparison / "dataset.json", DatasetFacts).fingerprint
    models = tuple(model.name for model in manifest.protocol.models)
    # A local backend is found as the command named it, and not by its name.
    named = re.search(r"--crosscheck-backends[= ](\S+)", manifest.command)
    backends = look_up(named[1].split(",") if named else manifest.backends)
    asked = Asked(manifest.protocol, backends, models, DIVISIONS, fingerprint, manifest.device)
    switched = {run_id.rpartition("-")[2] for run_id in manifest.variants}
    plan = plan_all(asked, diagnose=[each for each in sorted(switched) if FACTORS.keys() >= {*each.split("+")}])
    now = {run.run_id: run.key for run in plan.by_id.values()} | {check.name: check.key for check in plan.checks}
    return [one for one, key in {**manifest.keys, **manifest.parity_keys}.items() if now.get(one) != key]


def publish(comparison: Path, name: str, root: Path = ROOT) -> None:
    """Copy report, figures, tables and the protocol, and bring the README up to date."""
    target = root / "docs" / "comparisons" / name
    if others := differing(comparison):
        raise SystemExit(f"Other code, data or versions than those that stand here made {len(others)}: {others[0]} ...")
    if (comparison / browse.PAGE).exists() and (lacking := browser.missing()):
        raise SystemExit(f"The picture of {browse.PAGE} takes a browser, and there is no {lacking}.")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in ("report.md", "comparison.json", "pairs.csv", "where.csv"):
        shutil.copyfile(comparison / file, target / file)
    for part in ("figures", "details"):
        shutil.copytree(comparison / part, target / part)
    if (comparison / browse.PAGE).exists():
        picture(comparison, target / "figures" / PICTURE)
        for page, way in ((target / "report.md", ""), (target / "details" / "examples.md", "../")):
            page.write_text(with_picture(page.read_text(), way))
    protocol = json.loads((comparison / "manifest.json").read_text())["protocol"]
    written = (root / "harness" / "protocols" / f"{protocol['name']}.toml").read_text()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True).stdout
    (target / "protocol.toml").write_text(
        f"# Every key of this comparison is that of the code at {commit.strip()}.\n{written}"
    )
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
