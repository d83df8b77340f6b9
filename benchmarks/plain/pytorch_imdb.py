"""What somebody who only wants the result writes in PyTorch: the notebook's protocol on IMDB, one model, one seed.

The yardstick for the harness' own cost, so it is written for no other end: nothing of the harness is used.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from imdb import load

BEGUN = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=("rnn", "lstm"))
    parser.add_argument("--data", type=Path, required=True, help="folder with imdb.npz")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves it to PyTorch")
    parser.add_argument("--deterministic", action="store_true")
    options = parser.parse_args()

    import numpy as np
    import torch
    from torch import nn

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    if options.deterministic:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    train, test = load(options.data)

    def padded(reviews: list[list[int]]) -> torch.Tensor:
        rows = np.zeros((len(reviews), 500), np.int64)
        for row, review in zip(rows, reviews, strict=True):
            row[-len(review[-500:]) :] = review[-500:]
        return torch.from_numpy(rows)

    x, y = padded(train[0]), torch.tensor(train[1], dtype=torch.float32)
    x_test, y_test = padded(test[0]), torch.tensor(test[1])
    x_train, y_train, x_valid, y_valid = x[:20_000], y[:20_000], x[20_000:], y[20_000:]
    embedding = nn.Embedding(5000, 32)
    recurrent = (
        nn.LSTM(32, 100, batch_first=True)
        if options.model == "lstm"
        else nn.RNN(32, 16, nonlinearity="relu", batch_first=True)
    )
    dense = nn.Linear(100 if options.model == "lstm" else 16, 1)
    parameters = [*embedding.parameters(), *recurrent.parameters(), *dense.parameters()]
    optimizer, loss_of = torch.optim.Adam(parameters, lr=1e-3), nn.BCEWithLogitsLoss()

    def logits(tokens: torch.Tensor) -> torch.Tensor:
        return dense(recurrent(embedding(tokens))[0][:, -1]).squeeze(-1)

    def predict(tokens: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return torch.cat([torch.sigmoid(logits(part)) for part in tokens.split(512)])

    ready = time.perf_counter()
    for _ in range(options.epochs):
        for rows in torch.randperm(len(x_train)).split(32):
            optimizer.zero_grad()
            loss = loss_of(logits(x_train[rows]), y_train[rows])
            loss.backward()
            optimizer.step()
        (predict(x_valid) >= 0.5).eq(y_valid >= 0.5).float().mean().item()
    trained = time.perf_counter()
    accuracy = ((predict(x_test) >= 0.5) == (y_test == 1)).float().mean().item()
    print(
        f"pytorch {options.model}: accuracy {accuracy:.4f}; ready {ready - BEGUN:.1f} s, "
        f"train {trained - ready:.1f} s, predict {time.perf_counter() - trained:.1f} s"
    )


if __name__ == "__main__":
    main()
