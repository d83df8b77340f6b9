"""``--crosscheck-baseline`` and ``--crosscheck-fail-if``, as a user types them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.results import Manifest, read_record
from rnn_crosscheck.harness.session.gates import Gate, parse_gates
from tests.reports.folders import write_comparison

VALID = "valid are accuracy-drop:1pt, step-slowdown:10%, disagreement:5%"


def test_gates_are_read_and_written_as_they_are_typed() -> None:
    gates = parse_gates("accuracy-drop:0.5pt, step-slowdown:10% ,disagreement:5%,")
    assert gates == (Gate("accuracy-drop", 0.005), Gate("step-slowdown", 0.1), Gate("disagreement", 0.05))
    assert ",".join(map(str, gates)) == "accuracy-drop:0.5pt,step-slowdown:10%,disagreement:5%"
    assert parse_gates(" ") == ()
    assert parse_gates("step-slowdown:150%") == (Gate("step-slowdown", 1.5),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("accuracy:1pt", "there is no rule 'accuracy'"),
        ("1pt", "there is no rule '1pt'"),
        ("accuracy-drop", "its bound should be a number of 0 or more with its unit"),
        ("accuracy-drop:", "its bound should be a number of 0 or more with its unit"),
        ("accuracy-drop:-1pt", "its bound should be a number of 0 or more with its unit"),
        ("accuracy-drop:nanpt", "its bound should be a number of 0 or more with its unit"),
        ("accuracy-drop:1e3pt", "its bound should be a number of 0 or more with its unit"),
        ("accuracy-drop:1", "the unit of its bound should be 'pt'"),
        ("accuracy-drop:1%", "the unit of its bound should be 'pt'"),
        ("step-slowdown:10pt", "the unit of its bound should be '%'"),
        ("disagreement:100%", "its bound should be below 100, since nothing can pass that"),
    ],
)
def test_a_gate_that_can_t_be_read_is_one_sentence_with_the_valid_forms(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_gates(f"step-slowdown:5%,{text}" if not text.startswith("step") else text)
    assert f"--crosscheck-fail-if: {text!r} can't be read: {why}; {VALID}" in str(caught.value)


def test_a_rule_has_one_bound() -> None:
    with pytest.raises(UsageError, match="names the rule 'disagreement' twice"):
        parse_gates("disagreement:1%,disagreement:2%")


@pytest.fixture
def places(pytester: pytest.Pytester) -> None:
    """Folders that a user may name: an earlier comparison, one of other backends or models, and what is none."""
    small = {"models": ("rnn",), "seeds": {"native": (0, 1)}, "timed": False}
    write_comparison(pytester.path / "comparison", backends=("pytorch",), **small)  # type: ignore[arg-type]
    write_comparison(pytester.path / "foreign", backends=("theirs",), **small)  # type: ignore[arg-type]
    write_comparison(pytester.path / "damaged", backends=("tests.fakes:Steady",), **small)  # type: ignore[arg-type]
    (pytester.path / "damaged" / "test.parquet").write_bytes(b"PAR1")
    (pytester.path / "empty").mkdir()
    (pytester.path / "broken").mkdir()
    (pytester.path / "broken" / "manifest.json").write_text("{")


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and ".benchmarks" not in path.parts)


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["baseline=nowhere"], r"there is no folder 'nowhere'"),
        (["baseline=empty"], r"'empty' is none, since it has no manifest\.json"),
        (["baseline=broken"], r"broken/manifest\.json is damaged"),
        (["baseline=comparison"], r"'comparison' is where this one's results go.*--crosscheck-output"),
        (["baseline=comparison/../comparison/"], r"is where this one's results go"),
        (["baseline=foreign"], r"a backend in common; this one has tests\.fakes:Steady, 'foreign' has theirs"),
        (["baseline=damaged", "models=lstm", "output=new"], r"damaged/test\.parquet is damaged"),
        (["fail-if=disagreement:5%"], r"--crosscheck-fail-if disagreement:5% needs something to hold"),
        (["fail-if=slower:5%"], r"there is no rule 'slower'; valid are accuracy-drop:1pt"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_4(
    pytester: pytest.Pytester, options: list[str], sentence: str
) -> None:
    before = files(pytester.path)
    result = pytester.runpytest_inprocess(
        "--benchmark", "-p", "no:cacheprovider", "--crosscheck-backends=tests.fakes:Steady",
        *[f"--crosscheck-{option}" for option in options],
    )  # fmt: skip
    shown = result.stdout.str() + result.stderr.str()
    assert result.ret == 4, shown
    assert re.search(sentence, shown), shown
    assert "Traceback" not in shown
    assert files(pytester.path) == before


SETS = ("data.train_examples=300", "data.valid_examples=100", "data.test_examples=200", "data.length=30",
        "training.epochs=1")  # fmt: skip


def command(*more: str, seeds: int = 3) -> list[str]:
    """Train native runs of one model of one backend."""
    sets = [part for value in SETS for part in ("--crosscheck-set", value)]
    return ["--benchmark", "--crosscheck-backends=tests.fakes:Regressing", "--crosscheck-models=rnn",
            "--crosscheck-divisions=native", f"--crosscheck-seeds={seeds}", "-p", "no:cacheprovider",
            "-k", "test_training", *sets, *more]  # fmt: skip


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An earlier comparison, three seeds."""
    folder = tmp_path_factory.mktemp("earlier")
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", *command()], cwd=folder, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder / "comparison"


