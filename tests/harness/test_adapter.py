"""What adapters share: a framework that is imported late, others that are kept out, the loop over batches."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from rnn_crosscheck.harness.adapter import Late, SteppingModel, Update
from rnn_crosscheck.harness.backend import in_chunks
from rnn_crosscheck.harness.conformance.trial import Examples, spec_of
from rnn_crosscheck.harness.errors import ContractError
from rnn_crosscheck.harness.protocol import TrainingSpec


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_a_late_module_is_imported_when_something_of_it_is_used() -> None:
    code = (
        "import sys; from rnn_crosscheck.harness.adapter import Late; t = Late('tabulate'); "
        "a = 'tabulate' in sys.modules; v = t.__version__; print(a, 'tabulate' in sys.modules, bool(v))"
    )
    assert python(code) == "False True True"


def test_who_looks_at_a_late_module_imports_nothing() -> None:
    late = Late("a_framework_that_is_not_there")
    assert inspect.unwrap(late) is late  # type: ignore[arg-type]  # as pytest does with whatever it collects
    with pytest.raises(ModuleNotFoundError):
        late.Tensor  # noqa: B018


def test_what_is_kept_out_is_as_if_it_were_not_installed() -> None:
    assert importlib.util.find_spec("tabulate") is not None
    code = (
        "from rnn_crosscheck.harness.adapter import keep_out\nkeep_out({'tabulate'})\nimport json\n"
        "from importlib import metadata, util\nprint(util.find_spec('tabulate'), bool(metadata.version('tabulate')))\n"
        "try:\n    import tabulate\nexcept ImportError as error:\n    print(error)"
    )
    assert python(code) == "None True\nNo module named 'tabulate'"


def test_predictions_come_in_chunks_of_bounded_size() -> None:
    seen: list[int] = []

    def predict(tokens: Any) -> Any:
        seen.append(len(tokens))
        return tokens[:, 0].astype(np.float32)

    tokens = np.arange(20, dtype=np.int32).reshape(10, 2)
    np.testing.assert_array_equal(in_chunks(predict, tokens, rows=4), tokens[:, 0])
    assert seen == [4, 4, 2]
    assert in_chunks(predict, tokens[:0]).shape == (0,)


class _Counting(SteppingModel):
    """Its loss is the number of its update; the first answer of each batch is right."""

    def __init__(self, *, matched: bool = True) -> None:
        super().__init__("counting", spec_of("rnn"), TrainingSpec(), matched=matched)
        self.updates = 0

    def update(self, tokens: Any, labels: Any) -> Update:
        self.updates += 1
        return Update(float(self.updates), 1, 2.5)

    def probabilities(self, tokens: Any) -> Any:
        return np.full(len(tokens), 0.5, np.float32)

    def get_weights(self) -> Any:
        raise AssertionError("not asked for")

    def set_weights(self, weights: Any) -> None:
        raise AssertionError("not asked for")


def test_an_epoch_weighs_examples_and_counts_batches() -> None:
    done: list[int] = []
    stats = _Counting().fit_epoch(Examples(14).epoch("matched", done=done.append))
    # Batches of 6, 6 and 2.
    assert stats.loss == pytest.approx((1 * 6 + 2 * 6 + 3 * 2) / 14)
    assert stats.accuracy == pytest.approx(3 / 14)
    assert done == [1, 2, 3]


def test_an_observed_step_tells_the_norm_and_a_wrong_batch_is_refused() -> None:
    model = _Counting()
    step = model.observed_step(*Examples(6).batch())
    assert (step.loss, step.gradient_norm, step.right) == (1.0, 2.5, 1)
    with pytest.raises(ContractError, match="Backend 'counting': train_step: expected labels as float32"):
        model.train_step(Examples(6).tokens, Examples(6).labels)  # type: ignore[arg-type]
