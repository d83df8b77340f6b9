"""A bare training loop in one framework: reads how many steps, prints their nanoseconds.

Usage: ``steps.py {keras,pytorch} {rnn,lstm} LENGTH CORES BATCHES [OPTION...]``, CORES as ``0`` or ``0,1``, options
of Keras ``xla`` and ``deterministic``, of PyTorch ``fused``, ``compile`` and ``deterministic``. As many threads as
cores. Nothing of the harness is used. For `overhead.py`, `repeatability.py` and `tuning.py`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from models import keras_layers, pytorch_model

# Imported by somebody else's test, it has one thread.
CORES = [int(core) for core in sys.argv[4].split(",")] if __name__ == "__main__" else [0]
THREADS = str(len(CORES))
os.environ |= {"OMP_NUM_THREADS": THREADS, "MKL_NUM_THREADS": THREADS, "CUDA_VISIBLE_DEVICES": ""}
os.environ |= {"TF_NUM_INTRAOP_THREADS": THREADS, "TF_NUM_INTEROP_THREADS": THREADS, "TF_CPP_MIN_LOG_LEVEL": "3"}
os.environ["KERAS_BACKEND"] = "tensorflow"


def keras_step(model: str, length: int, options: Collection[str] = ()) -> Callable[[np.ndarray, np.ndarray], object]:
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(len(CORES))
    tf.config.threading.set_inter_op_parallelism_threads(len(CORES))
    if "deterministic" in options:
        keras.utils.set_random_seed(0)
        tf.config.experimental.enable_op_determinism()
    net = keras.Sequential([keras.Input((length,), dtype="int32"), *keras_layers(model)])
    jit = True if "xla" in options else "auto"
    adam = keras.optimizers.Adam(1e-3)
    net.compile(optimizer=adam, loss="binary_crossentropy", metrics=["accuracy"], jit_compile=jit)
    return net.train_on_batch


def pytorch_step(model: str, length: int, options: Collection[str] = ()) -> Callable[[np.ndarray, np.ndarray], object]:
    import torch

    torch.set_num_threads(len(CORES))
    torch.set_num_interop_threads(1)
    parameters, forward = pytorch_model(model, deterministic="deterministic" in options)
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused="fused" in options or None)
    loss_of = torch.nn.BCEWithLogitsLoss()
    if "compile" in options:
        forward = torch.compile(forward)

    def step(tokens: np.ndarray, labels: np.ndarray) -> object:
        loss = loss_of(forward(torch.tensor(tokens)), torch.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def main() -> None:
    framework, model, length, _, batches, *options = sys.argv[1:]
    with np.load(batches) as file:
        tokens, labels = file["tokens"], file["labels"]
    step = (keras_step if framework == "keras" else pytorch_step)(model, int(length), options)
    for place in range(4):
        step(tokens[place], labels[place])
    for thread in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(thread.name), CORES)
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
