"""What a comparison has to have computed: its runs and the checks beside them, each under its key.

What is planned names everything by value, so that an executor can carry it elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import groupby, product
from pathlib import Path
from typing import Any, Literal

from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.execution.chosen import BackendInfo, look_up, settings_of, threads_of
from rnn_crosscheck.harness.parity.stages import FACTORS, arithmetic, native_in
from rnn_crosscheck.harness.protocol import Division, Factors, ModelSpec, Protocol, RunSpec, TrainingSpec, switched
from rnn_crosscheck.harness.registry import digest_of
from rnn_crosscheck.harness.results import RESULT, RunResult, read_record, stored_key
from rnn_crosscheck.harness.weights import canonical_shapes

#: changes when workers come to compute something else from the same spec
WORKER_VERSION = "1"

#: the backend that needs no framework, which the factors are switched in
_REFERENCE = "reference"
#: where the records lie of checks that need trained weights
_TRAINED = {"transplant": "transplants", "occlude": "occlusions"}


#: of whom that is asked: weights are taken in by who can, words are left out by who has trained
ABLE: Mapping[str, frozenset[str]] = {
    "transplant": frozenset({"matched", "inference"}),
    "occlude": frozenset({"matched"}),
}


@dataclass(frozen=True)
class Asked:
    """What a comparison is asked to run: `models` and `divisions` chosen of the protocol's, on one device.

    Without `dataset_fingerprint`, runs and checks are named, and can't be carried out: their keys are empty.
    """

    protocol: Protocol
    backends: tuple[BackendInfo, ...]
    models: tuple[str, ...]
    divisions: tuple[Division, ...]
    dataset_fingerprint: str = ""
    device: Literal["cpu", "cuda"] = "cpu"

    def spec(self, division: Division, model: str, info: BackendInfo, seed: int) -> RunSpec:
        """Give the spec of one run, not traced and in default settings."""
        return RunSpec(
            backend=info.name,
            division=division,
            model=self.protocol.model(model),
            training=self.protocol.training,
            data=self.protocol.data,
            dataset_fingerprint=self.dataset_fingerprint,
            seed=seed,
            device=self.device,
            threads=self.protocol.workers.threads,
        )


@dataclass(frozen=True)
class PlannedRun:
    """A run with all that is needed to carry it out or to know that it is done."""

    spec: RunSpec
    info: BackendInfo
    key: str
    mode: Literal["train"] = "train"

    @property
    def run_id(self) -> str:
        """Name of the run."""
        return self.spec.run_id

    @property
    def name(self) -> str:
        """As it is shown."""
        return self.run_id

    @property
    def extra(self) -> Mapping[str, Any]:
        """What the worker needs beside the spec: nothing."""
        return {}

    @property
    def cell(self) -> tuple[str, str, str]:
        """What it is one seed of: division, model, backend."""
        return self.spec.division, self.spec.model.name, self.spec.backend

    @property
    def path(self) -> str:
        """Place of its folder in the folder of the comparison."""
        return f"runs/{self.run_id}"

    def ended_well(self, folder: Path) -> bool:
        """Whether it has ended well in the folder of the comparison, and under its key."""
        return stored_key(folder / self.path) == self.key


@dataclass(frozen=True)
class PlannedCheck:
    """Something that is computed beside the runs: stages, effects of factors, or what trained weights predict.

    Its `name` is shown, and is that of its log; `extra` is what the worker needs beside the spec, as plain values.
    """

    name: str
    mode: Literal["parity", "effects", "transplant", "occlude"]
    spec: RunSpec
    info: BackendInfo
    key: str
    extra: Mapping[str, Any]

    @property
    def path(self) -> str:
        """Place of its record in the folder of the comparison."""
        folder = _TRAINED.get(self.mode, "parity")
        return f"{folder}/{self.name.removeprefix(f'{folder}-')}.json"


@dataclass(frozen=True)
class Plan:
    """What a comparison has to have computed, but for what needs trained weights.

    `runs` are the protocol's own; `variants` their twins, and those with a switched factor.
    """

    asked: Asked
    runs: tuple[PlannedRun, ...]
    variants: tuple[PlannedRun, ...]
    checks: tuple[PlannedCheck, ...]

    @cached_property
    def by_id(self) -> Mapping[str, PlannedRun]:
        """All runs by their ids, in the order of the plan."""
        return {run.run_id: run for run in (*self.runs, *self.variants)}


def plan_all(asked: Asked, *, diagnose: Collection[str] = ()) -> Plan:
    """Plan what is asked for, and the runs with switched factors that `diagnose` names (see `plan_factors`)."""
    runs = plan(asked)
    variants = (*plan_twins(asked.protocol, runs), *plan_factors(runs, diagnose))
    return Plan(asked, runs, variants, plan_checks(asked))


def plan(asked: Asked, *, seeds: Sequence[int] = ()) -> tuple[PlannedRun, ...]:
    """List the runs that are asked for, cheapest questions first: division, model, backend, seed.

    Empty `seeds` take what the protocol says. The first matched seed is traced where twins are to be held against it.
    """
    parity = asked.protocol.parity
    twins = parity.initial_twins + parity.continuing_twins
    planned = []
    for division, model, info in product(asked.divisions, asked.models, asked.backends):
        able = info.backend.capabilities
        if division not in able:
            continue
        wanted = seeds or asked.protocol.seeds.of(division)
        for seed in wanted:
            traced = division == "matched" and seed == wanted[0] and twins and "parity" in able
            spec = asked.spec(division, model, info, seed)
            planned.append(_planned(spec, info, probes=parity.probes if traced else 0))
    return tuple(planned)


def refuse_unknown_factors(protocol: Protocol, backends: Iterable[BackendInfo], divisions: Sequence[Division]) -> None:
    """Refuse switched factors where a backend's matched models don't honour them.

    Raises
    ------
    UsageError
        What would be compared as equal would not be.
    """
    given, plain = protocol.training.factors.model_dump(), Factors().model_dump()
    changed = [name for name in given if given[name] != plain[name] and f"factors.{name}" in arithmetic()]
    able = {info.name: info.backend.capabilities for info in backends}
    without = [name for name, can in able.items() if "matched" in can and "factors" not in can]
    if changed and without and "matched" in (divisions or protocol.divisions):
        raise UsageError(
            f"training.factors.{changed[0]} is switched, but the matched models of {' and '.join(without)} don't "
            "honour it (they lack the capability 'factors'); leave the backend or the switch out."
        )


def plan_twins(protocol: Protocol, runs: Iterable[PlannedRun]) -> tuple[PlannedRun, ...]:
    """List the twins of the traced runs among `runs`: of all backends, or of those that the protocol names."""
    runs = [run for run in runs if run.spec.probes and not run.info.missing]
    named = [run for run in runs if run.spec.backend in protocol.parity.twins_in]
    kinds = {"initial": protocol.parity.initial_twins, "continuing": protocol.parity.continuing_twins}
    return tuple(
        _planned(run.spec, run.info, twin=kind, twin_number=number)
        for run in named or runs
        for kind, count in kinds.items()
        for number in range(1, count + 1)
    )


def plan_factors(runs: Iterable[PlannedRun], diagnose: Collection[str]) -> tuple[PlannedRun, ...]:
    """List the matched runs once more with factors switched that the backend's own defaults have switched.

    `diagnose` names them: ``accuracy`` for each alone, a factor, or several with ``+`` between them for all at once.
    """
    asked = dict.fromkeys(name for word in diagnose for name in (FACTORS if word == "accuracy" else (word,)))
    planned = []
    for run in runs if asked else ():
        if run.spec.division != "matched" or "factors" not in run.info.backend.capabilities or run.info.missing:
            continue
        own = _own_factors(run.info, run.spec.model, run.spec.training)
        for variant in asked:
            factors = variant.split("+")
            if own.issuperset(factors):
                values = {key: value for factor in factors for key, value in FACTORS[factor].items()}
                training = switched(run.spec.training, values)
                planned.append(_planned(run.spec, run.info, training=training, probes=0, variant=variant))
    return tuple(planned)


def refuse_idle_factors(
    diagnose: Iterable[str], protocol: Protocol, backends: Sequence[BackendInfo], models: Iterable[str]
) -> None:
    """Refuse factors, named for a diagnosis, that no backend has among its own defaults.

    Raises
    ------
    UsageError
        Nothing would be trained for one of them.
    """
    able = [info for info in backends if "factors" in info.backend.capabilities]
    for variant in set(diagnose) - {"accuracy"}:
        cells = ((info, protocol.model(model)) for model in models for info in able)
        if not any(_own_factors(*cell, protocol.training).issuperset(variant.split("+")) for cell in cells):
            raise UsageError(
                f"--crosscheck-diagnose {variant} would train nothing: none of the backends "
                f"({', '.join(info.name for info in backends)}) has {' and '.join(variant.split('+'))} among its own "
                "defaults."
            )


def _own_factors(info: BackendInfo, model: ModelSpec, training: TrainingSpec) -> set[str]:
    """Give the factors that a backend's own defaults have switched; a GRU's two biases are no sum, and no factor."""
    native = {"": info.backend.native_values(model, training)}
    return {name for name in FACTORS if native_in(name, native) and not (name == "biases" and model.biases > 1)}


def _planned(spec: RunSpec, info: BackendInfo, **changed: Any) -> PlannedRun:  # noqa: ANN401 - fields of the spec
    spec = spec.model_copy(update=changed)
    return PlannedRun(spec, info, run_key(spec, info))


def largest_first(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Order runs for an executor: as planned, but of a division, its twins and its factors the largest models first.

    A long run that begins last keeps one core busy while the others have nothing left to do.
    """

    def part(run: PlannedRun) -> tuple[str, bool, bool]:
        return run.spec.division, bool(run.spec.twin), bool(run.spec.variant)

    def size(run: PlannedRun) -> int:
        shapes = canonical_shapes(run.spec.model)
        return sum(math.prod(shapes[name]) for name in ("kernel", "recurrent_kernel"))

    return [run for _, group in groupby(runs, part) for run in sorted(group, key=size, reverse=True)]


