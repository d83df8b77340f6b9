"""What a GPU changes, on one page: whether matched models are right there, what TF32 does to them, who is faster.

    python -m benchmarks.gpu                              # writes docs/comparisons/gpu.md
    python -m benchmarks.gpu --device cpu --page page.md

Needs what is compared (PyTorch, JAX, Keras; those that are missing are named) and no network. NVIDIA's libraries may
multiply float32 with TF32, the ten bits of mantissa; matched models turn that off. The classes in this file leave each
framework as it comes, so that the page shows what the switch is good for.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rnn_crosscheck.backends.jax import JAX
from rnn_crosscheck.backends.keras import KerasJAX, KerasTorch
from rnn_crosscheck.backends.pytorch import PyTorch
from rnn_crosscheck.harness.adapter import Late
from rnn_crosscheck.harness.backend import Backend, Model
from rnn_crosscheck.harness.registry import install_command, missing_distributions
from rnn_crosscheck.harness.results import STAGES, Stage
from rnn_crosscheck.reports.analysis.dataset import facts_of
from rnn_crosscheck.reports.analysis.findings import Findings, find
from rnn_crosscheck.reports.analysis.frames import each
from rnn_crosscheck.reports.analysis.stages import STAGE_WORDS, worst
from rnn_crosscheck.reports.pages.markdown import Column, document, escape, note, table, text
from rnn_crosscheck.reports.pages.speed import timing_columns
from rnn_crosscheck.reports.read.comparison import Comparison, load
from rnn_crosscheck.reports.writing import scientific

jax: Any = Late("jax")
torch: Any = Late("torch")

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "comparisons" / "gpu.md"
AS_IT_COMES = "-as-it-comes"
SETTINGS = (
    "models.gru.cell=gru",
    "models.gru.units=100",
    "models.gru.embedding=32",
    'timing.operations=["train_step","predict_batch"]',
    'timing.settings=["default"]',
    "timing.starts=1",
)


def as_it_comes(kind: type[Backend], read: Callable[[], Any], put: Callable[[Any], None]) -> type[Backend]:
    """Give a backend that puts back what its matched models turn off."""

    @wraps(kind.create)
    def create(self: Backend, *given: Any, **named: Any) -> Model:  # noqa: ANN401 - as the backend's own
        before = read()
        try:
            return kind.create(self, *given, **named)
        finally:
            put(before)

    members = {
        "name": kind.name + AS_IT_COMES,
        "create": create,
        "__module__": __name__,
        "__doc__": as_it_comes.__doc__,
    }
    return type(f"{kind.__name__}AsItComes", (kind,), members)


def _allowed() -> Any:  # noqa: ANN401 - what PyTorch keeps
    return torch.backends.cudnn.allow_tf32


def _allow(value: Any) -> None:  # noqa: ANN401
    torch.backends.cudnn.allow_tf32 = value


def _precision() -> Any:  # noqa: ANN401 - what JAX keeps
    return jax.config.jax_default_matmul_precision


def _set_precision(value: Any) -> None:  # noqa: ANN401
    jax.config.update("jax_default_matmul_precision", value)


PyTorchAsItComes = as_it_comes(PyTorch, _allowed, _allow)
KerasTorchAsItComes = as_it_comes(KerasTorch, _allowed, _allow)
JAXAsItComes = as_it_comes(JAX, _precision, _set_precision)
KerasJAXAsItComes = as_it_comes(KerasJAX, _precision, _set_precision)

#: what is compared, and the same as it comes; times are told in times of the first
COMPARED: dict[type[Backend], type[Backend]] = {
    PyTorch: PyTorchAsItComes,
    JAX: JAXAsItComes,
    KerasTorch: KerasTorchAsItComes,
    KerasJAX: KerasJAXAsItComes,
}


def compare(folder: Path, names: Iterable[str], tests: str, options: argparse.Namespace) -> Comparison:
    """Have some backends compared, and read what there is to see."""
    command = [sys.executable, "-m", "pytest", "--benchmark", "-q", "-p", "no:cacheprovider", "-k", tests]
    command += ["--crosscheck-device", options.device, "--crosscheck-models", options.models]
    command += ["--crosscheck-backends", ",".join(names), "--crosscheck-output", str(folder)]
    for setting in (*SETTINGS, *options.set):
        command += ["--crosscheck-set", setting]
    ended = subprocess.run(command, cwd=ROOT, check=False).returncode
    if not (folder / "manifest.json").is_file():
        sys.exit(ended)
    return load(folder)


def card() -> str:
    """Name the first GPU and its driver, as NVIDIA's own tool does; nothing without one."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return ""
    return "{}, driver {}".format(*said.split(", "))