def gated(earlier: Path, rules: str) -> list[str]:
    return [f"--crosscheck-baseline={earlier}", f"--crosscheck-fail-if={rules}"]


@pytest.mark.slow
def test_nothing_changed_is_no_failure(pytester: pytest.Pytester, earlier: Path) -> None:
    rules = "accuracy-drop:1pt,step-slowdown:10%,disagreement:5%"
    result = pytester.runpytest_subprocess(*command(*gated(earlier, rules)))
    shown = result.stdout.str()
    assert result.ret == 0, shown
    assert "= accuracy since " in shown
    assert "accuracy-drop:1pt: no interval clears the bound (1 judged)." in shown
    assert "disagreement:5%: no interval clears the bound (1 judged)." in shown
    assert "step-slowdown:10% could not be judged: no training step was timed." in shown
    assert "FAILED" not in shown
    report = (pytester.path / "comparison" / "details" / "since.md").read_text()
    assert "not one prediction of a seed in both is another" in report
    # The place is remembered from this folder, and nothing of the earlier comparison is copied.
    manifest = read_record(pytester.path / "comparison" / "manifest.json", Manifest)
    assert (pytester.path / "comparison" / manifest.baseline).resolve() == earlier
    assert not manifest.baseline.startswith("/")


@pytest.mark.long
def test_a_worse_backend_fails_the_session_with_one_sentence(
    pytester: pytest.Pytester, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCHECK_TEST_WORSE", "1")
    result = pytester.runpytest_subprocess(*command(*gated(earlier, "accuracy-drop:1pt")))
    shown = result.stdout.str()
    assert result.ret == 1, shown
    result.assert_outcomes(passed=3, deselected=result.parseoutcomes()["deselected"])
    (line,) = [line for line in shown.splitlines() if line.startswith("FAILED")]
    assert re.fullmatch(
        r"FAILED accuracy-drop:1pt: native rnn of tests\.fakes:Regressing: accuracy fell by [\d.]+ points, from [\d.]+ "
        r"to [\d.]+ % \(95 % interval [\d.]+ to [\d.]+, 3 seeds now, 3 before\)\.",
        line,
    )
    assert "**accuracy fell by" in (pytester.path / "comparison" / "report.md").read_text()


@pytest.mark.long
def test_one_seed_can_t_be_judged_however_far_it_fell(
    pytester: pytest.Pytester, earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSCHECK_TEST_WORSE", "1")
    pytester.makeini(f"[pytest]\ncrosscheck_baseline = {earlier}\ncrosscheck_fail_if = accuracy-drop:1pt\n")
    result = pytester.runpytest_subprocess(*command(seeds=1))
    shown = result.stdout.str()
    assert result.ret == 0, shown
    assert (
        "accuracy-drop:1pt could not be judged for native rnn of tests.fakes:Regressing: with one seed there is no "
        "interval over seeds." in shown
    )
