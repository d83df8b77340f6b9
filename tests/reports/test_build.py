from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rnn_crosscheck.__main__ import main
from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.reports.build import build
from tests.reports.folders import rewrite, write_comparison


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_comparison(tmp_path / "comparison", failed=["matched-pytorch-rnn-seed1"])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder whose report is built; read only."""
    folder = write_comparison(tmp_path_factory.mktemp("built"), failed=["matched-pytorch-rnn-seed1"])
    build(folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    built = [
        folder / "report.md",
        folder / "comparison.json",
        folder / "results_stored.json",
        folder / "examples.parquet",
        folder / "examples.html",
        folder / "pairs.csv",
        folder / "where.csv",
        *sorted((folder / "figures").iterdir()),
        *sorted((folder / "details").iterdir()),
    ]
    return {path.name: path.read_bytes() for path in built}


@pytest.mark.parametrize("page", ["details", "report.md", "figures", "comparison.json"])
def test_what_is_in_the_way_of_a_page_is_named(tmp_path: Path, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_comparison(tmp_path, backends=("pytorch",), models=("rnn",), seeds={"native": (0,)}, timed=False)
    if page.endswith((".md", ".json")):
        (folder / page).mkdir()
    else:
        (folder / page).write_text("somebody's notes")
    assert main(["report", str(folder)]) == 4
    said = capsys.readouterr().err
    assert re.fullmatch(rf"The command 'report' can't be carried out: .*{page}.*\n", said), said


@pytest.mark.long
def test_one_folder_always_gives_the_same_bytes(folder: Path) -> None:
    built = build(folder)
    first = files(folder)
    assert sorted(first) == [
        "accuracy.md", "accuracy.svg", "agreement.md", "causes.md", "comparison.json", "data.md", "drift.svg",
        "examples.html", "examples.md", "examples.parquet", "ladder.svg", "learning.svg", "lengths.svg", "pairs.csv",
        "ratios.svg", "reading-the-report.md", "reliability.svg", "report.md", "results_stored.json", "runs.md",
        "speed.md", "where.csv"]  # fmt: skip
    build(folder)
    assert files(folder) == first
    assert built.report == folder / "report.md"
    assert [title for title, _ in built.summary] == ["verdict"]
    leftovers = [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert leftovers == []


@pytest.mark.long
def test_figures_that_no_longer_hold_go_away(folder: Path) -> None:
    build(folder)
    mine = folder / "figures" / "mine.png"
    mine.write_bytes(b"mine")
    (folder / "details" / "mine.md").write_bytes(b"mine")
    (folder / "timings.json").unlink()
    build(folder)
    assert (folder / "details" / "mine.md").read_bytes() == b"mine"
    assert "ratios.svg" not in files(folder)
    assert mine.read_bytes() == b"mine"
    assert "ratios.svg" not in (folder / "report.md").read_text()


@pytest.mark.slow
def test_every_figure_that_the_report_shows_is_there_and_is_svg(built: Path) -> None:
    details = "".join(page.read_text() for page in (built / "details").iterdir())
    for path in (built / "figures").iterdir():
        assert f"(../figures/{path.name})" in details
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith("svg")
        assert b"dc:date" not in path.read_bytes()


@pytest.mark.slow
def test_the_json_says_what_the_report_says(built: Path) -> None:
    content = json.loads((built / "comparison.json").read_text())
    report = (built / "report.md").read_text()
    for sentence in content["in_short"]:
        assert f"- {sentence}\n" in report
    assert len(content["accuracy"]) == 8
    assert {row["verdict"] for row in content["answers"]} <= {"better", "same", "undecided", "?"}
    lost = next(row for row in content["runs"] if row["run_id"] == "matched-pytorch-rnn-seed1")
    assert (lost["status"], lost["accuracy"]) == ("failed", None)
    assert content["failures"]["matched-pytorch-rnn-seed1"]["signal"] == "SIGKILL"
    assert len(content["pairs"]) == 21
    assert content["manifest"]["command"].startswith("pytest --benchmark")
    row = content["examples"][0]["rows"][0]
    assert row["example_id"].startswith("example-")
    assert row["kind"] == "stable split"
    assert content["excess_disagreement"][0]["seeds_a"] == 2


def test_no_run_at_all_still_gives_a_report(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path, seeds={"native": ()}, timed=False)
    built = build(folder)
    assert "nothing can be concluded" in built.report.read_text()
    assert built.summary == []
    assert not (folder / "figures").exists()
    assert not (folder / "examples.html").exists()


@pytest.mark.slow
def test_runs_that_don_t_belong_together_leave_the_old_report_alone(folder: Path) -> None:
    build(folder)
    before = files(folder)
    path = folder / "runs" / "native-pytorch-rnn-seed0" / "result.json"
    rewrite(path, json.loads(path.read_text().replace("c0ffee", "decaff")))
    with pytest.raises(ResultsError):
        build(folder)
    assert files(folder) == before


@pytest.mark.slow
def test_the_command_prints_the_path(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.md'}\n"


def test_a_mistake_is_one_sentence_and_exit_code_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("There is no ")
    assert captured.err.count("\n") == 1


@pytest.mark.slow
def test_importing_reports_is_cheap() -> None:
    heavy = ("pandas", "matplotlib", "numpy", "pyarrow")
    code = f"import sys, rnn_crosscheck.reports; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    code = "import sys, rnn_crosscheck.reports.build; print('matplotlib' in sys.modules, 'tensorflow' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False False"