def page(staged: Comparison, timed: Comparison, missing: dict[str, str]) -> Iterator[str]:
    """Write the page: stages with TF32 off and as it comes, times, and what there was no looking at."""
    manifest = staged.manifest
    where = (card() or "one NVIDIA GPU") if manifest.device == "cuda" else "the CPU, where there is no TF32"
    data, training = manifest.protocol.data, manifest.protocol.training
    yield "# What does a GPU change?"
    yield (
        f"Seen on {where}, {manifest.created[:10]}: batches of {training.batch_size}, length {data.length}. Written by "
        "`python -m benchmarks.gpu`."
    )
    lost = {**missing, **staged.left_out, **timed.timings.failures, **timed.left_out}
    if lost:
        yield "\n".join(f"- **Not seen: {escape(name)}**: {escape(reason)}" for name, reason in lost.items())
    yield "## Are matched models right?"
    yield from _stages(find(staged))
    yield "## Who is faster?"
    findings = find(timed)
    if findings.timings.empty:
        yield "Nothing was timed."
    for model in dict.fromkeys(findings.timings.get("model", [])):
        yield f"### {escape(model)}"
        yield table(findings.timings[findings.timings["model"] == model], timing_columns())
    yield "## With what"
    told: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for record in timed.timings.records:
        told[record.backend].append(record.environment)
    facts = facts_of(told)
    yield table(facts, [text(name, name) for name in facts.columns], padded=False)


def _stages(findings: Findings) -> Iterator[str]:
    shown: list[Stage] = [stage for stage in STAGES if stage not in ("encoding", "weights")]
    stages = findings.why.stages
    closest = worst(stages[stages["stage"].isin(shown)])
    as_it_comes = closest["backend"].str.endswith(AS_IT_COMES)
    closest = closest.assign(backend=closest["backend"].str.removesuffix(AS_IT_COMES), tf32=as_it_comes)
    for kept, what in ((False, "TF32 off, as matched models are"), (True, "As the framework comes")):
        mine = closest[closest["tf32"] == kept]
        failed = mine[~mine["ok"]].drop_duplicates(["backend", "model"])
        if failed.empty:
            yield f"{what}: {'nothing was seen' if mine.empty else 'every stage is within its tolerance'}."
        for row in each(failed):
            yield (
                f"{what}: **{escape(row.backend)}, {escape(row.model)}** leaves its tolerance at the stage "
                f"*{STAGE_WORDS[row.stage]}*, where {escape(row.parameter)} is off by {scientific(row.error)}, "
                f"{row.ratio:.0f} times what is allowed."
            )
    allowed = closest.groupby("stage")["tolerance"].first()
    columns = [
        text("backend", "backend"),
        Column("TF32", ("tf32",), lambda kept: "as it comes" if kept else "off", right=False),
        *(
            Column(f"{STAGE_WORDS[stage]} (at most {scientific(allowed[stage])})", (stage, f"{stage} ratio"), _error)
            for stage in shown
            if stage in allowed
        ),
    ]
    for model, rows in closest.groupby("model", sort=False):
        sides = {"error": "", "ratio": " ratio"}
        tables = [
            rows.pivot_table(index=["backend", "tf32"], columns="stage", values=name).add_suffix(ending)
            for name, ending in sides.items()
        ]
        yield f"### {escape(str(model))}"
        yield table(tables[0].join(tables[1]).reset_index(), columns)
    yield note(
        "Each stage's error of the parameter that comes closest to its tolerance, against a float64 reference on the "
        "same weights and batches. Bold: out of it."
    )


def _error(error: float, ratio: float) -> str:
    return f"**{scientific(error)}**" if ratio > 1 else scientific(error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--page", type=Path, default=PAGE, help="file to be written (%(default)s)")
    parser.add_argument("--models", default="rnn,lstm,gru")
    parser.add_argument("--set", action="append", default=[], help="override of the protocol, as in --crosscheck-set")
    options = parser.parse_args()
    missing = {kind.name: f"`{install_command(kind)}`" for kind in COMPARED if missing_distributions(kind)}
    kinds = [kind for kind in COMPARED if kind.name not in missing]
    with TemporaryDirectory() as name:
        as_they_come = [f"benchmarks.gpu:{COMPARED[kind].__name__}" for kind in kinds]
        names = [kind.name for kind in kinds]
        staged = compare(Path(name) / "stages", [*names, *as_they_come], "test_parity", options)
        timed = compare(Path(name) / "times", names, "test_timing", options)
        options.page.write_text(document(page(staged, timed, missing)) + "\n", encoding="utf-8")
    print(options.page)


if __name__ == "__main__":
    main()
