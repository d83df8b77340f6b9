"""Plans the runs of a comparison, starts their workers, and skips what is already on disk.

`plan` lists the runs and what each needs; an `Executor` carries them out. `LocalExecutor` does so in worker
processes of this machine, several side by side if asked. A `PlannedRun` names everything by value, so that
another executor can carry it elsewhere.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import queue
import shutil
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal
from typing import Protocol as Interface

from rnn_crosscheck.harness.backend import Backend, Registered, find, missing_distributions, versions
from rnn_crosscheck.harness.errors import CrosscheckError, ResultsError, UsageError
from rnn_crosscheck.harness.execution.process import WorkerFailure, WorkerProcess, thread_variables
from rnn_crosscheck.harness.machine import available_cores, memory_variables
from rnn_crosscheck.harness.parity.stages import FACTORS, arithmetic, native_in
from rnn_crosscheck.harness.protocol import Device, Division, Factors, Protocol, RunSpec, Setting, switched
from rnn_crosscheck.harness.results import (
    WEIGHTS,
    EffectsRecord,
    Failure,
    OcclusionsRecord,
    ParityRecord,
    RunResult,
    TransplantsRecord,
    occlusion_tables,
    read_record,
    stored_key,
    write_run,
)
from rnn_crosscheck.harness.weights import canonical_shapes

#: changes when workers come to compute something else from the same spec
WORKER_VERSION = "1"

#: a framework that hasn't told its devices by then is broken
_PROBE_SECONDS = 120.0


@dataclass(frozen=True)
class BackendInfo:
    """A backend of the comparison, looked at without importing its framework."""

    registered: Registered
    backend: type[Backend]
    missing: tuple[str, ...]

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """Versions of what computes its results, and a digest of its source.

        Found when first asked for: reading the source takes a while, and who lists the runs needs no keys.
        """
        return versions(self.backend)

    @property
    def name(self) -> str:
        """Name as given on the command line."""
        return self.registered.name

    @property
    def trains(self) -> bool:
        """Whether it trains anything."""
        return "inference" not in self.backend.capabilities

    @property
    def unavailable(self) -> str:
        """Why nothing can be run with it, with what to do; empty when all is there."""
        if not self.missing:
            return ""
        return (
            f"{self.name} needs {' and '.join(self.missing)}, which is not installed: "
            f"pip install '{self.backend.requirement}'"
        )


@dataclass(frozen=True)
class PlannedCheck:
    """Something that is computed beside the runs: stages, effects of factors, or what trained weights predict.

    Attributes
    ----------
    name
        Of the check, as it is shown, and of its log.
    mode
        Of the worker.
    extra
        What the worker needs beside the spec, as plain values.
    """

    name: str
    mode: Literal["parity", "effects", "transplant", "occlude"]
    spec: RunSpec
    info: BackendInfo
    key: str
    extra: Mapping[str, Any]

    @property
    def path(self) -> str:
        """Place of its record in the folder of the comparison."""
        folder = {"transplant": "transplants", "occlude": "occlusions"}.get(self.mode, "parity")
        return f"{folder}/{self.name.removeprefix(f'{folder}-')}.json"

    def stored(self, folder: Path) -> bool:
        """Whether its record is on disk under its key, with all that belongs to it."""
        path = folder / self.path
        try:
            return read_record(path, _RECORDS[self.mode]).key == self.key and (
                self.mode != "occlude" or all(table.is_file() for table in occlusion_tables(path))
            )
        except ResultsError:
            return False  # not there, or not whole: it is made anew


_RECORDS: Mapping[str, type[ParityRecord] | type[EffectsRecord] | type[TransplantsRecord] | type[OcclusionsRecord]] = {
    "parity": ParityRecord,
    "effects": EffectsRecord,
    "transplant": TransplantsRecord,
    "occlude": OcclusionsRecord,
}


@dataclass(frozen=True)
class PlannedRun:
    """A run with all that is needed to carry it out or to know that it is done."""

    spec: RunSpec
    info: BackendInfo
    key: str

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return self.spec.run_id


def look_in(folder: Path) -> None:
    """Let `look_up` find local backends (``module:Class``) in a folder; last of all, so that they shadow nothing."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def look_up(names: Sequence[str]) -> tuple[BackendInfo, ...]:
    """Find backends by name; raises `UsageError` for an unknown or a repeated one."""
    if len(set(names)) != len(names):
        raise UsageError(f"Each backend is named once; got {', '.join(names)}.")
    found = []
    for name in names:
        registered = find(name)
        backend = registered.load()
        found.append(BackendInfo(registered, backend, missing_distributions(backend)))
    return tuple(found)


