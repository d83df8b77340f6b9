"""What is asked of trained weights: whether another backend predicts the same from them, and which words mattered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from rnn_crosscheck.harness import results, tables
from rnn_crosscheck.harness.backend import Model
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.datasets.selection import Block, apply
from rnn_crosscheck.harness.errors import ContractError, ResultsError
from rnn_crosscheck.harness.folder import write_json
from rnn_crosscheck.harness.parity import occlusion
from rnn_crosscheck.harness.protocol import DataSpec
from rnn_crosscheck.harness.weights import check_weights, read_weights
from rnn_crosscheck.harness.worker.job import CHUNK, Job

T = TypeVar("T")

_PREDICTED, _WORDS = tables.schema(tables.OCCLUDED), tables.schema(tables.WORDS)


@dataclass(frozen=True)
class _Trained:
    """A run, and what it was trained to in a fresh model of the job's backend."""

    place: Path
    result: results.RunResult
    model: Model


@dataclass(frozen=True, eq=False)
class _Example:
    """One example that was chosen to be read: with words left out, and its words as rows of their table."""

    name: str
    occluded: occlusion.Occluded
    words: list[dict[str, Any]]


def transplant(job: Job) -> None:
    """Predict with the trained weights of other runs, and compare with what those runs predicted."""
    spec, dataset, _ = job.open()
    job.setup(spec)
    begun = perf_counter()
    found, facts = _each(job, lambda run: _compared(job, run, apply(dataset, run.result.spec.data).test))
    record = results.TransplantsRecord(**facts, transplants=tuple(found.values()), seconds=perf_counter() - begun)
    write_json(job.place, record)


def occlude(job: Job) -> None:
    """Predict chosen examples of each run with words left out, all of a run's together."""
    spec, dataset, selection = job.open()
    job.setup(spec)
    begun = perf_counter()
    chosen: Mapping[str, Sequence[str]] = job.request["examples"]
    names = dict.fromkeys(name for names in chosen.values() for name in names)
    examples = {example.name: example for example in _examples(dataset, selection.test, spec.data, names)}
    found, facts = _each(job, lambda run: _predicted(job, run, [examples[name] for name in chosen[run.place.name]]))
    runs = {run_id: tuple(chosen[run_id]) for run_id in found}
    shown = dict.fromkeys(name for names in runs.values() for name in names)
    words = [word for name in shown for word in examples[name].words]
    record = results.OcclusionsRecord(**facts, runs=runs, seconds=perf_counter() - begun)
    predicted = pa.concat_tables([_PREDICTED.empty_table(), *found.values()])
    occlusion.write(job.place, record, predicted, pa.Table.from_pylist(words, _WORDS))


def _each(job: Job, look: Callable[[_Trained], T]) -> tuple[dict[str, T], dict[str, Any]]:
    """Look at each run whose weights can be had; returns what was found by run, and what every record says besides."""
    found: dict[str, T] = {}
    left_out: dict[str, str] = {}
    for run_id, key in job.request["keys"].items():
        job.tell("load")
        try:
            found[run_id] = look(_trained(job, job.folder / "runs" / run_id, key))
        except ResultsError as error:
            left_out[run_id] = str(error)
    asked = {name: job.request[name] for name in ("key", "keys", "finished")}
    return found, {**asked, "backend": job.backend.name, "left_out": left_out}


def _trained(job: Job, place: Path, key: str) -> _Trained:
    """Load a run from its folder; raises `ResultsError` if it isn't whole, kept no weights or is another.

    The model is a matched one whatever the division of the run: to predict, it needs the weights alone.
    """
    result = results.read_run(place)
    if result.key != key:
        raise ResultsError(f"{place} holds another result than when the comparison began.")
    weights = read_weights(place / results.WEIGHTS)
    try:
        check_weights(weights, result.spec.model, str(place / results.WEIGHTS))
    except ContractError as error:
        raise ResultsError(str(error)) from None
    return _Trained(place, result, job.create(result.spec, weights))


def _compared(job: Job, run: _Trained, test: Block) -> results.TransplantRecord:
    """Compare what the job's backend predicts with what the run did, as it stored it."""
    path, spec = run.place / results.PREDICTIONS, run.result.spec
    table = tables.read(path, tables.PREDICTIONS, run.result.files[path.name])
    if table["example_id"].to_pylist() != test.example_ids:
        raise ResultsError(f"{path} isn't about the examples of the test split, in their order.")
    stored = np.asarray(table["probability"].to_numpy(), np.float32)
    ours = job.predict(run.model, test, spec.data)
    difference = np.abs(ours.astype(np.float64) - stored)
    return results.TransplantRecord(
        source=run.place.name,
        backend=spec.backend,
        model=spec.model.name,
        division=spec.division,
        seed=spec.seed,
        examples=len(stored),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        changed=int(((ours >= 0.5) != (stored >= 0.5)).sum()),
    )


def _examples(dataset: Dataset, block: Block, data: DataSpec, names: Iterable[str]) -> Iterator[_Example]:
    """Find examples in a block, spell them and leave out their words; raises `ResultsError` for an unknown one."""
    rows = dict(zip(block.example_ids, block.rows, strict=True))
    for name in names:
        if name not in rows:
            raise ResultsError(f"The example {name!r} was chosen to be read, but the test split has no such id.")
        place = np.array([rows[name]])
        (tokens,) = block.split.padded(place, data.length, data.vocabulary)
        (content,) = block.split.strings("text", place)
        words = occlusion.spell(block.split.tokens_of(rows[name]), content, data.length, dataset.decode)
        spelled = enumerate(zip(words, occlusion.unknown(tokens), strict=True))
        table = [{"example_id": name, "position": at, "word": word, "oov": bool(oov)} for at, (word, oov) in spelled]
        yield _Example(name, occlusion.occlude(tokens), table)


def _predicted(job: Job, run: _Trained, examples: Sequence[_Example]) -> pa.Table:
    """Predict some examples with words left out; one row for each of their parts."""
    parts = [example.occluded for example in examples]
    tokens = np.concatenate([part.tokens for part in parts])
    chunks = (tokens[start : start + CHUNK] for start in range(0, len(tokens), CHUNK))
    columns = [
        [run.place.name] * len(tokens),
        np.repeat(np.array([example.name for example in examples], object), [len(part.tokens) for part in parts]),
        np.concatenate([part.windows for part in parts]),
        np.concatenate([part.positions for part in parts]),
        job.predict_chunks(run.model, chunks),
    ]
    return pa.table(columns, schema=_PREDICTED)
