"""The notebook's two models as anybody writes them, for the plain scripts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def keras_layers(model: str) -> list[Any]:
    from keras import layers

    recurrent = layers.LSTM(100) if model == "lstm" else layers.SimpleRNN(16, activation="relu")
    return [layers.Embedding(5000, 32), recurrent, layers.Dense(1, activation="sigmoid")]


def pytorch_model(
    model: str, *, deterministic: bool
) -> tuple[list[torch.nn.Parameter], Callable[[torch.Tensor], torch.Tensor]]:
    """Give the parameters, and what makes logits (n,) of tokens (n, length)."""
    import torch
    from torch import nn

    if deterministic:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    embedding = nn.Embedding(5000, 32)
    lstm = model == "lstm"
    recurrent = nn.LSTM(32, 100, batch_first=True) if lstm else nn.RNN(32, 16, nonlinearity="relu", batch_first=True)
    dense = nn.Linear(100 if lstm else 16, 1)

    def logits(tokens: torch.Tensor) -> torch.Tensor:
        return dense(recurrent(embedding(tokens))[0][:, -1]).squeeze(-1)

    return [*embedding.parameters(), *recurrent.parameters(), *dense.parameters()], logits
