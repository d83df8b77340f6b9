"""Which backends a comparison has, on which device, and what a worker of each is started with.

A backend is looked at without importing its framework; who asks for its devices starts a process that does.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Literal

from rnn_crosscheck.harness.backend import Backend
from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.execution.process import WorkerFailure, WorkerProcess
from rnn_crosscheck.harness.machine import available_cores, memory_variables
from rnn_crosscheck.harness.protocol import Device, Protocol, Setting
from rnn_crosscheck.harness.registry import Registered, find, install_command, missing_distributions, versions

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
        """What it calls itself, in results and reports, however it was found."""
        return self.backend.name

    @property
    def trains(self) -> bool:
        """Whether it trains anything."""
        return "inference" not in self.backend.capabilities

    @property
    def unavailable(self) -> str:
        """Why nothing can be run with it, with what to do; empty when all is there."""
        if not self.missing:
            return ""
        are = "are" if len(self.missing) > 1 else "is"
        needed = " and ".join(self.missing)
        return f"{self.name} needs {needed}, which {are} not installed: {install_command(self.backend)}"


def look_in(folder: Path) -> None:
    """Let `look_up` find local backends (``module:Class``) in a folder; last of all, so that they shadow nothing."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def look_up(names: Sequence[str]) -> tuple[BackendInfo, ...]:
    """Find backends by name; raises `UsageError` for an unknown or a repeated one."""
    if len(set(names)) != len(names):
        raise UsageError(f"Each backend is named once; got {', '.join(names)}.")
    found = [(registered, registered.load()) for registered in map(find, names)]
    infos = [BackendInfo(registered, backend, missing_distributions(backend)) for registered, backend in found]
    for one, other in combinations(infos, 2):
        if _on_disk(one.name) == _on_disk(other.name):
            raise UsageError(
                f"{one.registered.target} and {other.registered.target} are both called {one.name!r}, which nothing "
                "could tell apart; rename one of them."
            )
    return tuple(infos)


def _on_disk(name: str) -> str:
    """Give what a name becomes in a path, on a system that tells no capitals from small letters."""
    return name.replace(":", ".").casefold()


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
    """Variables for a worker of this backend; those of numerical libraries' thread pools whatever the framework."""
    pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    variables = {**dict.fromkeys(pools, str(threads)), "PYTHONHASHSEED": "0"}
    if device == "cpu":
        variables["CUDA_VISIBLE_DEVICES"] = ""
    if keep_memory:
        variables |= memory_variables()
    return {**variables, **info.backend.worker_environment(threads)}


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
            {"backend": address(info)},
            {"mode": "probe", "threads": 1},
            environment=worker_environment(info, 1, "cuda"),
            log=Path(logs) / "probe.log",
        )
        return tuple(name for event in worker.events(_PROBE_SECONDS) for name in event.get("devices", ()))


def has_nvidia_driver() -> bool:
    """Whether there is any point in asking a framework for CUDA."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def address(info: BackendInfo) -> dict[str, str]:
    """Say in plain values where a worker finds the backend."""
    return {"name": info.name, "target": info.registered.target}