def plan(
    protocol: Protocol,
    backends: Iterable[BackendInfo],
    *,
    dataset_fingerprint: str,
    device: Literal["cpu", "cuda"],
    models: Sequence[str] = (),
    divisions: Sequence[Division] = (),
    seeds: Sequence[int] = (),
) -> tuple[PlannedRun, ...]:
    """List the runs that a protocol asks for, cheapest questions first: division, model, backend, seed.

    Empty `models`, `divisions` and `seeds` take what the protocol says. The first matched seed is traced where twins
    are to be held against it.
    """
    planned = []
    for division in divisions or protocol.divisions:
        for name in models or [model.name for model in protocol.models]:
            for info in backends:
                if division not in info.backend.capabilities:
                    continue
                wanted = seeds or protocol.seeds.of(division)
                for seed in wanted:
                    twins = protocol.parity.initial_twins + protocol.parity.continuing_twins
                    traced = division == "matched" and seed == wanted[0] and twins and "parity" in _can(info)
                    spec = RunSpec(
                        backend=info.name,
                        division=division,
                        model=protocol.model(name),
                        training=protocol.training,
                        data=protocol.data,
                        dataset_fingerprint=dataset_fingerprint,
                        seed=seed,
                        device=device,
                        threads=protocol.workers.threads,
                        probes=protocol.parity.probes if traced else 0,
                    )
                    planned.append(PlannedRun(spec, info, run_key(spec, info)))
    return tuple(planned)


def refuse_unknown_factors(protocol: Protocol, backends: Iterable[BackendInfo], divisions: Sequence[Division]) -> None:
    """Refuse switched factors where a backend's matched models don't honour them.

    Raises
    ------
    UsageError
        What would be compared as equal would not be.
    """
    given, plain = protocol.training.factors.model_dump(), Factors().model_dump()
    changed = [name for name in given if given[name] != plain[name] and f"factors.{name}" in arithmetic()]
    without = [info.name for info in backends if "matched" in _can(info) and "factors" not in _can(info)]
    if changed and without and "matched" in (divisions or protocol.divisions):
        raise UsageError(
            f"training.factors.{changed[0]} is switched, but the matched models of {' and '.join(without)} don't "
            "honour it (they lack the capability 'factors'); leave the backend or the switch out."
        )


def plan_twins(protocol: Protocol, runs: Iterable[PlannedRun]) -> tuple[PlannedRun, ...]:
    """List the twins of the traced runs among `runs`."""
    planned = []
    kinds: tuple[tuple[Literal["initial", "continuing"], int], ...] = (
        ("initial", protocol.parity.initial_twins),
        ("continuing", protocol.parity.continuing_twins),
    )
    for run in runs:
        if run.spec.probes:
            for kind, count in kinds:
                for number in range(1, count + 1):
                    spec = run.spec.model_copy(update={"twin": kind, "twin_number": number})
                    planned.append(PlannedRun(spec, run.info, run_key(spec, run.info)))
    return tuple(planned)


def plan_factors(runs: Iterable[PlannedRun]) -> tuple[PlannedRun, ...]:
    """List the matched runs once more, each factor switched alone that the backend's own defaults have switched."""
    planned = []
    for run in runs:
        if run.spec.division != "matched" or "factors" not in _can(run.info):
            continue
        for factor, values in FACTORS.items():
            if native_in(factor, {"": run.info.backend.native_values(run.spec.training)}):
                training = switched(run.spec.training, values)
                spec = run.spec.model_copy(update={"training": training, "probes": 0, "variant": factor})
                planned.append(PlannedRun(spec, run.info, run_key(spec, run.info)))
    return tuple(planned)


