"""Native PyTorch with some of its initialisers switched to Keras', in the lines that its users would write.

    cd docs/findings
    pytest --benchmark --crosscheck-protocol imdb --crosscheck-divisions native \
        --crosscheck-backends keras-tensorflow,pytorch,pytorch_defaults:Embedding,pytorch_defaults:Both

All else stays PyTorch's own: the shuffle, the other initialisers, two biases and Adam's epsilon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from rnn_crosscheck.backends.pytorch import PyTorch, torch
from rnn_crosscheck.harness.backend import Capability, Model
from rnn_crosscheck.harness.protocol import ModelSpec, TrainingSpec
from rnn_crosscheck.harness.weights import Weights


def embedding_weights(embedding: Any, recurrent: Any) -> None:  # noqa: ANN401 - modules of PyTorch
    """Start an embedding as Keras does; PyTorch's own is standard normal, about 35 times as large."""
    torch.nn.init.uniform_(embedding.weight, -0.05, 0.05)


def recurrent_weights(embedding: Any, recurrent: Any) -> None:  # noqa: ANN401
    """Start a recurrent layer's kernels as Keras does; PyTorch's own are uniform in ±1/√units."""
    torch.nn.init.xavier_uniform_(recurrent.weight_ih_l0)
    torch.nn.init.orthogonal_(recurrent.weight_hh_l0)


class Switched(PyTorch):
    """PyTorch with some initialisers switched."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({"native", "parity"})
    switched: ClassVar[tuple[Callable[[Any, Any], None], ...]] = ()

    @classmethod
    def native_values(cls, model: ModelSpec, training: TrainingSpec) -> Mapping[str, object]:
        """Give what is left of PyTorch's own."""
        back = {f"factors.{switch.__name__}" for switch in cls.switched}
        return {key: value for key, value in super().native_values(model, training).items() if key not in back}

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        """Make a model as PyTorch's users do, and start some of it as Keras would."""
        made: Any = super().create(model, training, weights=weights, seed=seed, device=device)
        for switch in self.switched:
            switch(made._embedding, made._recurrent)
        assert isinstance(made, Model)
        return made


class Embedding(Switched):
    """PyTorch with the embedding that Keras starts with."""

    name: ClassVar[str] = "pytorch-embedding"
    switched = (embedding_weights,)


class Both(Switched):
    """PyTorch with the embedding and the recurrent kernels that Keras starts with."""

    name: ClassVar[str] = "pytorch-both"
    switched = (embedding_weights, recurrent_weights)
