"""What authors of backends are given: the documented example, the files to begin with, the list."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rnn_crosscheck.harness.conformance.checks import carry_out
from rnn_crosscheck.harness.conformance.scaffold import new_backend
from rnn_crosscheck.harness.conformance.trial import Trial
from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.registry import Registered
from rnn_crosscheck.harness.session.listing import Availability, availability, listing
from tests.fakes import Steady
from tests.launching import python

ROOT = Path(__file__).parents[3]
REFERENCE = "rnn_crosscheck.harness.parity.reference:Reference"


# --- the documented example ---------------------------------------------------------------------------------


def example() -> str:
    """The complete example of the page, as it stands there."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/adding-a-backend.md").read_text(), re.DOTALL)
    assert blocks[0].startswith('"""torch_loops.py')
    return str(blocks[0])


def test_the_example_is_about_a_hundred_lines() -> None:
    assert 90 <= len(example().splitlines()) <= 150


@pytest.mark.long
def test_the_example_conforms_as_it_stands_in_the_page(tmp_path: Path) -> None:
    (tmp_path / "torch_loops.py").write_text(example())
    done = python(
        "-m", "pytest", "--benchmark", "--crosscheck-conformance", "torch_loops:TorchLoops", "-q", folder=tmp_path
    )
    if "is not installed" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"(\d+) of \1 checks hold \(it claims matched, native, parity\)", done.stdout)