def plan_checks(
    protocol: Protocol,
    backends: Sequence[BackendInfo],
    *,
    dataset_fingerprint: str,
    device: Literal["cpu", "cuda"],
    models: Sequence[str],
    divisions: Sequence[Division],
) -> tuple[PlannedCheck, ...]:
    """List the stages to be compared, and for each model the effects of the factors.

    Stages of a native model are compared as well, since they tell where its defaults leave the matched arithmetic; and
    those of a matched model in tuned settings, which must keep to it.
    """
    able = [info for info in backends if "parity" in _can(info) and not info.missing]
    planned = []

    def add(name: str, mode: Literal["parity", "effects"], spec: RunSpec, info: BackendInfo, **extra: Any) -> None:  # noqa: ANN401
        key = run_key(spec, info)
        if key:
            content = {"mode": mode, "source": _source("parity/stages.py", "parity/reference.py"), **extra}
            key = hashlib.sha256(f"{key} {json.dumps(content, sort_keys=True)}".encode()).hexdigest()
        planned.append(PlannedCheck(name, mode, spec, info, key, extra))

    for model in models:
        specs = {
            (division, info.name): RunSpec(
                backend=info.name,
                division=division,
                model=protocol.model(model),
                training=protocol.training,
                data=protocol.data,
                dataset_fingerprint=dataset_fingerprint,
                seed=protocol.seeds.of("matched")[0],
                device=device,
                threads=protocol.workers.threads,
            )
            for division in divisions
            for info in able
            if division in _can(info)
        }
        for (division, backend), spec in specs.items():
            info = next(info for info in able if info.name == backend)
            add(f"{division}-{backend.replace(':', '.')}-{model}", "parity", spec, info)
            for setting in settings_of(protocol, info) if division == "matched" else ():
                if setting != "default":
                    threads = threads_of(protocol, info, model, setting)
                    tuned = spec.model_copy(update={"setting": setting, "threads": threads})
                    add(f"{division}-{backend.replace(':', '.')}-{setting}-{model}", "parity", tuned, info)
        if specs:
            spec = next(iter(specs.values())).model_copy(
                update={"backend": REFERENCE, "division": "matched", "device": "cpu"}
            )
            # Of those that aren't installed too: what they declare is known.
            declared = {info.name: dict(info.backend.native_values(protocol.training)) for info in backends}
            native = {name: values for name, values in declared.items() if values}
            add(f"effects-{model}", "effects", spec, look_up([REFERENCE])[0], native_values=native)
    return tuple(planned)


def plan_transplants(folder: Path, runs: Iterable[PlannedRun], info: BackendInfo) -> PlannedCheck | None:
    """Plan to predict with the trained weights of `runs` in one backend, or None if no run has ended well.

    Of each backend, model and division, the first seed with a result that kept its weights is taken; those before it
    that kept none are named.

    Parameters
    ----------
    folder
        Of the comparison.
    runs
        The protocol's own, in order.
    info
        The backend that takes the weights; its capabilities have ``matched`` or ``inference``.
    """
    groups: dict[tuple[str, str, str], list[PlannedRun]] = defaultdict(list)
    for run in runs:
        groups[run.spec.backend, run.spec.model.name, run.spec.division].append(run)
    taken: list[PlannedRun] = []
    without: list[PlannedRun] = []
    for group in groups.values():
        ended = [run for run in group if stored_key(folder / "runs" / run.run_id) == run.key]
        first = next((number for number, run in enumerate(ended) if _weights(folder, run)), len(ended))
        without += ended[:first]
        taken += ended[first : first + 1]
    return _plan_trained("transplants", "transplant", folder, taken, without, info)


def plan_occlusions(
    folder: Path, runs: Iterable[PlannedRun], info: BackendInfo, chosen: Mapping[str, Sequence[str]]
) -> PlannedCheck | None:
    """Plan to leave words out of chosen examples of one backend's runs, or None if none was chosen.

    Parameters
    ----------
    folder, runs, info
        As for `plan_transplants`; only the backend's own runs that ended well are taken.
    chosen
        Run id -> ids of test examples.
    """
    listed = [
        run
        for run in runs
        if run.spec.backend == info.name
        and chosen.get(run.run_id)
        and stored_key(folder / "runs" / run.run_id) == run.key
    ]
    taken = [run for run in listed if _weights(folder, run)]
    without = [run for run in listed if not _weights(folder, run)]
    examples = {run.run_id: list(chosen[run.run_id]) for run in taken}
    return _plan_trained("occlusions", "occlude", folder, taken, without, info, examples=examples)


