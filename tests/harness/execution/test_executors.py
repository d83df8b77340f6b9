"""One suite for whatever carries out runs and checks: this machine, or a Ray cluster of three nodes on it."""

from __future__ import annotations

import json
import queue
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.execution.chosen import look_up
from rnn_crosscheck.harness.execution.executor import Executor, Planned
from rnn_crosscheck.harness.execution.local import LocalExecutor
from rnn_crosscheck.harness.execution.plan import (
    Asked,
    PlannedRun,
    plan,
    plan_checks,
    plan_occlusions,
    plan_transplants,
    together,
)
from rnn_crosscheck.harness.execution.process import WorkerFailure
from rnn_crosscheck.harness.execution.ray import RayExecutor
from rnn_crosscheck.harness.execution.site import Task, refuse_others, task_of
from rnn_crosscheck.harness.protocol import load_protocol
from rnn_crosscheck.harness.results import RunResult, read_record, read_run
from tests.harness.session.test_ending import Launched, until
from tests.harness.session.test_session import arguments

TINY = (
    "data.train_examples=64",
    "data.valid_examples=20",
    "data.test_examples=40",
    "data.length=8",
    "training.epochs=1",
    "parity.initial_twins=0",
    "parity.continuing_twins=1",
)
#: what of a result is of the moment, or of the machine
PASSING = {"durations", "finished", "history", "jobs", "peak_memory_bytes", "machine"}


def asked(*backends: str, models: tuple[str, ...] = ("rnn",)) -> Asked:
    of, fingerprint = load_protocol("quick", TINY), datasets.load("reviews").fingerprint
    return Asked(of, look_up(backends), models, ("native", "matched"), fingerprint)


def dataset() -> Path:
    return datasets.load("reviews").path


def local(folder: Path) -> Executor:
    return LocalExecutor(folder, dataset(), jobs=2, stall_seconds=60)


@contextmanager
def ray_cluster(*caches: str, head: int = 1) -> Iterator[Any]:
    """Start a head of some cores, and a node of one core for each folder that is the cache of its datasets."""
    utils = pytest.importorskip("ray.cluster_utils", reason="needs Ray: pip install 'rnn-crosscheck[ray]'")
    store = {"object_store_memory": 80 * 2**20}
    started = utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": head, "include_dashboard": False, **store}
    )
    try:
        for cache in caches:
            started.add_node(num_cpus=1, env_vars={"CROSSCHECK_CACHE": cache}, **store)
        yield started
    finally:
        started.shutdown()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of three nodes."""
    with ray_cluster(*(str(tmp_path_factory.mktemp("cache")) for _ in range(2))) as started:
        yield started.address


def on(address: str, folder: Path) -> Executor:
    return RayExecutor(folder, dataset(), address=address, jobs=0, stall_seconds=60)


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.long)])
def start(request: pytest.FixtureRequest) -> Callable[[Path], Executor]:
    """Start an executor on a folder."""
    if request.param == "local":
        return local
    address = request.getfixturevalue("cluster")
    return lambda folder: on(address, folder)


def carried_out(executor: Executor, groups: list[list[Planned]]) -> dict[str, Future[Path]]:
    promised: dict[str, Future[Path]] = {}
    for group in groups:
        promised |= executor.submit(group)
    for future in promised.values():
        future.exception(timeout=300)
    return promised


def everything(folder: Path, start: Callable[[Path], Executor], *backends: str) -> Counter[str]:
    """Carry out all that a comparison can ask for; how often each event was told."""
    wanted = asked(*backends)
    runs = plan(wanted, seeds=[0])
    executor = start(folder)
    try:
        groups: list[list[Planned]] = [[run] for run in runs]
        groups += [list(group) for group in together(plan_checks(wanted))]
        for future in carried_out(executor, groups).values():
            future.result()
        chosen = {run.run_id: examples(folder, run) for run in runs}
        for info in wanted.backends:
            trained = [plan_transplants(folder, runs, info), plan_occlusions(folder, runs, info, chosen)]
            for future in carried_out(executor, [[check for check in trained if check is not None]]).values():
                future.result()
    finally:
        executor.shutdown()
    return Counter(progress.event for progress in executor.progress.queue)


def examples(folder: Path, run: PlannedRun) -> list[str]:
    import pyarrow.parquet as pq

    found: list[str] = pq.read_table(folder / run.path / "predictions.parquet")["example_id"].to_pylist()
    return found[:2]


def content(folder: Path) -> dict[str, Any]:
    """What a folder says, without what is of the moment: tables and weights to the bit, records as they are."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".npz":
            with np.load(path) as weights:
                found[name] = {key: weights[key].tobytes() for key in weights.files}
        elif path.suffix == ".parquet":
            found[name] = path.read_bytes()
        elif path.suffix == ".json":
            record = json.loads(path.read_text())
            gone = PASSING | {"sha256", "seconds", "files"}
            found[name] = {key: value for key, value in record.items() if key not in gone}
    return found


