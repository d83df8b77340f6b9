"""The scripts in docs/findings run, and still find what the pages beside them say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "docs" / "findings"

#: a row of the table of optimizers: name, three figures, verdict
ROW = re.compile(r"^(\S.*?)\s+(\d\.\de[+-]\d+)\s+(\d\.\de[+-]\d+)\s+(\d\.\de[+-]\d+)\s+(same|differs)$", re.MULTILINE)

#: a row of the table of clipping: setting, norm of the step as it is, dense and by NumPy
CLIPPED = re.compile(r"^(\w*clip\w+=\d)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)$", re.MULTILINE)

CHANGED = "this Keras does otherwise than the one that the page was written from"


def run(script: str, backend: str, *arguments: str) -> str:
    # Looked for, not imported: pytest's own process stays free of frameworks, and tests check that.
    for name in ("keras", backend):
        if find_spec(name) is None:
            pytest.skip(f"needs {name}")
    process = subprocess.run(
        [sys.executable, script, *arguments],
        cwd=SCRIPTS,
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


SWITCHED = """
import numpy as np
from pytorch_defaults import Both, Embedding
from rnn_crosscheck.backends.pytorch import PyTorch
from rnn_crosscheck.harness.parity.declared import wrongly_drawn
from rnn_crosscheck.harness.protocol import ModelSpec, TrainingSpec

spec, training = ModelSpec(name="lstm", cell="lstm", units=24, vocabulary=500, length=20), TrainingSpec()
def drawn(backend):
    models = [backend().create(spec, training, weights=None, seed=seed, device="cpu") for seed in range(4)]
    return [model.get_weights() for model in models]
plain = drawn(PyTorch)
for backend in (Embedding, Both):
    own = drawn(backend)
    other = [name for name in own[0] if not np.array_equal(own[0][name], plain[0][name])]
    declared, before = (dict(each.native_values(spec, training)) for each in (backend, PyTorch))
    print(backend.name, other, sorted(before.items() - declared.items()), sorted(declared.items() - before.items()))
    one, other = (each().create(spec, training, weights=None, seed=3, device="cpu") for each in (backend, PyTorch))
    print(one._shuffle.initial_seed() == other._shuffle.initial_seed())
    print(one._optimizer.defaults == other._optimizer.defaults)
    print(wrongly_drawn(own, spec, training, declared), wrongly_drawn(own, spec, training, before))
"""


@pytest.mark.slow
def test_some_of_pytorch_s_initialisers_are_keras_and_nothing_else_differs() -> None:
    embedding, shuffle, optimizer, drawn, *rest = run("-c", "torch", SWITCHED).splitlines()
    both, both_shuffle, both_optimizer, both_drawn = rest
    assert {shuffle, optimizer, both_shuffle, both_optimizer} == {"True"}
    assert embedding == "pytorch-embedding ['embedding'] [('factors.embedding_weights', 'pytorch')] []"
    assert drawn == "() ('embedding_weights',)"
    assert both.startswith("pytorch-both ['embedding', 'kernel', 'recurrent_kernel'] [('factors.embedding_weights'")
    assert both.endswith("('factors.recurrent_weights', 'pytorch')] []")
    assert both_drawn == "() ('embedding_weights', 'recurrent_weights')"


@pytest.mark.long
def test_shuffle_repeats_its_order_once_seeded_on_tensorflow() -> None:
    output = run("keras_shuffle.py", "tensorflow")
    assert "seed None: epochs differ" in output
    assert "seed 0: every epoch alike" in output, CHANGED


@pytest.mark.long
def test_an_iterator_ends_late_where_its_dataset_tunes_itself() -> None:
    output = run("tfdata_late_end.py", "tensorflow")
    late = {name: int(number) for name, number in re.findall(r"autotuning (on|off): (\d+) of 12 iterators", output)}
    assert late["off"] < late["on"], "this TensorFlow does otherwise than the one that the page was written from"


@pytest.mark.long
def test_repeated_tokens_on_tensorflow() -> None:
    output = run("keras_duplicates.py", "tensorflow")
    for updates in (1, 3):
        assert f"verdict: Adam dense after {updates}: equals NumPy" in output
        assert f"verdict: Adam as it is after {updates}: differs from NumPy" in output, CHANGED

    rows = {name: (float(once), float(absent), verdict) for name, _, once, absent, verdict in ROW.findall(output)}
    assert {name: row[2] for name, row in rows.items() if name in ("SGD", "Lion", "Adam", "RMSprop", "Adamax")} == {
        "SGD": "same",
        "Lion": "same",
        "Adam": "differs",
        "RMSprop": "differs",
        "Adamax": "differs",
    }, CHANGED
    # Only repetition matters: nothing differs where each token stands once, nor in the rows that a batch leaves out.
    assert max(max(once, absent) for once, absent, _ in rows.values()) < 1e-4

    clipped = [(float(as_it_is), float(dense), float(numpy)) for _, as_it_is, dense, numpy in CLIPPED.findall(output)]
    assert len(clipped) == 5
    for as_it_is, dense, numpy in clipped:
        assert dense == pytest.approx(numpy, abs=2e-3)
        assert as_it_is > 1.2 * numpy, CHANGED


@pytest.mark.long
def test_repeated_tokens_on_torch() -> None:
    output = run("keras_duplicates.py", "torch")
    assert output.count("equals NumPy") == 4
    rows = ROW.findall(output)
    assert len(rows) > 15
    assert {verdict for *_, verdict in rows} == {"same"}
