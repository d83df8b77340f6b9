"""`benchmarks/gpu.py` as far as a machine without a GPU can tell."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from benchmarks import gpu
from rnn_crosscheck.harness.backend import Backend
from rnn_crosscheck.harness.parity.stages import TOLERANCES
from rnn_crosscheck.harness.registry import missing_distributions
from rnn_crosscheck.harness.results import Stage
from tests.conftest import ROOT
from tests.launching import python

SMALL = (
    "data.length=12",
    "data.vocabulary=300",
    "data.train_examples=400",
    "data.valid_examples=50",
    "data.test_examples=100",
    "models.lstm.units=12",
    "timing.max_seconds=0.2",
    "timing.min_rounds=5",
)

#: creates matched models and tells whether products are kept from TF32: at first, as it comes, as compared
PUT_BACK = """
import json, os, sys
from benchmarks import gpu
from rnn_crosscheck.harness.protocol import TrainingSpec
from rnn_crosscheck.harness.weights import initial_weights
from tests.backends.checks import small

(kind,) = (kind for kind in gpu.COMPARED if kind.name == sys.argv[1])
os.environ |= kind.worker_environment(1)  # before its framework is imported
read = gpu._precision if "jax" in kind.name else gpu._allowed
backend = gpu.COMPARED[kind]()
backend.setup(threads=1, seed=0, setting="default", deterministic=True)
told = [read()]
for each in (backend, kind()):
    each.create(small("lstm"), TrainingSpec(), weights=initial_weights(small("lstm"), 0), seed=0, device="cpu")
    told.append(read())
print(json.dumps(told))
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", gpu.COMPARED, ids=lambda kind: kind.name)
def test_what_matched_models_turn_off_is_put_back(kind: type[Backend]) -> None:
    if missing_distributions(kind):
        pytest.skip(f"{kind.name} is not installed")
    said = python("-c", PUT_BACK, kind.name, folder=ROOT)
    assert said.returncode == 0, said.stderr
    expected = [None, None, "highest"] if "jax" in kind.name else [True, True, False]
    assert json.loads(said.stdout.splitlines()[-1]) == expected


@pytest.mark.long
def test_a_machine_without_a_gpu_writes_all_but_the_card(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    models = ("--models", "rnn,lstm")
    settings = [word for setting in SMALL for word in ("--set", setting)]
    ended = python(
        "-m", "benchmarks.gpu", "--device", "cpu", "--page", str(page), *models, *settings, folder=ROOT, timeout=590
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    written = page.read_text()
    assert written.startswith("# What does a GPU change?\n\nSeen on the CPU, where there is no TF32, ")
    compared = [kind.name for kind in gpu.COMPARED if f"Not seen: {kind.name}" not in written]
    assert "pytorch" in compared
    right, faster = written.split("## Who is faster?")
    assert right.count("every stage is within its tolerance.") == 2
    for model in ("rnn", "lstm"):
        rows = right.split(f"### {model}\n")[1].split("###")[0]
        for name in compared:
            assert {line.split("|")[2].strip() for line in rows.splitlines() if line.startswith(f"| {name} ")} == {
                "off",
                "as it comes",
            }
            assert f"| {name} " in faster.split(f"### {model}\n")[1].split("##")[0]
    assert gpu.AS_IT_COMES not in faster
    assert "/tmp" not in written


def told(*rows: tuple[str, Stage, float]) -> list[str]:
    """Say what the page says of a backend, a stage and an error."""
    allowed = {stage: tolerance for stage, (_, tolerance) in TOLERANCES.items()}
    stages = pd.DataFrame(
        [
            ("lstm", backend, "matched", stage, "states", error, allowed[stage], error / allowed[stage])
            for backend, stage, error in rows
        ],
        columns=["model", "backend", "division", "stage", "parameter", "error", "tolerance", "ratio"],
    )
    findings: Any = SimpleNamespace(why=SimpleNamespace(stages=stages.assign(ok=stages["ratio"] <= 1)))
    return list(gpu._stages(findings))


def test_what_leaves_its_tolerance_is_told_first_and_bold() -> None:
    comes = f"keras-torch{gpu.AS_IT_COMES}"
    off, as_it_comes, *rest = told(
        ("keras-torch", "forward", 2.8e-7),
        ("keras-torch", "loss", 1e-8),
        (comes, "forward", 2.8e-4),
        (comes, "loss", 1),
    )
    assert off == "TF32 off, as matched models are: every stage is within its tolerance."
    assert as_it_comes == (
        "As the framework comes: **keras-torch, lstm** leaves its tolerance at the stage *forward pass*, where "
        "states is off by 2.8e-4, 28 times what is allowed."
    )
    written = "\n".join(rest)
    assert "**2.8e-4**" in written
    assert "**1e-8**" not in written


def test_a_later_stage_counts_and_what_was_not_seen_is_not_right() -> None:
    off, as_it_comes, *_ = told(("jax", "forward", 1e-9), ("jax", "gradients", 2e-4))
    assert "at the stage *gradients*" in off
    assert as_it_comes == "As the framework comes: nothing was seen."