@pytest.mark.parametrize("path", sorted((ROOT / "backends").glob("*.py")), ids=lambda path: path.name)
def test_an_adapter_is_read_in_one_sitting(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 250


# --- the files to begin with --------------------------------------------------------------------------------


def new(name: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return python("-m", "rnn_crosscheck", "new-backend", name, *options, folder=folder)


@pytest.mark.slow
def test_a_new_backend_is_three_files_and_says_what_to_do(tmp_path: Path) -> None:
    done = new("my-framework", tmp_path)
    assert done.returncode == 0, done.stderr
    names = ["crosscheck_my_framework.py", "pyproject.toml", "test_crosscheck_my_framework.py"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert "pytest --benchmark --crosscheck-conformance crosscheck_my_framework:MyFramework" in done.stdout
    entry = 'my-framework = "crosscheck_my_framework:MyFramework"'
    assert entry in (tmp_path / "pyproject.toml").read_text()


@pytest.mark.slow
def test_a_project_keeps_its_pyproject_and_is_told_the_lines(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\n")
    done = new("mine", tmp_path)
    assert (tmp_path / "pyproject.toml").read_text() == "[project]\nname = 'mine'\n"
    assert '[project.entry-points."rnn_crosscheck.backends"]\nmine = "crosscheck_mine:Mine"' in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["My", "1st", "a b", "", "a_b", "-a"])
def test_a_name_that_can_not_be_one_is_refused(tmp_path: Path, name: str) -> None:
    done = new("--", tmp_path, name) if name.startswith("-") else new(name, tmp_path)
    assert done.returncode == 4
    assert "has small letters, digits and hyphens" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "test_crosscheck_mine.py").write_text("mine")
    done = new("mine", tmp_path)
    assert done.returncode == 4
    assert "test_crosscheck_mine.py is there already; give another name" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["test_crosscheck_mine.py"]


def test_the_name_of_a_backend_that_there_is_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is a backend called 'pytorch' already \(.*:PyTorch\); give another"):
        new_backend("pytorch", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_error_is_told_at_the_author_s_own_line() -> None:
    trial = Trial(Mistaken())
    told = carry_out(trial, "check_predictions_are_the_reference_s").problem
    line = inspect.getsourcelines(Mistaken.create)[1]
    assert re.match(rf"AttributeError in {Path(__file__).name}, line {line + 1}\d? \(create\): .*unitz", told)


class Mistaken(Steady):
    """Asks a record for what it hasn't, so that pydantic raises."""

    def create(self, model: Any, training: Any, **given: Any) -> Any:  # type: ignore[override]
        return super().create(model, training, **{**given, "seed": model.unitz})


@pytest.mark.slow
def test_the_first_conformance_run_lists_what_to_write_in_order(tmp_path: Path) -> None:
    new("mine", tmp_path)
    done = python("-m", "pytest", "--benchmark", "--crosscheck-conformance", "crosscheck_mine:Mine", folder=tmp_path)
    assert done.returncode == 1, done.stdout
    todo = re.findall(r"^  \d+\. (\S+): ", done.stdout.partition("Write next:")[2], re.MULTILINE)
    model = ["__init__", "set_weights", "get_weights", "probabilities", "update", "forward", "gradients"]
    # What blocks the others first, then in the order of the file.
    assert todo == ["Mine.setup", *(f"MineModel.{name}" for name in model), "Mine.environment"]
    assert done.stdout.count("To be written: Mine.setup") == 1
    assert re.search(r"1 failed, 1 passed, \d\d skipped", done.stdout), "the others wait for it"
    assert "Traceback" not in done.stdout
    assert "FAILED" not in done.stdout, "the list of what is missing comes last"


# --- the list -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_availability_is_a_value(tmp_path: Path) -> None:
    reference = Registered("reference", REFERENCE)
    assert availability(reference) == Availability("available", "cpu")
    broken = availability(Registered("gone", "tests.nowhere:Gone"))
    assert broken.status == "broken"
    assert "can't be imported" in broken.why
    assert str(broken).startswith("broken: Backend 'gone' (tests.nowhere:Gone) can't be imported")


@pytest.mark.slow
def test_what_is_not_installed_says_how_to_get_it() -> None:
    found = availability(Registered("tests.fakes:Absent", "tests.fakes:Absent"))
    assert found == Availability("not installed", "pip install 'rnn-crosscheck[nobody]'")


@pytest.mark.slow
def test_a_framework_that_can_not_be_used_is_broken() -> None:
    found = availability(Registered("tests.fakes:Unusable", "tests.fakes:Unusable"))
    assert found == Availability("broken", "ImportError: libfake.so.1: cannot open shared object file")


@pytest.mark.slow
def test_the_list_has_a_row_for_each_backend() -> None:
    shown = listing([Registered("reference", REFERENCE), Registered("gone", "tests.nowhere:Gone")])
    rows = [line.split() for line in shown.splitlines()]
    assert [row[:2] for row in rows[2:]] == [["gone", "broken"], ["reference", "available"]]
    assert "factors, matched, parity" in shown


@pytest.mark.long
def test_the_command_lists_and_runs_nothing(tmp_path: Path) -> None:
    done = python("-m", "pytest", "--crosscheck-list", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("jax", "keras-jax", "keras-tensorflow", "keras-torch", "onnxruntime", "pytorch", "reference"):
        assert re.search(rf"^{name} +(available|not installed) ", done.stdout, re.MULTILINE), done.stdout
    assert list(tmp_path.iterdir()) == []


# --- a backend that trains nothing --------------------------------------------------------------------------


@pytest.mark.long
def test_a_backend_that_trains_nothing_is_compared_as_far_as_it_goes(tmp_path: Path) -> None:
    small = ("data.train_examples=64", "data.valid_examples=16", "data.test_examples=40", "data.length=12")
    few = ("training.epochs=1", "timing.starts=1", "timing.min_rounds=5", "timing.max_seconds=0.2")
    overrides = [part for value in (*small, *few) for part in ("--crosscheck-set", value)]
    backends = "tests.conforming:Predicts,tests.conforming:Good"
    done = python(
        "-m",
        "pytest",
        "--benchmark",
        "-v",
        *("--crosscheck-backends", backends, "--crosscheck-models", "lstm", "--crosscheck-seeds", "1"),
        *("-k", "training or timing or transplant", *overrides, "-o", f"pythonpath={ROOT}"),
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    passed = re.findall(r"::(test_\w+\[\S+\]) PASSED", done.stdout)
    predicting = [name for name in passed if "predicts" in name]
    assert predicting == [
        "test_timing[predicts-lstm-predict_batch]",
        "test_timing[predicts-lstm-predict_one]",
    ]
    assert "test_timing[good-tuned-lstm-train_step]" in passed
    taken = json.loads((tmp_path / "comparison/transplants/predicts.json").read_text())["transplants"]
    assert [found["source"] for found in taken] == [
        "native-good-lstm-seed0",
        "matched-good-lstm-seed0",
    ]
    assert max(found["max_difference"] for found in taken) < 1e-6
    report = (tmp_path / "comparison" / "report.md").read_text()
    assert "predicts trains nothing" in report
    # Named first, but what trains is what the others' times are divided by.
    assert "## Time (good, default = 1)" in report