def together(checks: Iterable[PlannedCheck]) -> list[list[PlannedCheck]]:
    """Group checks that one worker can carry out in turn: of one backend that is set up in one way.

    Native models come first: what matched ones ask of a GPU's arithmetic holds for the whole process. Effects need no
    framework, so that they go side by side.
    """
    groups: dict[tuple[object, ...], list[PlannedCheck]] = defaultdict(list)
    for check in sorted(checks, key=lambda check: check.spec.division != "native"):
        spec = check.spec
        alone = check.name if check.mode == "effects" else ""
        groups[check.info.name, spec.setting, spec.threads, spec.device, spec.seed, alone].append(check)
    return list(groups.values())


def plan_checks(asked: Asked) -> tuple[PlannedCheck, ...]:
    """List the stages to be compared, and for each model the effects of the factors.

    Stages of a native model are compared as well, since they tell where its defaults leave the matched arithmetic; and
    those of a matched model in tuned settings, which must keep to it.
    """
    able = [info for info in asked.backends if "parity" in info.backend.capabilities and not info.missing]
    planned = []
    for model in asked.models:
        stages = [
            check
            for division, info in product(asked.divisions, able)
            if division in info.backend.capabilities
            for check in _plan_stages(asked, division, model, info)
        ]
        planned += [*stages, _plan_effects(asked, model)] if stages else []
    return tuple(planned)


