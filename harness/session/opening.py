"""From choices to a comparison that can begin: data encoded, device settled, what is planned written down."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.execution.chosen import choose_device, number_of_jobs
from rnn_crosscheck.harness.execution.executor import Executor
from rnn_crosscheck.harness.execution.local import LocalExecutor
from rnn_crosscheck.harness.execution.plan import Plan, of_trained, plan_all
from rnn_crosscheck.harness.folder import MANIFEST, sha256_of, way_to, write_json
from rnn_crosscheck.harness.machine import machine
from rnn_crosscheck.harness.protocol import DataSpec
from rnn_crosscheck.harness.results import DatasetFacts, Manifest
from rnn_crosscheck.harness.session.choices import Choices
from rnn_crosscheck.harness.session.timed import timing_keys


@dataclass(frozen=True)
class Encoded:
    """Where the dataset lies, encoded, and what it is known by."""

    path: Path
    fingerprint: str


@dataclass(frozen=True)
class Opened:
    """A comparison that can begin."""

    dataset: Encoded
    plan: Plan


def call_here(function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - whatever it takes and gives
    """Call a function in this process."""
    return function(*arguments)


def open_comparison(
    choices: Choices, call: Callable[..., Any] = call_here, *, command: str = "", root: Path | None = None
) -> Opened:
    """Encode the data, settle the device, and write down what is going to be compared.

    Parameters
    ----------
    choices
        What is asked for.
    call
        Calls what reads the data, here or in another process.
    command
        As it was typed, for the report.
    root
        Of the repository that the comparison is run in, if it is one.

    Raises
    ------
    CrosscheckError
        The data can't be read or are too few, or a device is missing.
    """
    spec = choices.protocol.data
    dataset: Encoded = call(read_dataset, spec.dataset, choices.data, choices.columns)
    facts: DatasetFacts = call(describe_dataset, dataset.path, spec)
    device = choose_device(choices.device, choices.backends)
    plan = plan_all(
        replace(choices.asked, dataset_fingerprint=dataset.fingerprint, device=device), diagnose=choices.diagnose
    )
    # Before anything else: it says that the folder is ours, should the session end here.
    write_json(choices.folder / MANIFEST, manifest(choices, plan, command, _commit(root or Path.cwd())))
    table = choices.folder / "test.parquet"
    call(write_test_examples, dataset.path, spec, table)
    write_json(choices.folder / "dataset.json", facts.model_copy(update={"files": {table.name: sha256_of(table)}}))
    return Opened(dataset, plan)


def new_executor(choices: Choices, opened: Opened) -> Executor:
    """Have somebody who carries out runs and checks: this machine, or a Ray cluster; raises `UsageError`."""
    workers, folder, dataset = choices.protocol.workers, choices.folder, opened.dataset.path
    if choices.executor == "ray":
        from rnn_crosscheck.harness.execution.ray import RayExecutor

        return RayExecutor(
            folder,
            dataset,
            address=choices.ray_address,
            jobs=workers.jobs,
            stall_seconds=workers.stall_seconds,
        )
    jobs = number_of_jobs(choices.protocol, opened.plan.asked.device)
    return LocalExecutor(folder, dataset, jobs=jobs, stall_seconds=workers.stall_seconds)


def manifest(choices: Choices, plan: Plan, command: str, commit: str) -> Manifest:
    """Describe what was asked for."""
    return Manifest(
        protocol=choices.protocol,
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        device=plan.asked.device,
        backends=tuple(info.name for info in choices.backends),
        inference=tuple(info.name for info in choices.backends if not info.trains),
        runs=tuple(run.run_id for run in plan.runs),
        variants=tuple(run.run_id for run in plan.variants),
        keys={run_id: run.key for run_id, run in plan.by_id.items()},
        parity_keys={check.name: check.key for check in plan.checks},
        trained=of_trained(plan.asked.backends),
        timing_keys=timing_keys(plan.asked),
        commit=commit,
        machine=machine(),
        baseline=way_to(choices.baseline, choices.folder) if choices.baseline else "",
    )


def read_dataset(name: str, data: Path | None, columns: str) -> Encoded:
    """Read and encode a dataset, or find it in the cache; raises as `harness.datasets.load`."""
    dataset = datasets.load(name, data=data, columns=columns)
    return Encoded(dataset.path, dataset.fingerprint)


def describe_dataset(path: Path, spec: DataSpec) -> DatasetFacts:
    """Find the facts about an encoded dataset; raises as `harness.datasets.selection.facts`."""
    from rnn_crosscheck.harness.datasets.dataset import Dataset
    from rnn_crosscheck.harness.datasets.selection import facts

    return facts(Dataset.open(path), spec)


def write_test_examples(path: Path, spec: DataSpec, table: Path) -> None:
    """Write the test examples of an encoded dataset for the report."""
    from rnn_crosscheck.harness.datasets.dataset import Dataset
    from rnn_crosscheck.harness.datasets.selection import write_test_table

    write_test_table(Dataset.open(path), spec, table)


def _commit(folder: Path) -> str:
    """Commit of the repository that the comparison is run in, or nothing."""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
