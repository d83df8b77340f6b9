"""How a backend conducts itself: it waits, refuses, tells about itself, and keeps to its own modules and memory."""

from __future__ import annotations

import gc
import os
import pickle
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from rnn_crosscheck.harness.conformance.trial import (
    CELLS,
    LENGTH,
    SIZE,
    TRAINING,
    VOCABULARY,
    Examples,
    NotConforming,
    Trial,
    check,
    digest,
    follow,
    given_weights,
    hold,
    modules_of,
    spec_of,
)
from rnn_crosscheck.harness.errors import ContractError
from rnn_crosscheck.harness.machine import available_cores, hand_back_memory, waits_by_thread
from rnn_crosscheck.harness.protocol import DataSpec, RunSpec
from rnn_crosscheck.harness.registry import registered
from rnn_crosscheck.harness.weights import initial_weights


@check("trains")
def check_the_device_is_waited_for(trial: Trial) -> None:
    """When `train_step` returns, the weights have moved: nothing of its work is left for the next call."""
    division = trial.divisions[0]
    spec = spec_of("rnn", units=160, vocabulary=2000)
    model = trial.create(spec, None if division == "native" else initial_weights(spec, 0))
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, spec.vocabulary, (256, LENGTH)).astype(np.int32)
    labels = (np.arange(256) % 2).astype(np.float32)
    model.train_step(tokens, labels)
    steps, left, alone = [], [], []
    for _ in range(9):
        begun = time.perf_counter()
        model.train_step(tokens, labels)
        stepped = time.perf_counter()
        model.get_weights()
        read = time.perf_counter()
        model.get_weights()
        steps.append(stepped - begun)
        left.append(read - stepped)
        alone.append(time.perf_counter() - read)
    waiting = median(left) - median(alone)
    hold(
        waiting <= max(0.5 * median(steps), 2e-3),
        f"{division} rnn: a step returned after {median(steps) * 1e3:.1f} ms, but reading the weights then took "
        f"{waiting * 1e3:.1f} ms longer than reading them once more: train_step must return when the device has "
        "finished.",
    )


@check()
def check_specs_may_be_copies(trial: Trial) -> None:
    """A spec that was pickled and sent makes the same model as the one that it was made of."""
    run = RunSpec(
        backend=trial.backend.name,
        division=trial.kinds[0],
        model=spec_of(CELLS[0]),
        training=TRAINING,
        data=DataSpec(vocabulary=VOCABULARY, length=LENGTH),
        dataset_fingerprint="none",
        seed=0,
        device=trial.device,
        threads=1,
    )
    sent = pickle.loads(pickle.dumps(run))
    kind = type(trial.backend)
    try:
        pickle.dumps(kind)
    except (pickle.PicklingError, AttributeError) as error:
        raise NotConforming(f"the class {kind.__name__} can't be pickled by its name: {error}.") from None
    found = []
    for spec in (run, sent):
        weights = None if spec.division == "native" else given_weights(CELLS[0])
        found.append(digest(trial.create(spec.model, weights, training=spec.training).get_weights()))
    hold(found[0] == found[1], "a copy of a spec made another model.")


@check()
def check_the_environment_is_text(trial: Trial) -> None:
    """`environment` gives text for the report, and `devices` the CPU at least."""
    devices = trial.ready.devices()
    hold("cpu" in devices, f"devices: expected 'cpu' among them, got {devices!r}.")
    if "matched" in trial.kinds:
        trial.given("lstm")
    environment = trial.ready.environment()
    wrong = [key for key, value in environment.items() if not (isinstance(key, str) and isinstance(value, str))]
    hold(
        not wrong,
        f"environment: expected text for {', '.join(map(str, wrong))}, got {[environment[k] for k in wrong]}.",
    )
    hold(environment, "environment: expected at least the version of the framework, got nothing.")


@check()
def check_wrong_shapes_are_refused(trial: Trial) -> None:
    """What isn't a batch is refused with a ContractError that names the backend, what was expected and what came."""
    model = trial.model(trial.kinds[0], "rnn")
    tokens, labels = Examples(SIZE).batch()
    wrong: list[tuple[str, Callable[..., object], tuple[Any, ...]]] = [
        ("predict with rows that are too short", model.predict, (tokens[:, 1:],)),
        ("predict with int64 tokens", model.predict, (tokens.astype(np.int64),)),
        ("predict with a single row without its axis", model.predict, (tokens[0],)),
    ]
    if trial.divisions:
        wrong += [
            ("train_step with fewer labels than rows", model.train_step, (tokens, labels[1:])),
            ("train_step with integer labels", model.train_step, (tokens, labels.astype(np.int8))),
            ("train_step with no rows", model.train_step, (tokens[:0], labels[:0])),
        ]
    for what, method, arguments in wrong:
        try:
            method(*arguments)
        except ContractError as error:
            said = str(error)
            hold("expected" in said, f"{what} was refused without saying what was expected: {said!r}.")
            continue
        except Exception as error:  # noqa: BLE001 - a refusal of another kind
            raise NotConforming(
                f"{what} ended in {type(error).__name__}, expected a ContractError in one sentence; call "
                "rnn_crosscheck.harness.backend.check_batch first."
            ) from None
        raise NotConforming(f"{what} was accepted; call rnn_crosscheck.harness.backend.check_batch first.")