def _weights(folder: Path, run: PlannedRun) -> bool:
    return (folder / "runs" / run.run_id / WEIGHTS).is_file()


def _plan_trained(
    prefix: str,
    mode: Literal["transplant", "occlude"],
    folder: Path,
    taken: Sequence[PlannedRun],
    without: Sequence[PlannedRun],
    info: BackendInfo,
    **extra: Any,  # noqa: ANN401 - plain values
) -> PlannedCheck | None:
    if not taken and not without:
        return None
    reason = "The run was made before weights were kept; delete its folder to have it trained again."
    # A run that was deleted and trained again has the same key, and need not have the same weights.
    finished = {
        run.run_id: read_record(folder / "runs" / run.run_id / "result.json", RunResult).finished for run in taken
    }
    extra |= {
        "finished": finished,
        "sources": {run.run_id: run.key for run in taken},
        "left_out": {run.run_id: reason for run in without},
        "keys": {run.run_id: run.key for run in (*taken, *without)},
    }
    content = {
        "mode": mode,
        "versions": dict(info.versions),
        "source": _source("worker/__main__.py", "parity/occlusion.py"),
        **extra,
    }
    spec = (*taken, *without)[0].spec.model_copy(update={"backend": info.name})
    return PlannedCheck(
        name=f"{prefix}-{info.name.replace(':', '.')}",
        mode=mode,
        spec=spec,
        info=info,
        key=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        extra={**extra, "folder": str(folder)},
    )


#: the backend that needs no framework, which the factors are switched in
REFERENCE = "reference"


def _can(info: BackendInfo) -> frozenset[str]:
    return frozenset(info.backend.capabilities)


_HARNESS = Path(__file__).parents[1]


@cache
def _source(*names: str) -> str:
    """Digest of modules of the harness; comments and layout don't count."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(ast.dump(ast.parse((_HARNESS / name).read_bytes())).encode())
    return digest.hexdigest()[:16]


def run_key(spec: RunSpec, info: BackendInfo) -> str:
    """Key of a run: its spec, the versions of what carries it out, and the worker's own.

    A spec without the dataset's fingerprint names a run that can't be carried out; its key is empty.
    """
    if not spec.dataset_fingerprint:
        return ""
    # A continuing twin's noise is measured against the reference.
    noise = {"noise": _source("parity/reference.py")} if spec.twin == "continuing" else {}
    return spec.key({**info.versions, "worker": WORKER_VERSION, **noise})


def largest_first(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Order runs for an executor: as planned, but of a division, its twins and its factors the largest models first.

    A long run that begins last keeps one core busy while the others have nothing left to do.
    """

    def part(run: PlannedRun) -> tuple[str, bool, bool]:
        return run.spec.division, bool(run.spec.twin), bool(run.spec.variant)

    def size(run: PlannedRun) -> int:
        shapes = canonical_shapes(run.spec.model)
        return sum(math.prod(shapes[name]) for name in ("kernel", "recurrent_kernel"))

    return [run for _, group in groupby(runs, part) for run in sorted(group, key=size, reverse=True)]


