"""One tiny comparison with both real frameworks, as a user types it."""

import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt

from benchmarks.publish import differing
from rnn_crosscheck.harness.results import (
    STAGES,
    TRANSPLANT_TOLERANCE,
    Manifest,
    OcclusionsRecord,
    ParityRecord,
    RunResult,
    TransplantsRecord,
    occlusion_tables,
    read_record,
)
from tests.conftest import ROOT

TINY = {
    "data.train_examples": "400",
    "data.valid_examples": "100",
    "data.test_examples": "300",
    "data.length": "20",
    "training.epochs": "1",
    "timing.starts": "1",
    "timing.operations": '["train_step"]',
    "timing.settings": '["default"]',  # tuned ones are held to the reference by conformance
    "timing.min_rounds": "5",
    "timing.max_rounds": "5",
    "seeds.native": "1",  # starting a framework takes longer than training on so little
    "parity.initial_twins": "0",
    "parity.continuing_twins": "1",
}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("user")
    command = [sys.executable, "-m", "pytest", "--benchmark", "--crosscheck-backends", "keras-tensorflow,pytorch"]
    for key, value in TINY.items():
        command += ["--crosscheck-set", f"{key}={value}"]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return folder / "comparison", answer.stdout


pytestmark = pytest.mark.long


def test_make_benchmark_needs_nothing_that_only_tests_and_linters_need(tmp_path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    tools = {re.split(r"[^\w-]", line)[0].lower() for line in extras["dev"]}
    tools -= {"rnn-crosscheck", "scikit-learn", "setuptools"}  # these come with others, or with the environment
    modules = [name for name, owners in packages_distributions().items() if tools & {one.lower() for one in owners}]
    assert {"hypothesis", "xdist", "pytest_timeout", "mypy"} <= set(modules)
    for name in modules:
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name}', name={name!r})")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "benchmark", "-p", "crosscheck"]
    command += ["--benchmark", "--collect-only", "-q"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "test_training[native-pytorch-lstm-seed0]" in answer.stdout


def test_every_run_of_both_frameworks_is_there(comparison: tuple[Path, str]) -> None:
    folder, _ = comparison
    found = {path.name: read_record(path / "result.json", RunResult) for path in (folder / "runs").iterdir()}
    assert len(found) == 2 * 2 * 2 + 2
    twins = {(run.spec.backend, run.spec.model.name) for run in found.values() if run.spec.twin == "continuing"}
    assert twins == {("pytorch", "rnn"), ("pytorch", "lstm")}  # as quick has them
    for run in found.values():
        assert run.status == "ok"
        assert run.peak_memory_bytes is not None
        assert run.peak_memory_bytes < 1.5e9
        assert (run.environment.get("freed memory") == "kept") == (platform.libc_ver()[0] == "glibc")
    trainable = {
        (run.spec.backend, run.spec.model.name): sum(layer.trainable for layer in run.layers)
        for run in found.values()
        if run.spec.division == "matched" and not run.spec.twin
    }
    # The embedding has the size of the full experiment, and so have the models.
    assert trainable == {
        ("keras-tensorflow", "rnn"): 160_801,
        ("pytorch", "rnn"): 160_801,
        ("keras-tensorflow", "lstm"): 213_301,
        ("pytorch", "lstm"): 213_301,
    }


@pytest.mark.parametrize("model", ["rnn", "lstm"])
def test_matched_runs_of_the_two_frameworks_agree_within_rounding(comparison: tuple[Path, str], model: str) -> None:
    folder, _ = comparison
    tables = [
        pd.read_parquet(folder / "runs" / f"matched-{backend}-{model}-seed0" / "predictions.parquet")
        for backend in ("keras-tensorflow", "pytorch")
    ]
    assert list(tables[0]["example_id"]) == list(tables[1]["example_id"])
    # Thirteen steps: far before training amplifies the last bit.
    difference = (tables[0]["probability"] - tables[1]["probability"]).abs().max()
    assert 0 < difference < 1e-4


def test_every_stage_of_both_frameworks_is_within_its_tolerance(comparison: tuple[Path, str]) -> None:
    folder, _ = comparison
    found = [read_record(path, ParityRecord) for path in (folder / "parity").glob("matched-*.json")]
    assert len(found) == 2 * 2
    for record in found:
        assert record.first_failed is None
        assert [stage for stage in STAGES if any(one.stage == stage for one in record.stages)] == list(STAGES)


def test_what_native_models_do_otherwise_is_what_their_backends_declare(comparison: tuple[Path, str]) -> None:
    folder, _ = comparison
    found = [read_record(path, ParityRecord) for path in (folder / "parity").glob("native-*.json")]
    assert len(found) == 2 * 2
    for record in found:
        assert record.first_failed is not None
        assert record.first_failed.stage == "update"
        assert record.explanation is not None
        assert record.explanation.declared
        assert record.explanation.error < 0.1 < 1 < record.explanation.without


def test_trained_weights_predict_the_same_in_both_frameworks(comparison: tuple[Path, str]) -> None:
    folder, _ = comparison
    keys = read_record(folder / "manifest.json", Manifest).keys
    own = {run_id: key for run_id, key in keys.items() if "continuing" not in run_id}
    assert all((folder / "runs" / run_id / "weights.npz").is_file() == (run_id in own) for run_id in keys)
    for target in ("keras-tensorflow", "pytorch"):
        record = read_record(folder / "transplants" / f"{target}.json", TransplantsRecord)
        assert record.keys == own
        assert record.left_out == {}
        found = {(one.backend, one.model, one.division): one for one in record.transplants}
        assert len(found) == len(record.transplants) == 2 * 2 * 2
        for (backend, _, division), one in found.items():
            assert one.examples == 300
            assert one.max_difference <= TRANSPLANT_TOLERANCE
            if backend == target and division == "matched":  # the same arithmetic as before: storing loses nothing
                assert one.max_difference == 0
        other = [one.max_difference for (backend, _, _), one in found.items() if backend != target]
        assert max(other) > 0  # two frameworks did compute it


@pytest.mark.parametrize("backend", ["keras-tensorflow", "pytorch"])
def test_every_kept_word_of_the_examples_that_are_read_is_left_out_once(
    comparison: tuple[Path, str], backend: str
) -> None:
    folder, _ = comparison
    path = folder / "occlusions" / f"{backend}.json"
    record = read_record(path, OcclusionsRecord)
    assert set(record.runs) == {f"{d}-{backend}-{m}-seed0" for d in ("native", "matched") for m in ("rnn", "lstm")}
    probabilities, words = (pd.read_parquet(table) for table in occlusion_tables(path))
    lengths = pd.read_parquet(folder / "test.parquet").set_index("example_id")["length"]
    length = int(TINY["data.length"])
    # The start token isn't a word; in a text that was cut, it isn't there.
    kept = lengths.clip(upper=length) - (lengths <= length)
    for run_id, examples in record.runs.items():
        assert examples
        predicted = pd.read_parquet(folder / "runs" / run_id / "predictions.parquet").set_index("example_id")
        of_run = probabilities[probabilities["run_id"] == run_id]
        assert set(of_run["example_id"]) == set(examples)
        for example, rows in of_run.groupby("example_id"):
            by_window = {window: part["position"].tolist() for window, part in rows.groupby("window")}
            count = int(kept[example])
            assert by_window == {0: [-1], 1: list(range(count)), 5: list(range(0, count, 5))}
            assert words.loc[words["example_id"] == example, "position"].tolist() == by_window[1]
            whole = rows.loc[rows["window"] == 0, "probability"].item()
            assert whole == pytest.approx(predicted["probability"][example], abs=1e-6)
            assert (rows["probability"] != whole).sum() > count / 2


def test_the_report_ranks_the_causes(comparison: tuple[Path, str]) -> None:
    folder, _ = comparison
    machine = json.loads((folder / "comparison.json").read_text())
    causes = {cause["factor"] for cause in machine["causes"] if cause["model"] == "lstm"}
    assert {"embedding_weights", "duplicates", "biases", "epsilon"} <= causes
    assert [verdict["verdict"] for verdict in machine["verdicts"]] == ["undecided", "undecided"]  # one twin a backend
    assert (folder / "figures" / "divergence.svg").is_file()


def test_a_cause_that_is_switched_on_fails_its_stage_and_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "--benchmark", "-k", "parity", "--crosscheck-backends=keras-tensorflow"]
    for key, value in {
        **TINY,
        "training.factors.duplicates": "apart",
        "timing.settings": '["default", "tuned"]',
        "parity.settings": '["default", "tuned"]',
    }.items():
        command += ["--crosscheck-set", f"{key}={value}"]
    command += ["--crosscheck-models=lstm", "--crosscheck-divisions=matched"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    failed = re.findall(r"^FAILED \S*test_parity\[(\S+)\]", answer.stdout, re.MULTILINE)
    assert failed == [
        f"keras-tensorflow-{model}-{stage}"
        for model in ("lstm", "tuned-lstm")
        for stage in ("update", "steps_5", "steps_20")
    ]
    assert re.search(
        r"keras-tensorflow, lstm: update: embedding has a largest error of \S+, expected at most 1e-06\. "
        r"The reference does the same with factors\.duplicates = apart\.",
        answer.stdout,
    )


def test_the_summary_shows_the_verdict_and_the_report(comparison: tuple[Path, str]) -> None:
    folder, shown = comparison
    verdict = shown.split("= verdict =")[1]
    for asked in ("accuracy, native", "computes right", "step time, ratio"):
        assert asked in verdict
    assert str(folder / "report.md") in shown


def test_the_report_opens_with_the_answer_and_renders(comparison: tuple[Path, str]) -> None:
    folder, _ = comparison
    report = (folder / "report.md").read_text()
    assert len(report.splitlines()) <= 130
    assert "- With their own defaults " in report.split("|")[0]
    for page in ("accuracy", "causes", "speed", "agreement", "examples", "data", "runs"):
        assert f"](details/{page}.md): " in report
        assert (folder / "details" / f"{page}.md").is_file()
    html = MarkdownIt("commonmark").enable("table").render(report)
    assert "<script" not in html
    for figure in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", report):
        assert (folder / figure).read_text().startswith("<?xml")
    machine = json.loads((folder / "comparison.json").read_text())
    assert machine["in_short"]
    assert len(machine["runs"]) == 8


def test_snippets_are_of_the_example_that_they_stand_beside(comparison: tuple[Path, str]) -> None:
    """The notebook that this project grew out of joined training texts to test predictions."""
    folder, _ = comparison
    texts = pd.read_parquet(folder / "test.parquet").set_index("example_id")["text"]
    machine = json.loads((folder / "comparison.json").read_text())
    rows = [row for block in machine["examples"] for row in block["rows"]]
    assert rows
    squeezed = {key: "".join(re.findall(r"[A-Za-z]+", text)) for key, text in texts.items()}
    snippets = 0
    for row in rows:
        snippet = "".join(re.findall(r"[A-Za-z]+", str(row.get("text") or row.get("snippet"))))
        assert snippet
        assert snippet in squeezed[row["example_id"]]
        snippets += sum(snippet in other for other in squeezed.values()) == 1
    assert snippets > len(rows) * 0.9  # a snippet says which review it is from


def test_what_is_published_was_made_by_the_code_that_stands_there(
    comparison: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = comparison
    assert differing(folder) == []
    monkeypatch.setattr("rnn_crosscheck.harness.execution.plan.WORKER_VERSION", "another")
    manifest = read_record(folder / "manifest.json", Manifest)
    assert set(differing(folder)) == {*manifest.keys, *manifest.parity_keys}


@pytest.mark.parametrize(("backend", "start"), [("keras-tensorflow", 0.16), ("pytorch", 5.6)])
def test_an_embedding_s_moves_are_told_in_lengths_of_its_start(
    comparison: tuple[Path, str], backend: str, start: float
) -> None:
    folder, _ = comparison
    command = [sys.executable, ROOT / "docs" / "findings" / "embedding_moves.py", folder, backend]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    assert [row[0] for row in rows[2:]] == ["rnn", "lstm"]
    for _, length, moved, share in rows[2:]:
        assert float(length) == pytest.approx(start, rel=0.1)
        # 13 updates of Adam move a weight by a thousandth each, and there are 32 of them in a row.
        assert 0 < float(moved) < 13 * 0.001 * 32**0.5
        assert float(share) == pytest.approx(float(moved) / float(length), rel=0.15)
