"""`benchmarks/gpu.py` as far as a machine without a GPU can tell."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from benchmarks import gpu
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

#: creates a matched model and tells whether products are kept from TF32: before, as compared, as it comes
PUT_BACK = """
import json
from benchmarks import gpu
from rnn_crosscheck.backends.pytorch import PyTorch
from rnn_crosscheck.backends.jax import JAX
from rnn_crosscheck.harness.protocol import TrainingSpec
from rnn_crosscheck.harness.weights import initial_weights
from tests.backends.checks import small

def create(kind):
    kind().create(small("rnn"), TrainingSpec(), weights=initial_weights(small("rnn"), 0), seed=0, device="cpu")

found = {}
for kind, read in ((PyTorch, gpu._allowed), (JAX, gpu._precision)):
    told = found[kind.name] = [read()]
    for each in (gpu.COMPARED[kind], kind, gpu.COMPARED[kind]):
        create(each)
        told.append(read())
print(json.dumps(found))
"""


@pytest.mark.long
def test_what_matched_models_turn_off_is_put_back() -> None:
    said = python("-c", PUT_BACK, folder=ROOT)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout.splitlines()[-1])
    # A backend that is as it is compared turns TF32 off for the whole process, and nothing turns it on again.
    assert found == {"pytorch": [True, True, False, False], "jax": [None, None, "highest", "highest"]}


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


def test_what_leaves_its_tolerance_is_told_first_and_bold() -> None:
    stages = pd.DataFrame(
        [
            ("lstm", f"keras-torch{ending}", stage, "states", error, tolerance)
            for ending, wrong in (("", 1.0), (gpu.AS_IT_COMES, 1000.0))
            for stage, error, tolerance in (("forward", 2.8e-7 * wrong, 1e-5), ("loss", 1e-8, 1e-5))
        ],
        columns=["model", "backend", "stage", "parameter", "error", "tolerance"],
    )
    findings: Any = SimpleNamespace(why=SimpleNamespace(stages=stages))
    off, comes, *rest = gpu._stages(findings)
    assert off == "TF32 off, as matched models are: every stage is within its tolerance."
    assert comes == (
        "As the framework comes: **keras-torch, lstm** computes states and logits that are off by 2.8e-4, 28 times "
        "what is allowed."
    )
    written = "\n".join(rest)
    assert "**2.8e-4**" in written
    assert "**1e-8**" not in written
