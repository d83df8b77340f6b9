"""What somebody who only wants the result writes in PyTorch: the notebook's protocol on IMDB, one model, one seed.

The yardstick for the harness' own cost, so it is written for no other end: nothing of the harness is used.
"""

from __future__ import annotations

import time

from imdb import arguments, load, tell
from models import pytorch_model


def main() -> None:
    options = arguments(__doc__).parse_args()

    import numpy as np
    import torch

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    train, test = load(options.data)

    def padded(reviews: list[list[int]]) -> torch.Tensor:
        rows = np.zeros((len(reviews), 500), np.int64)
        for row, review in zip(rows, reviews, strict=True):
            row[-len(review[-500:]) :] = review[-500:]
        return torch.from_numpy(rows)

    x, y = padded(train[0]), torch.tensor(train[1], dtype=torch.float32)
    x_test, y_test = padded(test[0]), torch.tensor(test[1])
    x_train, y_train, x_valid, y_valid = x[:20_000], y[:20_000], x[20_000:], y[20_000:]
    parameters, logits = pytorch_model(options.model, deterministic=options.deterministic)
    optimizer, loss_of = torch.optim.Adam(parameters, lr=1e-3), torch.nn.BCEWithLogitsLoss()

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
    tell(f"pytorch {options.model}", accuracy, ready=ready, trained=trained)


if __name__ == "__main__":
    main()
