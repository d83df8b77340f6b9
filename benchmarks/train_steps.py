"""The train step of every backend, default and tuned, beside each other: writes ``docs/comparisons/backends.md``.

    python benchmarks/train_steps.py --data FOLDER

Measures every backend that trains and can be used here (`pytest --crosscheck-list`) at the sizes of full IMDB, in turn,
as a comparison does, and copies the rows of the training step out of its report. Needs the folder with imdb.npz;
takes a quarter of an hour.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from rnn_crosscheck.harness.registry import missing_distributions, registered
from rnn_crosscheck.reports.analysis.findings import find
from rnn_crosscheck.reports.analysis.frames import each
from rnn_crosscheck.reports.pages.markdown import document, escape, note, table, text
from rnn_crosscheck.reports.pages.speed import timing_columns
from rnn_crosscheck.reports.read.comparison import load
from rnn_crosscheck.reports.writing import listing

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "comparisons" / "backends.md"
#: the baseline comes first
FIRST = "keras-tensorflow"


def backends() -> list[str]:
    """List the backends that train in both divisions and are installed."""
    found = []
    for name, entry in registered().items():
        backend = entry.load()
        if {"native", "matched"} <= backend.capabilities and not missing_distributions(backend):
            found.append(name)
    return sorted(found, key=lambda name: (name != FIRST, name))


def measure(folder: Path, data: Path, models: str, options: list[str]) -> None:
    """Time the training step in every backend."""
    command = [sys.executable, "-m", "pytest", "--benchmark", "-q", "-p", "no:cacheprovider", "-k", "timing"]
    command += ["--crosscheck-protocol", "imdb-models", "--crosscheck-models", models]
    command += ["--crosscheck-backends", ",".join(backends()), f"--crosscheck-data={data.absolute()}"]
    for override in ['timing.operations=["train_step"]', *options]:
        command += ["--crosscheck-set", override]
    done = subprocess.run(command, cwd=folder, check=False)
    if not (folder / "comparison" / "report.md").is_file():
        sys.exit(done.returncode or 1)


def page(comparison: Path) -> str:
    """Write the page: one table a model, and what was measured with what."""
    loaded = load(comparison)
    findings = find(loaded)
    protocol = loaded.manifest.protocol

    def blocks() -> Iterator[str]:
        yield "# Every backend's training step"
        yield (
            f"Native models on full IMDB, batches of {protocol.training.batch_size}, length {protocol.data.length}, "
            f"{protocol.workers.threads} thread a worker where the setting doesn't say otherwise. Written by "
            f"`python benchmarks/train_steps.py`, {escape(loaded.manifest.created)}."
        )
        for failed, reason in loaded.timings.failures.items():
            yield f"- **{escape(failed)} was not timed**: {escape(reason)}"
        for model in dict.fromkeys(findings.timings["model"]):
            rows = findings.timings[findings.timings["model"] == model].sort_values("ratio", kind="stable")
            yield f"## {escape(model)}"
            yield table(rows, timing_columns())
        if len(findings.again):
            said = [f"{row.model} {row.ratio:.3f}" for row in each(findings.again)]
            yield note(f"The baseline against its own second worker: {listing(said)}. That is this machine's noise.")
        yield "## With what"
        told = {record.backend: record.environment for record in loaded.timings.records if record.setting == "default"}
        facts = pd.DataFrame(told).fillna("").rename_axis("fact").reset_index()
        yield table(facts, [text(name, name) for name in facts.columns], padded=False)

    return document(blocks()) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("CROSSCHECK_DATA"), help="folder with imdb.npz")
    parser.add_argument("--models", default="rnn,lstm,gru")
    parser.add_argument("--set", action="append", default=[], help="override of the protocol, as in --crosscheck-set")
    parser.add_argument("--comparison", type=Path, help="one that was measured before, instead of measuring")
    options = parser.parse_args()
    if options.comparison is None and options.data is None:
        parser.error("give --data, or set CROSSCHECK_DATA")
    with TemporaryDirectory() as name:
        if options.comparison is None:
            measure(Path(name), Path(options.data), options.models, options.set)
        PAGE.write_text(page(options.comparison or Path(name) / "comparison"), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
