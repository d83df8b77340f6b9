"""A framework that the project doesn't have, by a backend that was written from the documentation alone."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.launching import python

NAME = "tests.backends.flax_nnx:FlaxNnx"
TINY = {
    "data.train_examples": 96, "data.valid_examples": 32, "data.test_examples": 64, "data.length": 20,
    "data.vocabulary": 300, "training.epochs": 1, "seeds.native": 1, "parity.continuing_twins": 0, "timing.starts": 1,
    "timing.min_rounds": 5, "timing.max_rounds": 5, "timing.warmup": 1, "timing.operations": '["train_step"]',
    "timing.settings": '["default"]',
}  # fmt: skip
#: it compiles for minutes
PATIENCE = 550.0

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("flax") is None, reason="flax is not installed: pip install -e '.[dev]'"),
]


def test_it_was_written_in_at_most_220_lines() -> None:
    assert len((ROOT / "tests/backends/flax_nnx.py").read_text().splitlines()) <= 220


def test_it_conforms() -> None:
    done = python("-m", "pytest", "--benchmark", "--crosscheck-conformance", NAME, "-q", folder=ROOT, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout[-6000:]
    assert re.search(r"(\d+) of \1 checks hold \(it claims factors, matched, native, parity\)", done.stdout)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    (folder / "models.toml").write_text(
        'extends = "quick"\n[models.gru]\ncell = "gru"\nunits = 8\n[models.lstm]\nunits = 8\n'
    )
    command = ["-m", "pytest", "--benchmark", "--crosscheck-protocol", "models.toml"]
    command += ["--crosscheck-models", "gru,lstm", "--crosscheck-backends", f"{NAME},pytorch", "-q"]
    for key, value in TINY.items():
        command += ["--crosscheck-set", f"{key}={value}"]
    done = python(*command, folder=folder, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\\" not in done.stdout.partition("verdict")[2]
    return folder / "comparison"


def test_compared_with_pytorch_it_computes_the_same(compared: Path) -> None:
    found: dict[str, Any] = json.loads((compared / "comparison.json").read_text())
    assert {row["backend"] for row in found["accuracy"]} == {"flax-nnx", "pytorch"}
    matched = [row for row in found["parity"] if row["division"] == "matched"]
    assert len(matched) == 2 * 2
    assert [row for row in matched if row["stage"]] == []
    assert len(found["transplants"]) == 2 * 2 * 2 * 2  # source, target, division, model
    assert max(row["max_difference"] for row in found["transplants"]) <= 1e-5


def test_its_report_says_what_is_so(compared: Path) -> None:
    found: dict[str, Any] = json.loads((compared / "comparison.json").read_text())
    # One name, and nothing that was left out or isn't so.
    pages = "\n".join(path.read_text() for path in [compared / "report.md", *(compared / "details").glob("*.md")])
    for false in ("Not tried", "tests.backends.flax_nnx.FlaxNnx", "is false", "differs in a known"):
        assert false not in pages, false
    assert {row["contradicted"] for row in found["parity"]} == {""}
    # Each native stage is explained by what the backend declares.
    native = [row for row in found["parity"] if row["division"] == "native" and row["stage"]]
    assert all(row["declared"] and row["explained"] <= 1 for row in native), native
    # A GRU of Flax has no bias of the states, and the report counts what there is.
    sizes = {(row["backend"], row["divisions"]): row for row in found["layers"] if row["layer"] == "gru"}
    assert sizes["flax-nnx", "matched"]["trainable"] - sizes["flax-nnx", "native"]["trainable"] == 3 * 8
    assert sizes["flax-nnx", "native"]["note"] == "no bias beside the recurrent kernel"
    # What neither Keras nor PyTorch has is told in its own words, and no cause is without effect.
    causes = [row for row in found["causes"] if row["model"] == "gru"]
    words = {row["factor"]: row["native"] for row in causes if row["native_in"] == "flax-nnx"}
    assert words["dense_weights"] == "LeCun normal"
    assert all(row["mean"] is None or row["max"] > 0 for row in found["causes"])
    assert "biases" not in {row["factor"] for row in causes}
    # Versions of what it declares come by themselves.
    assert {"flax", "jax", "optax"} <= {row["fact"] for row in found["environment"] if row["flax-nnx"]}