def number_of_jobs(protocol: Protocol, device: str) -> int:
    """Count the runs to train side by side: as the protocol says, or as many as the cores hold; one on a GPU."""
    if protocol.workers.jobs:
        return protocol.workers.jobs
    return 1 if device == "cuda" else max(1, available_cores() // protocol.workers.threads)


def settings_of(protocol: Protocol, info: BackendInfo) -> tuple[Setting, ...]:
    """List the settings that a backend is measured with, in the protocol's order."""
    return tuple(setting for setting in protocol.timing.settings if setting == "default" or info.backend.tuned)


def threads_of(protocol: Protocol, info: BackendInfo, model: str, setting: Setting) -> int:
    """Count the threads of a worker: the protocol's, or what the tuned setting takes on this machine."""
    threads = protocol.workers.threads
    if setting == "default":
        return threads
    return info.backend.tuned_threads(protocol.model(model), threads=threads, cores=available_cores())


def worker_environment(info: BackendInfo, threads: int, device: str, *, keep_memory: bool = False) -> dict[str, str]:
    """Variables for a worker of this backend."""
    kept = memory_variables() if keep_memory else {}
    return {**thread_variables(threads, device), **kept, **info.backend.worker_environment(threads)}


def choose_device(wanted: Device, backends: Sequence[BackendInfo]) -> Literal["cpu", "cuda"]:
    """Settle on one device for the whole comparison.

    ``auto`` takes ``cuda`` only when every available backend can use it, since a comparison across devices would
    compare the devices.

    Raises
    ------
    UsageError
        ``cuda`` was asked for and a backend can't use it.
    """
    if wanted == "cpu" or not has_nvidia_driver():
        if wanted == "cuda":
            raise UsageError("The device cuda was asked for, but this machine has no NVIDIA driver; use cpu or auto.")
        return "cpu"
    without = []
    for info in backends:
        if info.missing:
            continue
        try:
            devices = devices_of(info)
        except WorkerFailure:
            devices = ()
        if "cuda" not in devices:
            without.append(info.name)
    if without and wanted == "cuda":
        raise UsageError(
            f"The device cuda was asked for, but {' and '.join(without)} can't use it here; use cpu or auto."
        )
    return "cpu" if without else "cuda"


def devices_of(info: BackendInfo) -> tuple[str, ...]:
    """Ask a backend's framework, in a process of its own, for its devices; raises `WorkerFailure`."""
    with tempfile.TemporaryDirectory() as logs:
        worker = WorkerProcess(
            {"mode": "probe", "backend": address(info), "threads": 1},
            environment=worker_environment(info, 1, "cuda"),
            log=Path(logs) / "probe.log",
        )
        return tuple(name for event in worker.events(_PROBE_SECONDS) for name in event.get("devices", ()))


def has_nvidia_driver() -> bool:
    """Whether there is any point in asking a framework for CUDA."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def address(info: BackendInfo) -> dict[str, str]:
    """Say in plain values where a worker finds the backend."""
    return {"name": info.registered.name, "target": info.registered.target}


# --- carrying out -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Progress:
    """Something that happened in a run: ``start``, an event of its worker, or ``end``."""

    run_id: str
    event: str
    content: Mapping[str, Any]


class Executor(Interface):
    """Carries out runs, anywhere."""

    def submit(self, run: PlannedRun) -> Future[RunResult]:
        """Promise the result of a run."""
        ...

    def shutdown(self) -> None:
        """Drop what hasn't begun and stop what has."""
        ...


class LocalExecutor:
    """Worker processes on this machine, up to `jobs` side by side.

    Parameters
    ----------
    folder
        Folder of the comparison.
    dataset
        Folder of the encoded dataset.
    jobs, stall_seconds
        From the protocol.
    """

    def __init__(self, folder: Path, dataset: Path, *, jobs: int, stall_seconds: float) -> None:
        self._folder = folder
        self._dataset = dataset
        self._jobs = jobs
        self._stall_seconds = stall_seconds
        self._pool = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="crosscheck")
        self._workers: set[WorkerProcess] = set()
        self._lock = threading.Lock()
        self._closed = False
        #: what happens in the runs, for whoever shows it
        self.progress: queue.Queue[Progress] = queue.Queue()

    def submit(self, run: PlannedRun) -> Future[RunResult]:
        """Promise the result of a run; one that is on disk under the same key is read, not run again."""
        return self._pool.submit(self._run, run)

    def submit_check(self, check: PlannedCheck) -> Future[Path]:
        """Promise the file of a check; one that is on disk under the same key is taken.

        The future raises `WorkerFailure` for a check that can't be made.
        """
        return self._pool.submit(self._check, check)

    def shutdown(self) -> None:
        """Drop what hasn't begun and kill what has; results on disk stay as they are."""
        with self._lock:
            self._closed = True
            workers = list(self._workers)
        for worker in workers:
            worker.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, run: PlannedRun) -> RunResult:
        folder = self._folder / "runs" / run.run_id
        if stored(self._folder, run):
            result = read_record(folder / "result.json", RunResult)
            self._tell(run.run_id, "end", status=result.status, stored=True)
            return result
        set_aside(self._folder, run.run_id)
        if run.info.unavailable:
            result = self._without(run, "unavailable", Failure(reason=run.info.unavailable))
            write_run(folder, result)
        else:
            self._tell(run.run_id, "start")
            try:
                self._work(run, folder)
                result = read_record(folder / "result.json", RunResult)
            except WorkerFailure as error:
                result = self._without(run, "failed", error.failure)
                if not self._closed:  # a run that we stopped ourselves has not failed
                    write_run(folder, result)
            except CrosscheckError as error:
                result = self._without(run, "failed", Failure(reason=str(error)))
                write_run(folder, result)
        self._tell(run.run_id, "end", status=result.status, stored=False, result=result)
        return result

    def _check(self, check: PlannedCheck) -> Path:
        path = self._folder / check.path
        if check.stored(self._folder):
            self._tell(check.name, "end", status="ok", stored=True)
            return path
        request = {
            "mode": check.mode,
            "spec": check.spec.model_dump(mode="json"),
            "key": check.key,
            "result": str(path),
            **check.extra,
        }
        self._tell(check.name, "start")
        try:
            self._worker(check.name, check.info, check.spec, request)
        except WorkerFailure as error:
            path.unlink(missing_ok=True)
            self._tell(check.name, "end", status="failed", stored=False, reason=error.failure.reason)
            raise
        self._tell(check.name, "end", status="ok", stored=False)
        return path

    def _work(self, run: PlannedRun, folder: Path) -> None:
        request = {
            "mode": "train",
            "spec": run.spec.model_dump(mode="json"),
            "key": run.key,
            "result": str(folder),
            "jobs": self._jobs,
        }
        self._worker(run.run_id, run.info, run.spec, request)

    def _worker(self, name: str, info: BackendInfo, spec: RunSpec, request: Mapping[str, Any]) -> None:
        """Have one worker carry out one request, and pass on what it tells."""
        with self._lock:
            if self._closed:
                raise WorkerFailure(Failure(reason="The comparison was stopped before this run began."))
            worker = WorkerProcess(
                {**request, "backend": address(info), "dataset": str(self._dataset)},
                environment=worker_environment(info, spec.threads, spec.device, keep_memory=True),
                log=self._folder / "logs" / f"{name}.log",
            )
            self._workers.add(worker)
        try:
            self._tell(name, "pid", pid=worker.pid)
            for event in worker.events(self._stall_seconds):
                self._tell(name, event["event"], **{k: v for k, v in event.items() if k != "event"})
        finally:
            worker.stop()
            with self._lock:
                self._workers.discard(worker)

    def _without(self, run: PlannedRun, status: Literal["failed", "unavailable"], why: Failure) -> RunResult:
        return RunResult(
            run_id=run.run_id,
            spec=run.spec,
            key=run.key,
            status=status,
            jobs=self._jobs,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            failure=why,
        )

    def _tell(self, name: str, event: str, **content: Any) -> None:  # noqa: ANN401 - plain values
        self.progress.put(Progress(name, event, content))


def stored(folder: Path, run: PlannedRun) -> bool:
    """Whether the run's result is on disk under its key; one that was set aside is brought back."""
    if stored_key(folder / "runs" / run.run_id) == run.key:
        return True
    aside = _aside(folder, run.run_id, run.key)
    if stored_key(aside) != run.key:
        return False
    set_aside(folder, run.run_id)
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    os.replace(aside, folder / "runs" / run.run_id)
    return True


def set_aside(folder: Path, run_id: str) -> None:
    """Make room for a run: keep a finished result of another protocol, drop a failure.

    Hours of training must not be lost because the next comparison in the same folder asked for something else.
    """
    current = folder / "runs" / run_id
    key = stored_key(current)
    if key is None:
        shutil.rmtree(current, ignore_errors=True)
        return
    aside = _aside(folder, run_id, key)
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(current, aside)


def _aside(folder: Path, run_id: str, key: str) -> Path:
    return folder / "superseded" / f"{run_id}-{key[:16]}"
