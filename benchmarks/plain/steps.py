"""A bare training loop in one framework, for `benchmarks/overhead.py`: reads how many steps, prints their nanoseconds.

Usage: ``steps.py {keras,pytorch} {rnn,lstm} LENGTH CORE``. Nothing of the harness is used.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "KERAS_BACKEND": "tensorflow"}


def keras_step(model: str, length: int) -> Callable[[np.ndarray, np.ndarray], object]:
    import keras
    import tensorflow as tf
    from keras import layers

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    recurrent = layers.LSTM(100) if model == "lstm" else layers.SimpleRNN(16, activation="relu")
    net = keras.Sequential(
        [
            keras.Input((length,), dtype="int32"),
            layers.Embedding(5000, 32),
            recurrent,
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    net.compile(optimizer=keras.optimizers.Adam(1e-3), loss="binary_crossentropy", metrics=["accuracy"])
    return net.train_on_batch


def pytorch_step(model: str, length: int) -> Callable[[np.ndarray, np.ndarray], object]:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    embedding = nn.Embedding(5000, 32)
    lstm = nn.LSTM(32, 100, batch_first=True)
    recurrent = lstm if model == "lstm" else nn.RNN(32, 16, nonlinearity="relu", batch_first=True)
    dense = nn.Linear(100 if model == "lstm" else 16, 1)
    optimizer = torch.optim.Adam([*embedding.parameters(), *recurrent.parameters(), *dense.parameters()], lr=1e-3)
    loss_of = nn.BCEWithLogitsLoss()

    def step(tokens: np.ndarray, labels: np.ndarray) -> object:
        logits = dense(recurrent(embedding(torch.tensor(tokens)))[0][:, -1]).squeeze(-1)
        loss = loss_of(logits, torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    framework, model, length, core, batches = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
    with np.load(batches) as file:
        tokens, labels = file["tokens"], file["labels"]
    step = (keras_step if framework == "keras" else pytorch_step)(model, length)
    for place in range(4):
        step(tokens[place], labels[place])
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), [core])
    print("ready", flush=True)
    turn = 0
    for line in sys.stdin:
        taken = []
        for _ in range(int(line)):
            begun = time.perf_counter_ns()
            step(tokens[turn % len(tokens)], labels[turn % len(tokens)])
            taken.append(time.perf_counter_ns() - begun)
            turn += 1
        print(*taken, flush=True)


if __name__ == "__main__":
    main()
