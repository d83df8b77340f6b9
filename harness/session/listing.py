"""What ``pytest --crosscheck-list`` shows: every registered backend, and whether it can be used here."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from tabulate import tabulate

from rnn_crosscheck.harness.errors import ContractError
from rnn_crosscheck.harness.execution.chosen import BackendInfo, devices_of, look_up
from rnn_crosscheck.harness.execution.process import WorkerFailure
from rnn_crosscheck.harness.machine import available_cores
from rnn_crosscheck.harness.registry import Registered, install_command, registered


@dataclass(frozen=True)
class Availability:
    """Whether a backend can be used here.

    Attributes
    ----------
    status
        ``available``, ``not installed``, or ``broken``: it is installed, but its framework or its class can't be used.
    why
        What is wrong and what to do, or the devices and versions of one that is available.
    """

    status: Literal["available", "not installed", "broken"]
    why: str

    def __str__(self) -> str:
        return f"{self.status}: {self.why}" if self.status == "broken" else self.status


def availability(backend: Registered) -> Availability:
    """Look at a backend, and use its framework in a process of its own."""
    try:
        backend.load()
    except ContractError as error:
        return Availability("broken", str(error))
    (info,) = look_up([backend.name])
    if info.missing:
        return Availability("not installed", install_command(info.backend))
    try:
        devices = devices_of(info)
    except WorkerFailure as error:
        return Availability("broken", error.failure.reason)
    return Availability("available", "; ".join(part for part in (", ".join(devices), _versions(info)) if part))


def _versions(info: BackendInfo) -> str:
    return ", ".join(f"{name} {version}" for name, version in info.versions.items() if name not in ("numpy", "source"))


def listing(backends: Iterable[Registered] | None = None) -> str:
    """Give the table: name, availability, capabilities, and what there is to know or to do."""
    rows = []
    listed = sorted(registered().values() if backends is None else backends, key=lambda found: found.name)
    # Frameworks take seconds to start, each in a process of its own.
    with ThreadPoolExecutor(max_workers=available_cores()) as pool:
        looked_at = list(pool.map(availability, listed))
    for backend, found in zip(listed, looked_at, strict=True):
        try:
            claimed = ", ".join(sorted(backend.load().capabilities))
        except ContractError:
            claimed = ""
        rows.append((backend.name, found.status, claimed, found.why))
    return tabulate(rows, headers=("backend", "availability", "capabilities", "devices and versions, or what to do"))