@check("trains", place="fresh")
def check_threads_are_pinned(trial: Trial) -> None:
    """In a process that was given one thread a step computes with one."""
    if available_cores() < 2 or not waits_by_thread():
        return  # nothing could be seen
    spec = spec_of("lstm", units=128, vocabulary=2000)
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, spec.vocabulary, (128, LENGTH)).astype(np.int32)
    labels = (np.arange(128) % 2).astype(np.float32)
    for division in trial.divisions:
        model = trial.create(spec, None if division == "native" else initial_weights(spec, 0))
        model.train_step(tokens, labels)
        waits, busy, clock = waits_by_thread(), time.process_time_ns(), time.perf_counter_ns()
        for _ in range(_TIMED):
            model.train_step(tokens, labels)
        busy, clock = time.process_time_ns() - busy, time.perf_counter_ns() - clock
        waited = sum(wait - waits.get(thread, 0) for thread, wait in waits_by_thread().items())
        # Threads that take turns are one. One that waits for a core counts, so that a busy machine hides none.
        threads = (busy + waited) / clock
        hold(
            threads < _ONE_THREAD,
            f"{division} lstm: a step computes with {threads:.1f} threads, expected 1: pin them in setup or, if "
            "that is too late for the framework, in worker_environment.",
        )


#: steps that are looked at; and what one thread comes to, with what a framework does on the side (1.2 was seen)
_TIMED, _ONE_THREAD = 20, 1.4


@check("inference")
def check_nothing_is_trained(trial: Trial) -> None:
    """A backend that trains nothing refuses to, with a ContractError."""
    model = trial.given("rnn")
    examples = Examples(SIZE)
    for what, call in (
        ("train_step", lambda: model.train_step(*examples.batch())),
        ("fit_epoch", lambda: model.fit_epoch(examples.epoch("matched"))),
    ):
        try:
            call()
        except ContractError:
            continue
        raise NotConforming(f"{what} was carried out, but the backend claims 'inference'; inherit InferenceModel.")


@check("tuned", "matched", place="fresh")
def check_tuned_settings_keep_the_arithmetic(trial: Trial) -> None:
    """Matched steps in the tuned setting are those of the reference."""
    trial.setting = "tuned"
    for cell in CELLS:
        follow(trial, cell, 3, f"{cell}: weights after three tuned steps")


@check(place="fresh")
def check_no_other_framework_is_imported(trial: Trial) -> None:
    """Using the backend imports the framework of no other backend."""
    own = {"numpy", *modules_of(type(trial.backend).distributions)}
    before = set(sys.modules)
    examples = Examples(SIZE)
    for kind in trial.kinds:
        model = trial.model(kind, "rnn")
        if trial.divisions:
            model.train_step(*examples.batch())
            model.fit_epoch(examples.epoch(kind))
        model.predict(examples.tokens)
    others = set()
    for backend in registered().values():
        try:
            others |= set(modules_of(backend.load().distributions))
        except ContractError:
            continue
    found = sorted(name for name in others - own - before if name in sys.modules)
    hold(not found, f"using the backend imports {', '.join(found)}, which it doesn't declare among its distributions.")


@check("given")
def check_memory_is_released(trial: Trial) -> None:
    """Models that nobody holds any more give their memory back."""
    if trial.divisions:
        # Of a model that was trained only the object is asked for: TensorFlow itself keeps memory of the size of the
        # weights for each traced step with dense gradients, whoever makes it and however it is dropped.
        trained = trial.given("rnn")
        trained.train_step(*Examples(SIZE).batch())
        alive = weakref.ref(trained)
        del trained
        gc.collect()
        hold(alive() is None, "a model that was trained and dropped is still alive; something holds it.")
    if not Path("/proc/self/statm").exists() or not hand_back_memory():
        return  # not Linux, or not with glibc
    spec = spec_of("rnn", vocabulary=200_000)  # 6 MB of embedding
    weights = initial_weights(spec, 0)
    tokens = Examples(SIZE).tokens
    seen = []
    for _ in range(10):
        model = trial.create(spec, weights)
        model.predict(tokens)
        del model
        gc.collect()
        # Without it, what the allocator keeps for later comes and goes by several models' worth.
        hand_back_memory()
        seen.append(_resident())
    # The first ones bring in what is made once.
    grown = (seen[-1] - seen[3]) / 6
    hold(
        grown < 2e6,
        f"each model that was made and dropped left {grown / 1e6:.1f} MB behind; something still holds it.",
    )


def _resident() -> int:
    """Resident memory of this process, in bytes (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
