"""Carries out runs and checks on a Ray cluster, each in a fresh worker process of ours on one of its nodes.

Ray is the extra ``ray``, and is imported when a comparison asks for it.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import tarfile
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.execution.executor import Executor
from rnn_crosscheck.harness.execution.shelf import put
from rnn_crosscheck.harness.execution.site import Outcome, Task
from rnn_crosscheck.harness.folder import new_file
from rnn_crosscheck.harness.machine import available_cores
from rnn_crosscheck.harness.results import Failure

#: how often a task is carried out anew when its node is gone
_RETRIES = 2
#: seconds to reach a cluster, and between two looks at the news
_REACH, _LOOK = 10.0, 0.25
#: memory of a Ray that is started here, for what travels between processes
_STORE = 256 * 2**20


class RayExecutor(Executor):
    """Fresh worker processes on the nodes of a Ray cluster.

    Parameters
    ----------
    folder, dataset
        Of the comparison, and of the encoded dataset.
    address
        ``auto`` for the cluster that this machine belongs to, or HOST:PORT of its head; empty to start Ray here, and
        to stop it at the end.
    jobs
        Tasks side by side at most; 0 for as many as the cluster has room for.
    stall_seconds
        How long a worker may say nothing.

    Raises
    ------
    UsageError
        Ray isn't installed, or there is no such cluster.
    """

    def __init__(self, folder: Path, dataset: Path, *, address: str, jobs: int, stall_seconds: float) -> None:
        self._ray = ray = _connect(address)
        cores = int(ray.cluster_resources().get("CPU", 1))
        super().__init__(folder, at_once=jobs or max(64, 2 * cores))
        self._jobs = jobs
        self._stall_seconds = stall_seconds
        self._lock = threading.Lock()
        self._under_way: set[Any] = set()
        #: why a node gets no more tasks: by its id, and by the backend that it can't serve, or "" for all of them
        self._unfit: dict[tuple[str, str], str] = {}
        self._dataset = dataset.name, Dataset.open(dataset).fingerprint, [ray.put(_packed(dataset))]
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        self._news = ray.remote(_News).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
        self._telling = threading.Lock()
        self._remote = ray.remote(_on_a_node())
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def shutdown(self) -> None:
        """See `Executor.shutdown`; a Ray that was started here ends as well."""
        try:
            super().shutdown()
        finally:
            self._over.set()
            self._reader.join(timeout=_REACH)
            self._ray.shutdown()

    def _stop(self) -> None:
        with self._lock:
            under_way = list(self._under_way)
        for task in under_way:
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(task, force=True)

    def _carry_out(self, task: Task) -> Iterator[Outcome]:
        steps = {step["name"]: step["path"] for step in task.steps}
        files = self._ray.put(_files(self._folder, task)) if task.needs else {}
        answer = self._answer(task, files)
        if "failure" in answer:
            yield from (Outcome(name, Failure(reason=answer["failure"])) for name in steps)
            return
        with suppress(self._ray.exceptions.RayError):  # what is told never costs a result
            self._pass_on()
        for name, content in answer["logs"].items():
            with new_file(self._folder / "logs" / Path(name).name) as scratch:
                scratch.write_bytes(content)
        for outcome in answer["outcomes"]:
            if outcome["failure"] is None:
                put(self._folder / steps[outcome["name"]], outcome["files"])
                yield Outcome(outcome["name"])
            else:
                yield Outcome(outcome["name"], Failure(**outcome["failure"]))

    def _answer(self, task: Task, files: object) -> Mapping[str, Any]:
        """Have a task carried out by a node that can; what it answers, or ``failure``, why none did.

        A task ends badly for Ray only if its node or Ray's own process is gone: it is carried out anew.
        """
        of = task.backend["name"]
        while True:
            with self._lock:
                unfit = {node: why for (node, whom), why in self._unfit.items() if whom in ("", of)}
            if not (cores := self._cores(task, unfit)):
                told = [f"{self._name(node)}: {why}" for node, why in unfit.items()]
                return {"failure": f"No node of the cluster can carry it out: {'; '.join(told) or 'none has a GPU'}."}
            with self._lock:
                if self._closed:
                    return {"failure": "The comparison was stopped before this run began."}
                asked = self._remote.options(
                    num_cpus=min(task.threads, cores),
                    num_gpus=int(task.device == "cuda"),
                    label_selector={"ray.io/node-id": f"!in({','.join(unfit)})"} if unfit else None,
                    max_retries=_RETRIES,
                ).remote(task.plain(), files, self._dataset, self._news, self._jobs, self._stall_seconds)
                self._under_way.add(asked)
            try:
                answer: Mapping[str, Any] = self._ray.get(asked)
            except self._ray.exceptions.RayError as error:
                return {"failure": _in_a_line(error)}
            finally:
                with self._lock:
                    self._under_way.discard(asked)
            if "unfit" not in answer:
                return answer
            self._leave_out(answer["node"], answer.get("of", ""), answer["unfit"])

    def _cores(self, task: Task, unfit: Collection[str]) -> int:
        """Count the cores of the largest node that can carry out a task; 0 if there is none, or none has its GPU."""
        fit = [node["Resources"] for node in self._ray.nodes() if node["Alive"] and node["NodeID"] not in unfit]
        return max((int(has.get("CPU", 0)) for has in fit if task.device != "cuda" or has.get("GPU", 0)), default=0)

    def _leave_out(self, node: str, of: str, why: str) -> None:
        """Give a node no more tasks, or none of a backend, and say so once."""
        with self._lock:
            known = (node, of) in self._unfit
            self._unfit[node, of] = why
        if not known:
            self._tell(self._name(node), "unfit", {"reason": f"runs of {of}: {why}" if of else f"runs: {why}"})

    def _name(self, node: str) -> str:
        """Name a node by its host, and by its id too where the host has several."""
        hosts = {each["NodeID"]: each["NodeManagerHostname"] for each in self._ray.nodes() if each["Alive"]}
        host = hosts.get(node, "a node")
        return host if list(hosts.values()).count(host) == 1 else f"{host} ({node[:6]})"

    def _read(self) -> None:
        while not self._over.wait(_LOOK):
            with suppress(self._ray.exceptions.RayError):
                self._pass_on()

    def _pass_on(self) -> None:
        """Pass on what has happened on the nodes."""
        with self._telling:  # else an end might be told before what came before it
            for node, name, event, content in self._ray.get(self._news.take.remote(), timeout=_REACH):
                self._tell(name, event, {**content, "node": self._name(node)} if event == "start" else content)


class _News:
    """What happens on the nodes, kept until it is asked for; an actor beside the process that leads."""

    def __init__(self) -> None:
        self._told: list[tuple[str, str, str, Mapping[str, Any]]] = []

    def tell(self, node: str, name: str, event: str, content: Mapping[str, Any]) -> None:
        self._told.append((node, name, event, content))

    def take(self) -> list[tuple[str, str, str, Mapping[str, Any]]]:
        told, self._told = self._told, []
        return told


def _on_a_node() -> Any:  # noqa: ANN401 - a function that travels by value: a node without our package can say so
    def carry_out(task: Any, files: Any, dataset: Any, news: Any, *limits: Any) -> dict[str, Any]:  # noqa: ANN401
        from contextlib import suppress

        import ray

        node: str = ray.get_runtime_context().get_node_id()
        told: list[Any] = []

        def tell(*what: Any) -> None:  # noqa: ANN401
            told[:] = [news.tell.remote(node, *what)]

        name, fingerprint, (packed,) = dataset
        try:
            from rnn_crosscheck.harness.execution import node as ours

            answer = ours.carry_out(task, files, (name, fingerprint, lambda: ray.get(packed)), tell, *limits)
        except Exception as error:  # noqa: BLE001 - whatever a machine has against it: another may not
            return {"node": node, "unfit": f"it can't carry out anything ({type(error).__name__}: {error})"}
        with suppress(ray.exceptions.RayError):
            ray.get(told)  # what was told comes before the answer
        return {"node": node, **answer}

    return carry_out


def _connect(address: str) -> Any:  # noqa: ANN401 - the module, which has no types that we could use
    """Join a cluster, or start one here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address:
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "4")  # else it looks for minutes
    else:
        # Ray would start what needs too much memory again and again; here it is killed by the system, and has failed.
        os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise UsageError(
            "--crosscheck-executor ray needs Ray, which is not installed: pip install 'rnn-crosscheck[ray]'"
        ) from None
    _refuse_silent(address)
    where: dict[str, Any] = {"address": address} if address else {"address": "local", "num_cpus": available_cores()}
    if not address:
        where |= {"include_dashboard": False, "object_store_memory": _STORE}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**where, log_to_driver=False, logging_level="ERROR", configure_logging=True)
    except Exception as error:  # noqa: BLE001 - whatever Ray raises; its first line says it
        raise UsageError(
            f"No Ray cluster answers at {address or 'this machine'}: {_in_a_line(error)} Start one with "
            "'ray start --head', or leave --crosscheck-ray-address out to start Ray for this comparison alone."
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # ours to heed
    return ray


def _refuse_silent(address: str) -> None:
    """Refuse an address that is none, or that nobody listens at; Ray itself would wait for minutes."""
    where = _written_down() if address == "auto" else address
    host, _, port = where.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        if address in ("", "auto"):
            return  # Ray starts one, or knows another way
        raise UsageError(f"--crosscheck-ray-address needs auto or HOST:PORT of the cluster's head, got {address!r}.")
    try:
        socket.create_connection((host, int(port)), timeout=_REACH).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"No Ray cluster answers at {where}: {str(error) or 'no answer'}. Start one with 'ray start --head', or "
            "leave --crosscheck-ray-address out to start Ray for this comparison alone."
        ) from None


def _written_down() -> str:
    """Give the address that Ray takes for ``auto``: RAY_ADDRESS, else what the last ``ray start`` wrote down."""
    folders = ("RAY_TMPDIR", "TMPDIR") if sys.platform == "linux" else ("RAY_TMPDIR",)
    folder = next((os.environ[name] for name in folders if os.environ.get(name)), "/tmp")
    with suppress(OSError, ValueError):
        return os.environ.get("RAY_ADDRESS") or Path(folder, "ray", "ray_current_cluster").read_text().strip()
    return ""


def _in_a_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if "Traceback" in str(error) else 0]  # of what was raised elsewhere, the error comes last


def _packed(folder: Path) -> bytes:
    """Pack an encoded dataset for nodes that don't have it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(folder, arcname=".")
    return packed.getvalue()


def _files(folder: Path, task: Task) -> dict[str, bytes]:
    """Read what a task needs of other runs."""
    paths = (path for place in task.needs for path in (folder / place).glob("*"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}
