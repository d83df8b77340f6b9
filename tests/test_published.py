"""What the README and the docs say is what the committed comparison says."""

import json
import re
from pathlib import Path

import pytest

from benchmarks.publish import BEGIN, END, main_part, with_picture
from rnn_crosscheck.harness.protocol import Protocol, load_protocol
from tests.conftest import ROOT

IMDB = ROOT / "docs" / "comparisons" / "imdb"
FOLDERS = sorted(path.parent for path in IMDB.parent.glob("*/comparison.json"))

pytestmark = pytest.mark.skipif(not IMDB.is_dir(), reason="no full-size comparison is committed")


def test_the_readme_shows_the_table_of_the_committed_report() -> None:
    readme = (ROOT / "README.md").read_text()
    between = readme.split(BEGIN.format(name="imdb"))[1].split(END.format(name="imdb"))[0]
    report = (IMDB / "report.md").read_text()
    assert between.strip()
    for line in between.strip().splitlines():
        assert line.replace("(docs/comparisons/imdb/", "(") in report


def test_the_verdict_and_its_figure_go_into_the_readme() -> None:
    report = (ROOT / "tests" / "reports" / "golden" / "front" / "quick.md").read_text()
    part = main_part(report, "docs/comparisons/imdb")
    assert part.startswith("- With their own defaults (*native*) **keras-tensorflow is more accurate**")
    assert "](docs/comparisons/imdb/details/accuracy.md) |" in part
    assert part.splitlines()[-3].endswith("(docs/comparisons/imdb/figures/accuracy.svg)")
    assert part.splitlines()[-1].startswith("*A dot a run")


def test_a_picture_stands_for_the_page_that_is_too_large_to_be_committed() -> None:
    golden = ROOT / "tests" / "reports" / "golden"
    for page, root in ((golden / "front" / "quick.md", ""), (golden / "pages" / "examples.md", "../")):
        report = page.read_text()
        assert "examples.html)" in report
        published = with_picture(report, root)
        assert "examples.html)" not in published
        assert f"]({root}figures/examples.png)" in published
        assert len(published.splitlines()) == len(report.splitlines()) + 2


def test_the_full_comparison_has_all_runs_of_its_protocol() -> None:
    machine = json.loads((IMDB / "comparison.json").read_text())
    assert len(machine["runs"]) == 2 * 2 * (5 + 5)
    assert {(cause["model"], cause["seeds"]) for cause in machine["causes"]} == {("rnn", 5), ("lstm", 5)}
    assert len(machine["causes"]) == 2 * 7


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_committed_comparison_was_made_under_the_protocol_beside_it_and_is_whole(folder: Path) -> None:
    machine = json.loads((folder / "comparison.json").read_text())
    written = load_protocol(str(folder / "protocol.toml")).model_dump(mode="json")
    # What came into being later has its default; models and seeds may be fewer, as the command says.
    made = Protocol.model_validate_json(json.dumps(machine["manifest"]["protocol"])).model_dump(mode="json")
    # How time is measured is no part of what was trained, and has changed since.
    same = {"name": "", "workers": made["workers"], "timing": made["timing"]}
    assert {**made, **same} == {**written, **same}
    assert machine["runs"]
    assert all(run["status"] == "ok" for run in machine["runs"])


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_committed_report_names_no_folder_of_the_machine_it_was_made_on(folder: Path) -> None:
    for path in (folder / "report.md", folder / "comparison.json"):
        assert not re.search(r"(?<![\w.])/(work|home|tmp|root|Users)/", path.read_text())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_figure_of_a_committed_report_is_committed(folder: Path) -> None:
    for figure in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (folder / "report.md").read_text()):
        assert (folder / figure).is_file()


#: what is learned from comparisons: sections of the findings that link to some
LEARNED = [
    part for part in re.split(r"^## ", (ROOT / "docs/findings.md").read_text(), flags=re.MULTILINE)[1:]
    if "](comparisons/" in part
]  # fmt: skip


FIGURE = r"(?<![\w.])\d(?:[\d,]*\d)?(?:\.\d+)?(?:e-?\d+)?(?!\w)"


@pytest.mark.parametrize("section", LEARNED, ids=lambda section: section.partition("\n")[0])
def test_every_figure_of_the_findings_stands_in_a_comparison_that_they_name(section: str) -> None:
    folders = {IMDB.parent / name for name in re.findall(r"\]\(comparisons/([\w-]+)/", section)}
    pages = _plain(" ".join(path.read_text() for folder in sorted(folders) for path in folder.rglob("*.md")))
    known = {*re.findall(FIGURE, pages)}
    told = _plain(re.sub(r"\]\([^)]*\)|`[^`]*`", "", section))
    assert not {figure for figure in re.findall(FIGURE, told) if figure not in known and not _a_year(figure)}
    if "Printed by `benchmarks/" not in section:
        assert not {interval for interval in re.findall(r"\[[-\d][^\]]*\d\]", told) if interval not in pages}
        assert not {row for row in re.findall(r"^\|.*\|$", told, re.MULTILINE) if row not in pages}


def test_every_figure_that_the_readme_leads_with_stands_in_a_comparison_that_it_names() -> None:
    told = (ROOT / "README.md").read_text().split("## What it found")[1].split(BEGIN.format(name="imdb"))[0]
    folders = {IMDB.parent / name for name in re.findall(r"\]\(docs/comparisons/([\w-]+)/", told)}
    pages = " ".join(path.read_text() for folder in sorted(folders) for path in folder.rglob("*.md"))
    figures = re.findall(FIGURE, re.sub(r"\]\([^)]*\)", "", told))
    assert len(figures) >= 4
    assert not set(figures) - {*re.findall(FIGURE, pages)}


def _plain(page: str) -> str:
    """Give intervals one form, and tables no spaces."""
    page = re.sub(r"\((-?[\d.]+) to (-?[\d.]+)\)", r"[\1, \2]", page)
    return re.sub(" *[|] *", "|", re.sub(":?-{3,}:?", "-", page))


def _a_year(figure: str) -> bool:
    return re.fullmatch("(19|20)[0-9]{2}", figure) is not None