@pytest.mark.slow
def test_whoever_carries_it_out_the_bits_are_the_same(tmp_path: Path, start: Callable[[Path], Executor]) -> None:
    # Here it is the same executor twice: one backend is enough to see that it repeats itself.
    backends = ("reference",) if start is local else ("reference", "pytorch")
    told = everything(tmp_path / "here", local, *backends)
    assert everything(tmp_path / "there", start, *backends) >= Counter(
        {event: told[event] for event in ("start", "end", "epoch")}
    )
    here, there = content(tmp_path / "here"), content(tmp_path / "there")
    assert here.keys() == there.keys()
    assert {name.partition("/")[0] for name in here} == {"runs", "parity", "transplants", "occlusions"}
    for name in here:
        assert strip_finished(here[name]) == strip_finished(there[name]), name
    for run in plan(asked(*backends), seeds=[0]):
        read_run(tmp_path / "there" / run.path)


def strip_finished(value: Any) -> Any:
    return {k: v for k, v in value.items() if k not in ("finished", "key")} if isinstance(value, Mapping) else value


@pytest.mark.slow
def test_what_is_on_disk_is_not_made_again(tmp_path: Path, start: Callable[[Path], Executor]) -> None:
    groups: list[list[Planned]] = [[run] for run in plan(asked("reference"), seeds=[0])]
    for expected in ({"start", "pid", "end"}, {"end"}):
        executor = start(tmp_path)
        carried_out(executor, groups)
        executor.shutdown()
        assert {progress.event for progress in executor.progress.queue} - {"progress", "epoch"} == expected


@pytest.mark.slow
def test_a_worker_that_dies_fails_its_run_alone(tmp_path: Path, start: Callable[[Path], Executor]) -> None:
    wanted = asked("tests.fakes:Dying", "tests.fakes:Steady")
    executor = start(tmp_path)
    promised = carried_out(executor, [[run] for run in plan(wanted, seeds=[0]) if run.spec.division == "native"])
    executor.shutdown()
    bad, good = promised.values()
    error = bad.exception()
    assert isinstance(error, WorkerFailure)
    assert "killed by SIGKILL" in error.failure.reason
    (failed,) = [read_record(path, RunResult) for path in tmp_path.glob("runs/*Dying*/result.json")]
    assert (failed.status, failed.failure) == ("failed", error.failure)
    assert read_record(good.result() / "result.json", RunResult).status == "ok"


@pytest.mark.slow
def test_what_is_stopped_has_not_failed_and_leaves_no_process(
    tmp_path: Path, start: Callable[[Path], Executor]
) -> None:
    executor = start(tmp_path)
    (run, *_) = plan(asked("tests.fakes:Hanging"), seeds=[0])
    promise = executor.submit([run])[run.name]
    pid = 0
    while not pid:
        progress = executor.progress.get(timeout=60)
        pid = progress.content["pid"] if progress.event == "pid" else 0
    executor.shutdown()
    assert isinstance(promise.exception(timeout=10), WorkerFailure)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()
    assert not list(tmp_path.glob("runs/*"))


def elsewhere(backend: str) -> PlannedRun:
    """Give a run of a backend with another NumPy."""
    wanted = asked(backend)
    (info,) = wanted.backends
    other = replace(info)
    other.__dict__["versions"] = {**info.versions, "numpy": "0.0.1"}
    (run, *_) = plan(replace(wanted, backends=(other,)), seeds=[0])
    return run


def test_a_task_is_plain_and_is_refused_where_versions_differ() -> None:
    (run, *_) = plan(asked("tests.fakes:Named"), seeds=[0])
    task = task_of([run])
    assert Task(**json.loads(json.dumps(task.plain()))).plain() == json.loads(json.dumps(task.plain()))
    assert str(Path.cwd()) not in json.dumps(task.plain())
    assert refuse_others(task) == ""
    found = refuse_others(task_of([elsewhere("tests.fakes:Steady")]))
    assert re.fullmatch(r"it has numpy [\d.]+ \(the comparison has 0\.0\.1\)", found)
    gone = replace(task, backend={"name": "gone", "target": "tests.fakes:Gone"})
    assert "tests.fakes:Gone" in refuse_others(gone)


# --- Ray alone ----------------------------------------------------------------------------------------------


def test_ray_that_is_not_installed_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"which is not installed: pip install 'rnn-crosscheck\[ray\]'$"):
        on("", tmp_path)


@pytest.mark.parametrize(
    "address", ["127.0.0.1:9", "nobody.invalid:6379", "ray://here:10001", "here", "localhost:port"]
)
def test_an_address_that_nobody_answers_is_a_sentence(tmp_path: Path, address: str) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'rnn-crosscheck[ray]'")
    with pytest.raises(UsageError, match=r"^(No Ray cluster answers at|--crosscheck-ray-address needs) .*\.$"):
        on(address, tmp_path)


def test_a_head_that_went_without_a_word_is_a_sentence_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'rnn-crosscheck[ray]'")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    # Ray leaves it behind, and looked for its writer for three minutes.
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:9")
    with pytest.raises(UsageError, match=r"^No Ray cluster answers at 127\.0\.0\.1:9: "):
        on("auto", tmp_path)


