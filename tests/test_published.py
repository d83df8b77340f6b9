"""What the README and the docs say is what the committed comparison says."""

import json
import re

import pytest

from benchmarks.publish import BEGIN, END, main_part
from harness.protocol import load_protocol
from tests.conftest import ROOT

IMDB = ROOT / "docs" / "comparisons" / "imdb"

pytestmark = pytest.mark.skipif(not IMDB.is_dir(), reason="no full-size comparison is committed")


def test_the_readme_shows_the_table_of_the_committed_report() -> None:
    readme = (ROOT / "README.md").read_text()
    between = readme.split(BEGIN.format(name="imdb"))[1].split(END.format(name="imdb"))[0]
    assert between.strip() == main_part((IMDB / "report.md").read_text(), "docs/comparisons/imdb")


def test_the_committed_comparison_has_the_asked_for_runs_under_the_preset() -> None:
    machine = json.loads((IMDB / "comparison.json").read_text())
    preset = load_protocol("imdb")
    assert (IMDB / "protocol.toml").read_text() == (ROOT / "harness" / "protocols" / "imdb.toml").read_text()
    assert machine["manifest"]["protocol"] == preset.model_dump(mode="json")
    assert all(run["status"] == "ok" for run in machine["runs"])
    assert len(machine["runs"]) == 2 * 2 * (5 + 3)


def test_the_committed_report_names_no_folder_of_the_machine_it_was_made_on() -> None:
    for path in (IMDB / "report.md", IMDB / "comparison.json"):
        assert not re.search(r"(?<![\w.])/(work|home|tmp|root|Users)/", path.read_text())


def test_every_figure_of_the_committed_report_is_committed() -> None:
    for figure in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (IMDB / "report.md").read_text()):
        assert (IMDB / figure).is_file()
