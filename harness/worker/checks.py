"""Checks of a backend that train nothing: the stages of parity, the contract, the devices; and what factors do."""

from __future__ import annotations

import gc
import json
import sys
from time import perf_counter

from rnn_crosscheck.harness.folder import write_json
from rnn_crosscheck.harness.parity import stages
from rnn_crosscheck.harness.results import EffectsRecord, ParityRecord
from rnn_crosscheck.harness.worker.job import Job
from rnn_crosscheck.harness.worker.measure import forget_peak_memory, peak_memory


def parity(job: Job) -> None:
    """Hold the backend's model against the reference, stage by stage."""
    spec, _, selection = job.open()
    job.setup(spec)
    # What was checked before in this process is not this model's memory.
    gc.collect()
    forget_peak_memory()
    begun = perf_counter()
    found = stages.compare(job.backend, spec, selection, job.tell)
    record = ParityRecord(
        key=job.request["key"],
        backend=spec.backend,
        model=spec.model.name,
        division=spec.division,
        setting=spec.setting,
        **vars(found),
        seconds=perf_counter() - begun,
        peak_memory_bytes=peak_memory(),
    )
    write_json(job.place, record)


def effects(job: Job) -> None:
    """Switch the factors one by one; the backend is the reference, which needs no framework."""
    spec, _, selection = job.open()
    declared = job.request["native_values"]
    begun = perf_counter()
    record = EffectsRecord(
        key=job.request["key"],
        model=spec.model.name,
        probes=min(stages.EFFECT_PROBES, len(selection.test)),
        declared=tuple(declared),
        effects=stages.effects(spec, selection, declared, job.tell),
        seconds=perf_counter() - begun,
    )
    write_json(job.place, record)


def conform(job: Job) -> None:
    """Carry out checks of the conformance suite, one after the other."""
    from rnn_crosscheck.harness.conformance.checks import carry_out
    from rnn_crosscheck.harness.conformance.trial import Trial

    trial = Trial(job.backend, job.request["device"])
    job.emit("ready")
    for line in sys.stdin:
        verdict = carry_out(trial, json.loads(line)["check"])
        job.emit("checked", problem=verdict.problem, todo=verdict.todo, answer=verdict.answer)


def probe(job: Job) -> None:
    """Tell the devices that the backend can use."""
    job.backend.setup(threads=int(job.request["threads"]), seed=0, setting="default", deterministic=True)
    job.emit("devices", devices=list(job.backend.devices()))
