"""The suite that tells whether a backend is right: a good one passes, a bad one fails the check that it is bad at."""

from __future__ import annotations

import inspect
import re
import subprocess
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from rnn_crosscheck.harness.backend import Backend, Model
from rnn_crosscheck.harness.conformance.checks import CHECKS, carry_out, checks_of
from rnn_crosscheck.harness.conformance.trial import Trial
from rnn_crosscheck.harness.machine import available_cores
from rnn_crosscheck.harness.registry import check_contract
from tests import conforming, importing
from tests.launching import python

ROOT = Path(__file__).parents[3]

#: bad backends by the check that each breaks, which is what their docstrings say
BAD = {
    inspect.getdoc(value): value
    for module in (conforming, importing)
    for value in vars(module).values()
    if inspect.isclass(value) and issubclass(value, Backend) and (inspect.getdoc(value) or "").startswith("check_")
}


#: takes longer than all the others together
WAITING = "check_the_device_is_waited_for"
SHARED = sorted(name for name, found in CHECKS.items() if found.place == "shared")

QUICK = [name for name in SHARED if name != WAITING]


def failed(backend: type[Backend], checks: Collection[str] = SHARED) -> dict[str, str]:
    """What goes wrong of the checks that may share a process."""
    trial = Trial(backend())
    found = {check.name: carry_out(trial, check.name) for check in checks_of(backend) if check.name in checks}
    conforming.KeepsEverything.kept.clear()
    return {name: verdict.problem or verdict.todo for name, verdict in found.items() if verdict.problem or verdict.todo}


def run(backend: str, *options: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return python("-m", "pytest", "--benchmark", "--crosscheck-conformance", backend, *options, folder=folder)


def test_there_is_a_bad_backend_for_every_check() -> None:
    assert set(BAD) == set(CHECKS)


@pytest.mark.parametrize("backend", [conforming.Good, conforming.Predicts], ids=lambda backend: backend.__name__)
def test_a_good_backend_passes(backend: type[Backend]) -> None:
    check_contract("good", backend)
    assert failed(backend) == {}


def test_models_are_created_on_the_device_that_was_asked_for() -> None:
    found = set()

    class Noted(conforming.Good):
        def create(self, *arguments: Any, device: str, **named: Any) -> Model:
            found.add(device)
            return super().create(*arguments, device=device, **named)

    trial = Trial(Noted(), "cuda")
    for name in QUICK:
        carry_out(trial, name)
    assert found == {"cuda"}


@pytest.mark.long
@pytest.mark.parametrize("check", QUICK)
def test_no_other_bad_backend_fails_to_wait(check: str) -> None:
    assert failed(BAD[check], [WAITING]) == {}


@pytest.mark.slow
@pytest.mark.parametrize("check", SHARED)
def test_a_bad_backend_fails_the_check_that_it_is_bad_at_and_no_other(check: str) -> None:
    found = failed(BAD[check], [name for name in SHARED if name in (check, *QUICK)])
    assert set(found) == {check}, found
    # A sentence for people: what was expected, or what came instead.
    assert len(found[check]) > 20
    assert "Traceback" not in found[check]


@pytest.mark.parametrize(
    ("backend", "check", "said"),
    [
        (conforming.ClipsEachAlone, "check_native_gradients_are_clipped", "doesn't go down the gradient (cosine "),
        (conforming.ComputesWithOthers, "check_native_weights_come_out_as_they_went_in", "predict, with the weights "),
        (conforming.NotesWhatIsThere, "check_native_weights_come_out_as_they_went_in", "'no bias', but no weight is"),
        (conforming.LeavesOutWhatItDraws, "check_native_weights_are_drawn_as_declared", "undeclared, it is 'keras'"),
        (conforming.LeavesOutWhatItDraws, "check_native_weights_are_drawn_as_declared", "declare 'pytorch'."),
    ],
)
def test_a_check_has_more_than_one_side(backend: type[Backend], check: str, said: str) -> None:
    assert said in failed(backend, [check])[check]


@pytest.mark.long
@pytest.mark.parametrize("check", sorted(set(CHECKS) - set(SHARED)))
def test_a_bad_backend_fails_the_check_in_processes_of_its_own(check: str) -> None:
    backend = BAD[check]
    result = run(f"{backend.__module__}:{backend.__name__}", "-q")
    assert result.returncode == 1, result.stdout
    assert re.findall(r"^FAILED .*:(check_\w+)", result.stdout, re.MULTILINE) == [check]


@pytest.mark.long
@pytest.mark.skipif(available_cores() < 2, reason="on one core nobody can have two")
def test_a_framework_whose_threads_nobody_pins_is_found_out() -> None:
    result = run("tests.planted:Unpinned", "-k", "threads")
    if "is not installed" in result.stderr:
        pytest.skip(result.stderr.strip())
    assert result.returncode == 1
    assert "threads, expected 1: pin them in setup or" in result.stdout


@pytest.mark.long
def test_the_command_runs_one_test_a_check_and_counts_them() -> None:
    result = run("tests.conforming:Good", "-v")
    assert result.returncode == 0, result.stdout
    applying = checks_of(conforming.Good)
    assert result.stdout.count("PASSED") == len(applying)
    for check in applying:
        assert f"test_conforms[good:{check.name}]" in result.stdout
    claimed = "factors, matched, native, parity"
    assert f"{len(applying)} of {len(applying)} checks hold (it claims {claimed})." in result.stdout


@pytest.mark.slow
def test_checks_can_be_chosen_and_a_failure_says_what_is_asked() -> None:
    result = run("tests.conforming:MixesChunks", "-k", "reference_s or batch_of_one")
    assert result.returncode == 1
    assert "Given weights mean what they mean in the reference" in result.stdout
    assert "predict: expected at most 1e-05 from the reference, got " in result.stdout
    assert "Mend next: check_predictions_are_the_reference_s." in result.stdout
    assert "Traceback" not in result.stdout


@pytest.mark.slow
def test_a_problem_that_many_checks_meet_is_told_once() -> None:
    result = run("tests.conforming:Broken", "-k", "created or layers or reference_s")
    assert result.returncode == 1
    # In CI pytest's summary tells it too.
    assert result.stdout.partition("short test summary")[0].count("RuntimeError in conforming.py") == 1
    assert re.search(r"1 failed, \d skipped", result.stdout)
    assert "Mend next: check_models_are_created." in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "sentence"),
    [
        ("reference --crosscheck-device cuda", "The device cuda was asked for, but "),
        ("reference --crosscheck-device tpu", "Unknown device 'tpu'; the valid ones are: "),
        ("torch-lighting", "Unknown backend 'torch-lighting'; the valid ones are: "),
        ("tests.conforming:Missing", "can't be imported: AttributeError: "),
        ("reference,pytorch", "looks at one backend at a time, got reference,pytorch."),
        ("tests.fakes:Absent", "is not installed: pip install "),
    ],
)
def test_what_can_not_be_checked_is_one_sentence(backend: str, sentence: str) -> None:
    result = run(*backend.split())
    assert result.returncode == 4
    assert (result.stdout + result.stderr).count(sentence) == 1
    assert "Traceback" not in result.stdout + result.stderr
