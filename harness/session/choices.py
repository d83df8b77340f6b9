"""What the options of a session ask for, read into one frozen record before anything is done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.errors import ContractError, ResultsError, UsageError, unknown
from rnn_crosscheck.harness.execution.chosen import BackendInfo, look_in, look_up
from rnn_crosscheck.harness.execution.plan import Asked, refuse_idle_factors, refuse_unknown_factors
from rnn_crosscheck.harness.folder import MANIFEST, is_comparison, refuse_foreign, resolved
from rnn_crosscheck.harness.parity.stages import FACTORS
from rnn_crosscheck.harness.protocol import DIVISIONS, Device, Division, Protocol, load_protocol
from rnn_crosscheck.harness.registry import registered
from rnn_crosscheck.harness.results import Manifest, read_record
from rnn_crosscheck.harness.session.gates import Gate, parse_gates


@dataclass(frozen=True)
class Choices:
    """What is to be compared, and where the results go.

    Attributes
    ----------
    protocol
        With the overrides of the options.
    backends, models, divisions
        Those that were named, or the protocol's; the first backend is the baseline.
    device
        As it was asked for.
    diagnose, sweep
        Factors to be switched in training, as `harness.execution.plan.plan_factors` takes them; whether other sizes are
        timed.
    data, columns
        Of a dataset that is read from a file.
    folder
        Of the comparison, absolute.
    baseline
        Folder of an earlier comparison, if there is one to compare with.
    gates
        What fails the session.
    executor, ray_address
        ``local`` or ``ray``, and where its cluster is.
    left_out
        Why registered backends are left out, a sentence each.
    """

    protocol: Protocol
    backends: tuple[BackendInfo, ...]
    models: tuple[str, ...]
    divisions: tuple[Division, ...]
    device: Device
    diagnose: tuple[str, ...]
    sweep: bool
    data: Path | None
    columns: str
    folder: Path
    baseline: Path | None
    gates: tuple[Gate, ...]
    executor: str
    ray_address: str
    left_out: tuple[str, ...]

    @property
    def asked(self) -> Asked:
        """What is to be run, without the data: enough to name it."""
        return Asked(self.protocol, self.backends, self.models, self.divisions)


def choose(options: Mapping[str, str], overrides: Sequence[str] = (), where: Path | None = None) -> Choices:
    """Read the options of a session.

    Parameters
    ----------
    options
        Name of each, without ``--crosscheck-``, and its text.
    overrides
        Of the protocol: ``KEY=VALUE``.
    where
        Folder that paths are seen from, and local backends (``module:Class``) are looked for in.

    Raises
    ------
    UsageError
        An option is wrong.
    """
    where = where or Path.cwd()
    protocol = _protocol(options, overrides)
    divisions = cast("tuple[Division, ...]", _named(options, "divisions", DIVISIONS) or protocol.divisions)
    all_models = tuple(model.name for model in protocol.models)
    models = _named(options, "models", all_models) or all_models
    look_in(where)
    backends, left_out = _backends(options)
    refuse_unknown_factors(protocol, backends, divisions)
    diagnose = _diagnose(options)
    refuse_idle_factors(diagnose, protocol, backends, models)
    sweep = bool(_one_of(options, "timing", "timing", ("", "sweep")))
    device = device_asked_for(options)
    folder = _folder(options["output"], where)
    baseline = _baseline(options["baseline"], where, folder, backends, models)
    return Choices(
        protocol=protocol,
        backends=backends,
        models=models,
        divisions=divisions,
        device=device,
        diagnose=diagnose,
        sweep=sweep,
        data=where / options["data"] if options["data"] else None,
        columns=options["columns"],
        folder=folder,
        baseline=baseline,
        gates=_gates(options["fail-if"], baseline),
        executor=_one_of(options, "executor", "executor", ("local", "ray")),
        ray_address=options["ray-address"],
        left_out=left_out,
    )


def _listed(options: Mapping[str, str], name: str) -> list[str]:
    return [part.strip() for part in options[name].split(",") if part.strip()]


def _named(options: Mapping[str, str], option: str, known: Sequence[str]) -> tuple[str, ...]:
    """Read a list of names that must be known."""
    chosen = tuple(dict.fromkeys(_listed(options, option)))
    for name in chosen:
        if name not in known:
            raise unknown(option.removesuffix("s"), name, known)
    return chosen


def device_asked_for(options: Mapping[str, str]) -> Device:
    """Read the device; raises `UsageError`."""
    return cast("Device", _one_of(options, "device", "device", get_args(Device)))


def _one_of(options: Mapping[str, str], option: str, kind: str, values: Sequence[str]) -> str:
    if options[option] not in values:
        raise unknown(kind, options[option], [value for value in values if value])
    return options[option]


def _diagnose(options: Mapping[str, str]) -> tuple[str, ...]:
    """Read what is to be switched, as `harness.execution.plan.plan_factors` takes it."""
    chosen: dict[str, None] = {}
    for asked in _listed(options, "diagnose"):
        names = [name.strip() for name in asked.split("+")]
        known = [*FACTORS] if len(names) > 1 else ["accuracy", *FACTORS]
        for name in names:
            if name not in known:
                raise unknown("diagnosis", name, known)
        chosen["+".join(sorted(set(names), key=known.index))] = None
    return tuple(chosen)


def _protocol(options: Mapping[str, str], overrides: Sequence[str]) -> Protocol:
    more = []
    if dataset := options["dataset"]:
        more.append(f'data.dataset="{dataset}"')
    if jobs := options["jobs"]:
        more.append(f"workers.jobs={jobs}")
    if seeds := options["seeds"]:
        value = f"[{seeds}]" if "," in seeds else seeds
        more += [f"seeds.{division}={value}" for division in DIVISIONS]
    protocol = load_protocol(options["protocol"], [*more, *overrides])
    if protocol.data.dataset not in datasets.names():
        raise unknown("dataset", protocol.data.dataset, datasets.names())
    return protocol


def _backends(options: Mapping[str, str]) -> tuple[tuple[BackendInfo, ...], tuple[str, ...]]:
    """Find the backends that are named, or all that are compared by default; and why others are left out."""
    if named := _listed(options, "backends"):
        return look_up(named), ()
    found: list[BackendInfo] = []
    left_out = []
    for name, backend in sorted(registered().items()):
        try:
            if backend.load().by_default:
                found += look_up([name])
        except ContractError as error:
            # Somebody else's that was installed here; who names it is told the same as an error.
            left_out.append(str(error))
    return tuple(found), tuple(left_out)


def _folder(named: str, where: Path) -> Path:
    if not named:
        raise UsageError("--crosscheck-output needs the name of a folder, got an empty value.")
    refuse_foreign(where / named, "--crosscheck-output", is_comparison)
    return resolved(where / named)


def _baseline(
    named: str, where: Path, output: Path, backends: Sequence[BackendInfo], models: Sequence[str]
) -> Path | None:
    if not named:
        return None
    folder = resolved(where / named)
    what = "--crosscheck-baseline needs the folder of an earlier comparison"
    if not folder.is_dir():
        raise UsageError(f"{what}; there is no folder {named!r}.")
    if not (folder / MANIFEST).is_file():
        raise UsageError(
            f"{what}; {named!r} is none, since it has no manifest.json. Give a folder that pytest --benchmark "
            "wrote; of a published report, the predictions are missing."
        )
    if folder == output:
        raise UsageError(
            f"{what}; {named!r} is where this one's results go, which would take the place of the earlier ones. "
            "Give another folder with --crosscheck-output."
        )
    try:
        earlier = read_record(folder / MANIFEST, Manifest)
    except ResultsError as error:
        raise UsageError(f"{what}: {error}") from None
    for kind, mine, theirs in (
        ("backend", [info.name for info in backends], earlier.backends),
        ("model", models, [model.name for model in earlier.protocol.models]),
    ):
        if not set(mine) & set(theirs):
            raise UsageError(
                f"{what} with a {kind} in common; this one has {', '.join(mine)}, {named!r} has {', '.join(theirs)}."
            )
    return folder


def _gates(rules: str, baseline: Path | None) -> tuple[Gate, ...]:
    gates = parse_gates(rules)
    if gates and baseline is None:
        raise UsageError(
            f"--crosscheck-fail-if {','.join(map(str, gates))} needs something to hold the comparison against; "
            "give the folder of an earlier one with --crosscheck-baseline."
        )
    return gates