def _plan_stages(asked: Asked, division: Division, model: str, info: BackendInfo) -> Iterator[PlannedCheck]:
    default = asked.spec(division, model, info, asked.protocol.seeds.of("matched")[0])
    wanted = asked.protocol.parity.settings if division == "matched" else ("default",)
    for setting in (setting for setting in settings_of(asked.protocol, info) if setting in wanted):
        threads = threads_of(asked.protocol, info, model, setting)
        spec = default.model_copy(update={"setting": setting, "threads": threads})
        tuned = "" if setting == "default" else f"-{setting}"
        name = f"{division}-{info.name.replace(':', '.')}{tuned}-{model}"
        yield PlannedCheck(name, "parity", spec, info, _check_key("parity", spec, info, {}), {})


def _plan_effects(asked: Asked, model: str) -> PlannedCheck:
    (reference,) = look_up([_REFERENCE])
    spec = replace(asked, device="cpu").spec("matched", model, reference, asked.protocol.seeds.of("matched")[0])
    # Of those that aren't installed too: what they declare is known.
    declared = {info.name: dict(info.backend.native_values(spec.model, spec.training)) for info in asked.backends}
    extra = {"native_values": {name: values for name, values in declared.items() if values}}
    key = _check_key("effects", spec, reference, extra)
    return PlannedCheck(f"effects-{model}", "effects", spec, reference, key, extra)


