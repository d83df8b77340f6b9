"""Options to choices, and choices to what each test is asked of, without a session."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.execution.chosen import look_up
from rnn_crosscheck.harness.execution.plan import plan_all
from rnn_crosscheck.harness.folder import claim
from rnn_crosscheck.harness.session.choices import choose
from rnn_crosscheck.harness.session.collection import KINDS
from rnn_crosscheck.harness.session.suite import test_comparison as suite
from rnn_crosscheck.plugin import OPTIONS, options

FAKES = "tests.fakes:Steady,tests.fakes:Other"


def test_what_is_not_given_is_the_protocol_s(tmp_path: Path) -> None:
    choices = choose(options(backends=FAKES), where=tmp_path)
    assert choices.protocol.name == "quick"
    assert choices.models == ("rnn", "lstm")
    assert choices.divisions == choices.protocol.divisions
    assert (choices.device, choices.diagnose, choices.sweep) == ("cpu", (), False)
    assert (choices.folder, choices.baseline, choices.gates) == (tmp_path / "comparison", None, ())
    assert not choices.folder.exists()


def test_what_is_given_is_taken_once_and_in_order(tmp_path: Path) -> None:
    given = options(backends=FAKES, models="lstm, rnn,lstm", divisions="matched", seeds="3,4", diagnose="accuracy")
    choices = choose(given, ["training.epochs=1"], tmp_path)
    assert [info.name for info in choices.backends] == FAKES.split(",")
    assert choices.models == ("lstm", "rnn")
    assert choices.divisions == ("matched",)
    assert choices.protocol.seeds.matched == choices.protocol.seeds.native == (3, 4)
    assert choices.protocol.training.epochs == 1
    assert choices.diagnose == ("accuracy",)


def test_a_gate_needs_a_baseline(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--crosscheck-fail-if accuracy-drop:1pt needs something to hold"):
        choose(options(backends=FAKES, fail_if="accuracy-drop:1pt"), where=tmp_path)


def test_a_loop_of_links_is_no_baseline_and_holds_no_results(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError, match=r"there is no folder 'loop'\.$"):
        choose(options(backends=FAKES, baseline="loop"), where=tmp_path)
    with pytest.raises(UsageError, match=r"loop' is a link to nothing\. Give another\.$"):
        choose(options(backends=FAKES, output="loop"), where=tmp_path)
    inside = choose(options(backends=FAKES, output="loop/inside"), where=tmp_path)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        claim(inside.folder, "--crosscheck-output")


def test_options_of_a_prompt_are_those_of_a_session() -> None:
    assert options().keys() == OPTIONS.keys()
    assert options(fail_if="x")["fail-if"] == "x"


def test_every_test_of_the_suite_has_a_kind_with_its_arguments() -> None:
    functions = {name: found for name, found in vars(suite).items() if name.startswith("test_")}
    assert list(functions) == list(KINDS)
    for name, function in functions.items():
        asked, _ = KINDS[name]
        assert set(asked) == set(inspect.signature(function).parameters) - {"crosscheck", "request", "benchmark"}


def test_names_are_unique_and_say_what_is_asked(tmp_path: Path) -> None:
    choices = choose(options(backends=FAKES, models="rnn", seeds="1"), where=tmp_path)
    plan = plan_all(choices.asked, diagnose=choices.diagnose)
    named = {kind: [name for _, name, _ in params(choices, plan)] for kind, (_, params) in KINDS.items()}
    assert named["test_training"] == [
        f"{division}-{backend.replace(':', '.')}-rnn-seed0"
        for division in choices.divisions
        for backend in FAKES.split(",")
    ]
    assert named["test_transplant"] == named["test_words"] == ["tests.fakes.Steady", "tests.fakes.Other"]
    for names in named.values():
        assert len(set(names)) == len(names)


def test_two_backends_of_one_name_are_refused_and_a_local_one_goes_by_its_own(tmp_path: Path) -> None:
    (picky,) = look_up(["tests.fakes:Picky"])
    assert picky.name == "picky"
    (tmp_path / "theirs_of_a_test.py").write_text(
        "from tests.fakes import Steady\nclass Theirs(Steady):\n    name = 'pytorch'\n"
    )
    with pytest.raises(UsageError, match=r"theirs_of_a_test:Theirs and .*:PyTorch are both called 'pytorch'.*rename"):
        choose(options(backends="theirs_of_a_test:Theirs,pytorch"), where=tmp_path)


def test_factors_are_named_once_and_in_one_order(tmp_path: Path) -> None:
    given = options(
        backends="keras-tensorflow,pytorch", diagnose="epsilon + biases,biases+epsilon,accuracy,order+order"
    )
    assert choose(given, where=tmp_path).diagnose == ("epsilon+biases", "accuracy", "order")


def test_factors_that_nobody_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"epsilon\+duplicates would train nothing: none of the backends \("):
        choose(options(backends="keras-tensorflow,pytorch", diagnose="duplicates+epsilon"), where=tmp_path)