@pytest.mark.slow
@pytest.mark.long
def test_a_node_that_goes_costs_a_rerun_and_one_without_a_disk_gets_nothing(tmp_path: Path) -> None:
    caches = [str(tmp_path / "cache"), str(tmp_path / "other cache"), "/dev/null/no-disk"]
    runs = [run for run in plan(asked("tests.fakes:Slow"), seeds=range(6)) if run.spec.division == "native"]
    with ray_cluster(*caches, head=0) as cluster:
        executor = on(cluster.address, tmp_path / "comparison")
        promised: dict[str, Future[Path]] = {}
        for run in runs:
            promised |= executor.submit([run])
        nodes = {node.node_id[:6]: node for node in cluster.list_all_nodes()}
        unfit, gone, starts = [], "", Counter[str]()
        while not all(future.done() for future in promised.values()):
            try:
                progress = executor.progress.get(timeout=1)
            except queue.Empty:
                continue
            if progress.event == "unfit":
                unfit.append(progress.content["reason"])
            if progress.event == "start":
                starts[progress.run_id] += 1
                node = progress.content["node"][-7:-1]
                assert node != gone
                if not gone and sum(starts.values()) == 3:
                    cluster.remove_node(nodes[node], allow_graceful=False)
                    gone = node
        executor.shutdown()
    assert gone
    assert [future.exception() for future in promised.values()] == [None] * len(runs)
    assert sum(starts.values()) > len(runs)
    assert len(unfit) == 1
    assert unfit[0].startswith("runs: it can't carry out anything (NotADirectoryError: ")


@pytest.mark.slow
@pytest.mark.long
def test_other_versions_are_refused_in_a_sentence(tmp_path: Path, cluster: str) -> None:
    executor = on(cluster, tmp_path)
    promised: dict[str, Future[Path]] = {}
    for run in (elsewhere("reference"), plan(replace(asked("pytorch"), device="cuda"), seeds=[0])[0]):
        promised |= executor.submit([run])
    there, gpu = [future.exception(timeout=120) for future in promised.values()]
    # What is wrong with one backend is nothing against the nodes.
    (fine, *_) = plan(asked("tests.fakes:Named"), seeds=[0])
    assert executor.submit([fine])[fine.name].result(timeout=120).exists()
    executor.shutdown()
    assert isinstance(there, WorkerFailure)
    assert there.failure.reason.startswith("No node of the cluster can carry it out: ")
    assert there.failure.reason.count("it has numpy ") == 3
    assert "(the comparison has 0.0.1)" in there.failure.reason
    assert isinstance(gpu, WorkerFailure)
    assert gpu.failure.reason == "No node of the cluster can carry it out: none has a GPU."


@pytest.mark.slow
@pytest.mark.long
def test_a_leader_that_is_killed_leaves_no_worker_on_a_cluster_that_stays(tmp_path: Path, cluster: str) -> None:
    script = f"""
from pathlib import Path
from tests.harness.execution.test_executors import asked, on, plan
executor = on({cluster!r}, Path({str(tmp_path)!r}))
run, *_ = plan(asked("tests.fakes:Hanging"), seeds=[0])
executor.submit([run])
while (progress := executor.progress.get()).event != "pid":
    pass
print(progress.content["pid"], flush=True)
executor.progress.get()
executor.progress.get(timeout=100)
"""
    launched = Launched("-c", script, folder=tmp_path)
    assert launched.process.stdout is not None
    worker = Path("/proc") / next(line.strip() for line in launched.process.stdout if line.strip().isdigit())
    assert worker.exists()
    launched.send(signal.SIGKILL)
    until(lambda: not worker.exists())
    assert not worker.exists()
    launched.end()


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 2), (signal.SIGTERM, 143)])
def test_a_leader_that_ends_leaves_no_process_and_the_same_command_goes_on(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'rnn-crosscheck[ray]'")
    command = [
        "-m",
        "pytest",
        *arguments("reference", "--crosscheck-models", "rnn", "--crosscheck-seeds", "3"),
        "--crosscheck-executor=ray",
        "-k",
        "not timing",
    ]
    first = Launched(*command, folder=tmp_path)
    until(lambda: bool(list(tmp_path.glob("comparison/runs/[!.]*/result.json"))), 120)
    finished = {path: path.read_bytes() for path in tmp_path.glob("comparison/runs/[!.]*/result.json")}
    assert finished
    first.send(number)
    until(lambda: not any("rnn_crosscheck" in process for process in first.alive()))
    assert not any("rnn_crosscheck" in process for process in first.alive())
    until(lambda: not first.alive(), 60.0)  # Ray's own agents look now and then whether somebody is there
    first.end()
    assert first.process.returncode == code

    second = Launched(*command, folder=tmp_path)
    said = second.end(300)
    assert second.process.returncode == 0, said
    assert said.count("already on disk") >= len(finished)
    for path, before in finished.items():
        assert path.read_bytes() == before