def _check_key(mode: str, spec: RunSpec, info: BackendInfo, extra: Mapping[str, Any]) -> str:
    if not (key := run_key(spec, info)):
        return ""
    source = source_of("worker/checks.py", "parity/stages.py", "parity/declared.py", "parity/reference.py")
    content = {"mode": mode, "source": source, **extra}
    return _digest(f"{key} {json.dumps(content, sort_keys=True)}")


def plan_transplants(folder: Path, runs: Iterable[PlannedRun], info: BackendInfo) -> PlannedCheck | None:
    """Plan to predict with the trained weights of `runs` in one backend, or None if there are no runs.

    Of each backend, model and division, the first seed is taken.

    `folder` is the comparison's; `runs` are the protocol's own that ended well, in order. The capabilities of `info`,
    the backend that takes the weights, have ``matched`` or ``inference``.
    """
    first: dict[tuple[str, str, str], PlannedRun] = {}
    for run in runs:
        first.setdefault(run.cell, run)
    return _plan_trained("transplant", folder, list(first.values()), info)


def plan_occlusions(
    folder: Path, runs: Iterable[PlannedRun], info: BackendInfo, chosen: Mapping[str, Sequence[str]]
) -> PlannedCheck | None:
    """Plan to leave words out of chosen examples of one backend's runs, or None if none was chosen.

    Of `runs`, as for `plan_transplants`, only the backend's own are taken. `chosen` has the ids of test examples by run
    id.
    """
    own = [run for run in runs if run.spec.backend == info.name and chosen.get(run.run_id)]
    examples = {run.run_id: list(chosen[run.run_id]) for run in own}
    return _plan_trained("occlude", folder, own, info, examples=examples)


def of_trained(backends: Iterable[BackendInfo]) -> tuple[str, ...]:
    """Name what is asked of trained weights."""
    return tuple(
        _name_of_trained(mode, info)
        for mode, able in ABLE.items()
        for info in backends
        if info.backend.capabilities & able and not info.missing
    )


def _name_of_trained(mode: str, info: BackendInfo) -> str:
    return f"{_TRAINED[mode]}-{info.name.replace(':', '.')}"


def _plan_trained(
    mode: Literal["transplant", "occlude"],
    folder: Path,
    ended: Sequence[PlannedRun],
    info: BackendInfo,
    **extra: Any,  # noqa: ANN401 - plain values
) -> PlannedCheck | None:
    """Plan a check of runs that ended well."""
    if not ended:
        return None
    # A run that was deleted and trained again has the same key, and need not have the same weights.
    finished = {run.run_id: read_record(folder / run.path / RESULT, RunResult).finished for run in ended}
    keys = {run.run_id: run.key for run in ended}
    extra |= {"finished": finished, "keys": keys}
    source = source_of("worker/job.py", "worker/trained.py", "parity/occlusion.py")
    content = {"mode": mode, "versions": dict(info.versions), "source": source, **extra}
    return PlannedCheck(
        name=_name_of_trained(mode, info),
        mode=mode,
        # What predicts has no seed; one for all, so that one worker can be set up for both kinds.
        spec=ended[0].spec.model_copy(update={"backend": info.name, "seed": 0}),
        info=info,
        key=_digest(json.dumps(content, sort_keys=True)),
        extra=extra,
    )


def run_key(spec: RunSpec, info: BackendInfo) -> str:
    """Key of a run: its spec, the versions of what carries it out, and the worker's own.

    A spec without the dataset's fingerprint names a run that can't be carried out; its key is empty.
    """
    if not spec.dataset_fingerprint:
        return ""
    # A continuing twin's noise is measured against the reference.
    noise = {"noise": source_of("parity/reference.py")} if spec.twin == "continuing" else {}
    return spec.key({**info.versions, "worker": WORKER_VERSION, **noise})


_HARNESS = Path(__file__).parents[1]


@cache
def source_of(*names: str) -> str:
    """Digest of files of the harness that a key depends on."""
    return digest_of(_HARNESS / name for name in names)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
