"""Native PyTorch with two of its defaults switched to Keras', to see how much of the gap that closes.

    cd docs/findings
    pytest --benchmark --crosscheck-protocol imdb --crosscheck-divisions native \
        --crosscheck-backends keras-tensorflow,pytorch,pytorch_defaults:KerasDefaults

All else stays PyTorch's own: the shuffle, the other weights, two biases and where Adam adds its epsilon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rnn_crosscheck.backends.pytorch import PyTorch, torch
from rnn_crosscheck.harness.backend import Capability, Model
from rnn_crosscheck.harness.protocol import ModelSpec, TrainingSpec
from rnn_crosscheck.harness.weights import Weights


class KerasDefaults(PyTorch):
    """PyTorch with the embedding and the epsilon that Keras starts with."""

    name: ClassVar[str] = "pytorch-keras-defaults"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"native"})

    @classmethod
    def native_values(cls, model: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
        """Give what is left of PyTorch's own."""
        own = dict(super().native_values(model, training))
        del own["factors.embedding_weights"]
        return {**own, "epsilon": 1e-7}

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        """Make a model as anybody does, and then write the two lines of `docs/findings.md`."""
        made = super().create(model, training, weights=weights, seed=seed, device=device)
        torch.nn.init.uniform_(made._embedding.weight, -0.05, 0.05)
        made._optimizer.param_groups[0]["eps"] = 1e-7
        return made
