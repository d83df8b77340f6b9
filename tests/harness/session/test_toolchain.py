"""pytest-benchmark's options on what ``pytest --benchmark`` measures, in real processes, with fakes."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rnn_crosscheck.harness.machine import machine
from rnn_crosscheck.harness.results import Manifest, RunResult, TimingResults, read_record
from rnn_crosscheck.harness.session.toolchain import described, differences, listed
from tests.conftest import ROOT
from tests.harness.session.test_session import FAKES, RNN, UNREPORTED, arguments

NAMES = ("tests.fakes.Steady", "tests.fakes.Other")
OPERATIONS = ("train_step", "predict_batch")
DIVISIONS = ("native", "matched")
TRAININGS = {f"test_training[{division}-{name}-rnn-seed0]" for division in DIVISIONS for name in NAMES}
TIMINGS = {f"test_timing[{name}-rnn-{operation}]" for name in NAMES for operation in OPERATIONS}


@dataclass(frozen=True)
class Answer:
    """What a comparison said, and how it ended."""

    code: int
    text: str

    def passed(self, kind: str = "passed") -> int:
        counts = next(line for line in reversed(self.text.splitlines()) if re.search(r" in [\d.]+s", line))
        found = re.search(rf"(\d+) {kind}\b", counts)
        return int(found[1]) if found else 0


def compare(folder: Path, *options: str, backends: str = FAKES, reported: bool = False) -> Answer:
    timed = f"timing.operations={json.dumps(OPERATIONS)}"
    command = [sys.executable, "-m", "pytest", *arguments(backends, *RNN, "--crosscheck-set", timed), *options]
    command += () if reported else UNREPORTED
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120
    )
    assert "INTERNALERROR" not in done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    return Answer(done.returncode, done.stdout)


def entries(path: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads(path.read_text())["benchmarks"]}


@dataclass(frozen=True)
class Compared:
    """A finished comparison, measured once for all tests of this file, with what pytest-benchmark wrote of it."""

    folder: Path
    answer: Answer

    @property
    def saved(self) -> Path:
        (path,) = (self.folder / "kept").glob("*/0001_first.json")
        return path

    def copy(self, place: Path) -> "Compared":
        shutil.copytree(self.folder, place, dirs_exist_ok=True)
        return Compared(place, self.answer)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    folder = tmp_path_factory.mktemp("compared")
    answer = compare(
        folder,
        *("-k", "timing or training", "--benchmark-json=all.json", "--benchmark-save=first"),
        *("--benchmark-storage=kept", "--benchmark-histogram=plots/h", "--benchmark-columns=min,mean,rounds"),
        *("--benchmark-group-by=param:backend,param:operation", "--benchmark-sort=name"),
        reported=True,
    )
    assert answer.code == 0, answer.text
    return Compared(folder, answer)


@pytest.mark.slow
def test_its_tables_are_for_who_asks_and_ours_come_last(compared: Compared, tmp_path: Path) -> None:
    copy = compared.copy(tmp_path / "c")
    asked, silent = compared.answer.text, compare(copy.folder, "-k", "training", reported=True).text
    assert re.search(r"^Name \(time in .s\) +Min +Mean +Rounds", asked, re.MULTILINE)
    assert "Name (time in" not in silent
    for shown, folder in ((asked, compared.folder), (silent, copy.folder)):
        *_, verdict, report = re.split(r"\n=+ (?:verdict|report) =+\n", shown)
        assert "accuracy, native" in verdict
        assert report == f"{folder}/comparison/report.md\n"


@pytest.mark.slow
def test_every_recorded_round_is_in_the_json_to_the_last_digit(compared: Compared) -> None:
    found = entries(compared.folder / "all.json")
    assert set(found) == TRAININGS | TIMINGS
    records = read_record(compared.folder / "comparison/timings.json", TimingResults).records
    assert len(records) == 4
    for record in records:
        entry = found[f"test_timing[{record.backend.replace(':', '.')}-rnn-{record.operation}]"]
        assert len(record.rounds_ns) == 5
        assert entry["stats"]["data"] == [ns / 1e9 for ns in record.rounds_ns]
        assert entry["stats"]["iterations"] == 1
        assert entry["group"] == f"rnn {record.operation}"
        about = entry["extra_info"]
        assert (about["backend"], about["model"], about["operation"]) == (record.backend, "rnn", record.operation)
        assert (about["threads"], about["examples"], about["setting"]) == (1, record.examples, "default")
        assert about["environment"] == record.environment
    for path in compared.folder.glob("comparison/runs/*/result.json"):
        run = read_record(path, RunResult)
        entry = found[f"test_training[{run.run_id}]"]
        assert entry["stats"]["data"] == [epoch.seconds for epoch in run.history]
        assert len(run.history) == 2
        assert entry["group"] == f"rnn epoch, {run.spec.division}"
        assert run.scores is not None
        assert entry["extra_info"]["test_accuracy"] == run.scores.accuracy
        assert entry["extra_info"]["seed"] == 0
    assert "UNSERIALIZABLE" not in (compared.folder / "all.json").read_text()
    baselines = [record for record in records if record.baseline]
    assert {record.backend for record in baselines} == {"tests.fakes:Steady"}
    assert {len(record.again_ns) for record in baselines} == {5}


@pytest.mark.slow
def test_the_json_describes_the_machine_as_the_manifest_does_and_by_nothing_that_changes(compared: Compared) -> None:
    about = json.loads((compared.folder / "all.json").read_text())["machine_info"]
    manifest = read_record(compared.folder / "comparison/manifest.json", Manifest)
    assert about["crosscheck"] == manifest.machine == machine()
    assert set(about["crosscheck"]) == {"cpu", "cores", "system", "python"}
    assert about["cpu"]["count"] >= 1
    assert not [key for key in about["cpu"] if key.startswith("hz_")]  # clock rates


@pytest.mark.slow
def test_a_saved_run_lies_in_the_storage_with_its_figures(compared: Compared) -> None:
    saved, whole = entries(compared.saved), entries(compared.folder / "all.json")
    assert set(saved) == set(whole)
    for name, entry in saved.items():
        assert "data" not in entry["stats"]
        assert entry["stats"]["mean"] == whole[name]["stats"]["mean"]
        assert entry["fullname"] == f"::{name}"
    assert not (compared.folder / ".benchmarks").exists()


@pytest.mark.slow
def test_tables_show_the_columns_groups_and_order_that_were_asked_for(compared: Compared) -> None:
    text = compared.answer.text
    groups = re.findall(r"benchmark '(.*)': (\d) tests", text)
    assert groups == [
        (f"backend={backend} operation={operation}", count)
        for backend in ("tests.fakes:Other", "tests.fakes:Steady")
        for operation, count in (("epoch", "2"), ("predict_batch", "1"), ("train_step", "1"))
    ]
    heads = [line.split() for line in text.splitlines() if line.startswith("Name (time in")]
    assert [head[-3:] for head in heads] == [["Min", "Mean", "Rounds"]] * 6
    assert not [head for head in heads if "StdDev" in head]
    rows = [line for line in text.splitlines() if line.startswith("test_")]
    assert [row.split()[0] for row in rows][:2] == sorted(name for name in TRAININGS if "Other" in name)
    assert {row.split()[-1] for row in rows if row.startswith("test_timing")} == {"5"}  # rounds


@pytest.mark.slow
def test_a_histogram_is_drawn_of_every_group(compared: Compared) -> None:
    drawn = {path.name: path.read_text() for path in (compared.folder / "plots").iterdir()}
    assert set(drawn) == {
        f"h-backend=tests.fakes_{name}_operation={operation}.svg"
        for name in ("Steady", "Other")
        for operation in ("epoch", *OPERATIONS)
    }
    for name in ("Steady", "Other"):
        epoch = drawn[f"h-backend=tests.fakes_{name}_operation=epoch.svg"]
        assert epoch.count("- 2 rounds") >= 2
        assert f"test_training[native-tests.fakes.{name}-rnn-seed0]" in epoch


@pytest.mark.long
def test_timings_are_measured_anew_and_compared_on_the_same_machine_without_a_warning(
    compared: Compared, tmp_path: Path
) -> None:
    again = compared.copy(tmp_path)
    timings = read_record(again.folder / "comparison/timings.json", TimingResults)
    answer = compare(
        again.folder,
        *("-k", "training or train_step", "--benchmark-storage=kept", "--benchmark-autosave"),
        *("--benchmark-compare", "--benchmark-compare-fail=mean:100", "--benchmark-compare-fail=min:100000%"),
        # What was stored is found wherever pytest is started: here the suite's own folder is within the root.
        f"--rootdir={ROOT}",
    )
    assert answer.code == 0, answer.text
    assert answer.text.count("already on disk") == len(TRAININGS)
    measured = [name for name in TIMINGS if "train_step" in name]
    for name in (*TRAININGS, *measured):
        assert f"{name} (0001_first)" in answer.text
        assert f"{name} (NOW)" in answer.text
    assert "stored timings" not in answer.text
    assert "machine_info" not in answer.text
    anew = read_record(again.folder / "comparison/timings.json", TimingResults)
    for record in timings.records:
        (now,) = (
            other for other in anew.records if (other.backend, other.operation) == (record.backend, record.operation)
        )
        assert (now.rounds_ns == record.rounds_ns) == (record.operation == "predict_batch")
    (saved,) = (again.folder / "kept").glob("*/0002_*.json")
    first, second = entries(again.saved), entries(saved)
    assert set(second) == {*TRAININGS, *measured}
    for name in TRAININGS:
        assert second[name]["stats"] == first[name]["stats"]


def planted(stored: dict[str, Any], factor: float) -> dict[str, Any]:
    """A stored run whose times are those of `stored` times a factor."""
    for entry in stored["benchmarks"]:
        for figure in ("min", "max", "mean", "median", "stddev"):
            entry["stats"][figure] *= factor
    return stored


@pytest.mark.long
def test_a_planted_slowdown_on_another_machine_ends_in_code_1_and_says_both(compared: Compared, tmp_path: Path) -> None:
    # Outside of the folder that pytest is started in, and on a machine that isn't this one.
    stored = planted(json.loads(compared.saved.read_text()), 0.5)
    stored["machine_info"]["crosscheck"] |= {"cpu": "Z80", "cores": "1000"}
    for entry in stored["benchmarks"]:
        if "Other" in entry["name"]:
            entry["extra_info"]["environment"]["fake"] = "0.9"
    folder = compared.copy(tmp_path / "here").folder
    storage = tmp_path / "elsewhere" / compared.saved.parent.name
    storage.mkdir(parents=True)
    (storage / "0007_faster.json").write_text(json.dumps(stored))
    options = ("-k", "training", f"--benchmark-storage={storage.parent}", "--benchmark-compare=0007")
    answer = compare(folder, *options, "--benchmark-compare-fail=mean:10%")
    assert answer.code == 1
    assert answer.passed() == len(TRAININGS)
    assert "Performance has regressed" in answer.text
    for name in TRAININGS:
        assert f"{name} (0007_faster) - Field 'mean' has failed PercentageRegressionCheck: 100.0" in answer.text
    (section,) = re.findall(r"= stored timings =+\n(.*?)\n=", answer.text, re.DOTALL)
    here = machine()
    assert section.splitlines() == [
        "0007_faster was measured on another machine, so its times can't be held against these: "
        f"cpu Z80 (here {here['cpu']}), cores 1000 (here {here['cores']}).",
        "0007_faster was measured with another environment of tests.fakes:Other: fake 0.9 (here 1.0).",
    ]
    assert "machine_info is different" not in answer.text


@pytest.mark.slow
def test_only_benchmarks_computes_nothing_else_and_what_did_not_change_passes_the_strictest_bound(
    compared: Compared, tmp_path: Path
) -> None:
    answer = compare(
        compared.copy(tmp_path).folder,
        *("-k", "training or trained", "-rs", "--benchmark-only", "--benchmark-storage=kept"),
        # The trainings are read off the disk, so their times are those that were stored.
        *("--benchmark-compare=0001", "--benchmark-compare-fail=mean:0%", "--benchmark-compare-fail=max:0%"),
    )
    assert answer.code == 0, answer.text
    assert answer.passed() == len(TRAININGS)
    for name in TRAININGS:
        assert f"{name} (NOW)" in answer.text
    # Transplants and words left out need no entry; they are named as left out, and nothing is computed for them.
    assert answer.passed("skipped") == 4
    assert "Skipping non-benchmark (--benchmark-only active)" in answer.text
    assert "transplants" not in answer.text
    assert not (tmp_path / "comparison/transplants").exists()


@pytest.mark.long
def test_only_benchmarks_compares_no_stages_and_a_stored_run_that_isnt_there_is_named(tmp_path: Path) -> None:
    options = ("--benchmark-only", "-k", "parity or effects or seed0]", "--benchmark-compare=0042")
    answer = compare(tmp_path, *options, backends="reference")
    assert answer.code == 0, answer.text
    assert answer.passed() == 1
    assert answer.passed("skipped") == 9
    assert not (tmp_path / "comparison/parity").exists()
    assert f"Nothing was compared: there is no stored run that matches '0042' in {tmp_path}/.benchmarks." in answer.text


@pytest.mark.long
@pytest.mark.parametrize(
    ("option", "timed", "sentence"),
    [
        ("--benchmark-skip", "skipped", "Nothing was measured (--benchmark-skip), so --benchmark-json did nothing."),
        (
            "--benchmark-disable",
            "passed",
            "Nothing was measured (--benchmark-disable), so --benchmark-json did nothing.",
        ),
    ],
)
def test_without_benchmarks_models_are_trained_and_nothing_is_stored(
    tmp_path: Path, option: str, timed: str, sentence: str
) -> None:
    names = ("-k", "native and (training or train_step)")
    answer = compare(tmp_path, *names, option, "--benchmark-json=b.json", backends="tests.fakes:Steady", reported=True)
    assert answer.code == 0, answer.text
    counts = {"passed": 1, "skipped": 0}
    counts[timed] += 1
    assert {kind: answer.passed(kind) for kind in counts} == counts
    (run,) = tmp_path.glob("comparison/runs/*/result.json")
    assert read_record(run, RunResult).status == "ok"
    assert (tmp_path / "comparison/timings.json").exists() == (timed == "passed")
    assert (tmp_path / "comparison/report.md").is_file()
    assert not (tmp_path / "b.json").exists()
    assert sentence in answer.text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--benchmark-compare-fail=mean:5%"], r"--benchmark-compare-fail needs a stored run to compare with"),
        (
            ["--benchmark-compare-fail=mean:5%", "--benchmark-compare=0042", "--benchmark-storage=none"],
            r"give --benchmark-compare, or --benchmark-compare=NUM, with a run that is in \S*none",
        ),
        (["--benchmark-compare=some/other/place"], r"--benchmark-compare=some/other/place: there is no such file"),
        (["--benchmark-compare=foreign.json"], r"has no machine_info, so it isn't a run that pytest-benchmark has"),
        # Older ones of pytest-benchmark say it themselves.
        (
            ["--benchmark-json=nowhere/b.json"],
            r"--benchmark-json(: can't open| needs a file in a folder that is there)",
        ),
        (["--benchmark-save=x", "--benchmark-storage=a_file"], r"a_file can't be made a folder"),
        (["--benchmark-group-by=param:size"], r"can't group by 'param:size'.*backend, model, operation"),
        (["--benchmark-group-by=speed"], r"can't group by 'speed'.*group, name"),
        (["--benchmark-only", "--benchmark-disable"], r"Can't have both --benchmark-only and --benchmark-disable"),
    ],
)
def test_what_would_fail_after_training_is_refused_before(
    pytester: pytest.Pytester, options: list[str], sentence: str
) -> None:
    (pytester.path / "a_file").touch()
    (pytester.path / "foreign.json").write_text('{"benchmarks": []}')
    result = pytester.runpytest_inprocess(*arguments(), *options, "-W", "ignore")
    shown = result.stdout.str() + result.stderr.str()
    assert result.ret == 4, shown
    assert re.search(sentence, shown), shown
    assert "Traceback" not in shown
    assert not list(pytester.path.glob("comparison/runs/*"))


def test_a_machine_that_pytest_benchmark_described_alone_is_compared_in_what_it_says() -> None:
    theirs = {
        "cpu": {"brand_raw": "Z80", "count": 4},
        "system": "Linux",
        "machine": "x86_64",
        "python_version": "3.11.7",
        "node": "somewhere",
    }
    here = {"cpu": "Z80", "cores": "2", "system": "Linux x86_64", "python": "3.13.1"}
    assert described(theirs) == {"cpu": "Z80", "system": "Linux x86_64", "python": "3.11.7"}
    assert differences(described(theirs), here) == {"python": ("3.11.7", "3.13.1")}
    assert listed(differences(described(theirs), here)) == "python 3.11.7 (here 3.13.1)"
    assert described({**theirs, "crosscheck": here}) == here
    assert described({}) == {}
