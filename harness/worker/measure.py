"""What a live worker measures: the time of calls that its parent asks for, and the memory that the process takes."""

from __future__ import annotations

import gc
import json
import os
import sys
import time as clocks  # looked up when called: a framework may have put another clock in its place
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.datasets.selection import apply
from rnn_crosscheck.harness.machine import hand_back_memory, memory_facts
from rnn_crosscheck.harness.protocol import RunSpec
from rnn_crosscheck.harness.registry import installed
from rnn_crosscheck.harness.worker.job import Job


def time(job: Job) -> None:
    """Measure what the parent asks for, one call at a time; asleep on the pipe in between."""
    request, backend, emit = job.request, job.backend, job.emit
    dataset = Dataset.open(Path(request["dataset"]))
    # What is timed is what the framework's users get, and they don't ask for the same bits again.
    backend.setup(threads=int(request["threads"]), seed=0, setting=request["setting"], deterministic=False)
    everywhere = os.sched_getaffinity(0) if request["cores"] else ()
    emit("ready")
    call: Callable[[], object] | None = None
    clock = clocks.perf_counter_ns
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "stop":
            return
        if command["do"] == "prepare":
            # One model at a time, and its own peak: what was timed before is not this row's memory.
            call = None
            gc.collect()
            forget_peak_memory()
            # Compiling uses any core, beside other workers that do the same.
            _pin(everywhere)
            call, examples, ns = _prepare(job, command, dataset)
            begun = clock()
            call()
            first = clock() - begun
            _pin(request["cores"])
            emit("built", ns=ns, first_ns=first, examples=examples)
        elif command["do"] == "round":
            assert call is not None
            calls = []
            for _ in range(int(command["lead_in"])):
                call()
            for _ in range(int(command["loops"])):
                begun = clock()
                call()
                calls.append(clock() - begun)
            emit("round", calls=calls)
        else:
            facts = {**installed(type(backend)), **backend.environment(), **memory_facts()}
            emit("facts", peak_memory_bytes=peak_memory(), environment=facts)


def _pin(cores: Collection[int]) -> None:
    """Keep every thread of this process to some cores, if any are given (Linux).

    Threads that are started later inherit it. Not sooner, since frameworks start quicker with all cores.
    """
    for thread in Path("/proc/self/task").iterdir() if cores else ():
        with suppress(ProcessLookupError):  # a thread that has ended since
            os.sched_setaffinity(int(thread.name), cores)


def _prepare(job: Job, command: Mapping[str, Any], dataset: Dataset) -> tuple[Callable[[], object], int, int]:
    """Build a native model and a call over real batches; returns the call, its examples and the ns of building."""
    spec = RunSpec.model_validate_json(json.dumps(command["spec"]))
    selection = apply(dataset, spec.data)
    operation = command["operation"]
    block = selection.train if operation == "train_step" else selection.test
    size = 1 if operation == "predict_one" else min(spec.training.batch_size, len(block.rows))
    # A handful of different batches in turn: repeating one would train on it until its gradients vanish.
    whole = Batches(
        block.split, block.rows, order=None, batch_size=size, length=spec.data.length, vocabulary=spec.data.vocabulary
    )
    batches = list(islice(whole, min(len(block) // size, 8)))
    begun = clocks.perf_counter_ns()
    model = job.create(spec)
    ns = clocks.perf_counter_ns() - begun
    turn = 0

    def call() -> object:
        nonlocal turn
        tokens, labels = batches[turn % len(batches)]
        turn += 1
        return model.train_step(tokens, labels) if operation == "train_step" else model.predict(tokens)

    return call, size, ns


def peak_memory() -> int:
    """Peak resident memory of this process in bytes."""
    with suppress(OSError, IndexError):  # there is no such file, or no such line in it
        # getrusage would count what the parent held at the fork; this starts anew with the program.
        return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_memory() -> None:
    """Let the peak start anew from what is resident now, freed memory handed back, where the system can (Linux)."""
    hand_back_memory()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
