"""The protocol: everything that is held equal between the runs of a comparison.

A protocol is read from a TOML file, either a preset by name (``quick``, ``imdb``) or a user's own file, which
may start from a preset (``extends = "quick"``). Every value can be overridden by its dotted key.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from rnn_crosscheck.harness.errors import UsageError

Division = Literal["native", "matched"]
DIVISIONS: tuple[Division, ...] = get_args(Division)
Device = Literal["cpu", "cuda", "auto"]
Cell = Literal["rnn", "lstm", "gru"]
Operation = Literal["train_step", "predict_batch", "predict_one"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
#: ``default``: what a framework's users get; ``tuned``: the fastest it does the same arithmetic with
Setting = Literal["default", "tuned"]
SETTINGS: tuple[Setting, ...] = get_args(Setting)

_PRESETS = Path(__file__).parent / "protocols"
_NAME = r"^[a-z0-9][a-z0-9_]*$"


#: limits of what is counted, and of what is planned one by one: more is a slip of the keyboard, and no machine's
_MANY, _FEW = 10**8, 10_000


class _Frozen(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """A typed, frozen record that refuses keys it doesn't know."""


def _seeds(value: Any) -> Any:  # noqa: ANN401 - a raw value from TOML or the command line
    """Read a count as the seeds 0 to count - 1 and a list as the seeds themselves."""
    if isinstance(value, int) and not isinstance(value, bool):
        if value > _FEW:
            raise ValueError(f"at most {_FEW} seeds can be asked for")
        return tuple(range(value))
    return _listed(value)


def _listed(value: Any) -> Any:  # noqa: ANN401 - a raw value from TOML
    return tuple(value) if isinstance(value, list) else value


def _named(value: Any) -> Any:  # noqa: ANN401 - a raw value from TOML
    """Read a table of tables as a tuple of records that carry their name."""
    if isinstance(value, dict):
        return tuple(
            {"name": name, **settings} if isinstance(settings, dict) else settings for name, settings in value.items()
        )
    return _listed(value)


class DataSpec(_Frozen):
    """Which examples, how many, and how they are encoded."""

    dataset: Annotated[str, Field(min_length=1, description="name of the dataset")] = "reviews"
    vocabulary: Annotated[int, Field(ge=5, le=_MANY, description="ids run from 0 to vocabulary - 1")] = 5000
    length: Annotated[int, Field(ge=1, le=_MANY, description="tokens an example is cut or padded to")] = 500
    train_examples: Annotated[int, Field(ge=0, le=_MANY, description="0 takes all")] = 0
    valid_examples: Annotated[int, Field(ge=0, le=_MANY, description="0 takes all")] = 0
    test_examples: Annotated[int, Field(ge=0, le=_MANY, description="0 takes all")] = 0
    validation_fraction: Annotated[
        float,
        Field(gt=0, lt=1, description="first part of the training split, for datasets without a validation split"),
    ] = 0.2


class Architecture(_Frozen):
    """A model as the protocol file names it: embedding, one recurrent layer, one logit."""

    name: Annotated[str, Field(pattern=_NAME)]
    cell: Cell
    units: Annotated[int, Field(ge=1, le=_MANY)]
    activation: Literal["relu", "tanh"] = "tanh"
    embedding: Annotated[int, Field(ge=1, le=_MANY)] = 32

    @model_validator(mode="after")
    def _gated_is_tanh(self) -> Architecture:
        if self.cell != "rnn" and self.activation != "tanh":
            raise ValueError(
                f"the cell '{self.cell}' has the activation 'tanh', the one that every framework's fast kernel computes"
            )
        return self


class ModelSpec(Architecture):
    """A model complete with the sizes that the data gives it; what a backend creates."""

    vocabulary: Annotated[int, Field(ge=5, le=_MANY)]
    length: Annotated[int, Field(ge=1, le=_MANY)]

    @property
    def biases(self) -> int:
        """How many biases of the recurrent layer can't be added up: two where the reset gate multiplies one of them."""
        return 2 if self.cell == "gru" else 1


class Factors(_Frozen):
    """Known differences between frameworks, each a switch of the matched division (docs/parity.md).

    The defaults are what "matched" means. The first four are how initial weights are drawn: as Keras does by default,
    or as PyTorch does.
    """

    embedding_weights: Annotated[
        Literal["keras", "pytorch"], Field(description="uniform in +-0.05, or standard normal")
    ] = "keras"
    recurrent_weights: Annotated[
        Literal["keras", "pytorch"], Field(description="both kernels: Glorot and orthogonal, or +-1/sqrt(units)")
    ] = "keras"
    recurrent_bias: Annotated[
        Literal["keras", "pytorch"], Field(description="0, an LSTM's forget gate 1; or the sum of two uniforms")
    ] = "keras"
    dense_weights: Annotated[
        Literal["keras", "pytorch"], Field(description="Glorot and 0, or both uniform in +-1/sqrt(units)")
    ] = "keras"
    order: Annotated[Literal["shared", "another"], Field(description="order of the training examples")] = "shared"
    epsilon_place: Annotated[
        Literal["before", "after"], Field(description="Adam's epsilon: added before or after the bias correction")
    ] = "before"
    duplicates: Annotated[
        Literal["summed", "apart"],
        Field(description="gradients of a token that comes several times in a batch: squared once summed, or apart"),
    ] = "summed"
    biases: Annotated[Literal["one", "two"], Field(description="trainable biases of the recurrent layer")] = "one"
    loss_form: Annotated[
        Literal["logits", "probabilities"],
        Field(description="cross-entropy of logits, or of probabilities clipped to [1e-7, 1 - 1e-7]"),
    ] = "logits"
    pad_row: Annotated[
        Literal["trained", "frozen"], Field(description="the embedding of padding: trained, or zero for ever")
    ] = "trained"


class TrainingSpec(_Frozen):
    """Loss, optimizer, batches. The matched division uses every value as given.

    The native division takes ``learning_rate``, ``batch_size``, ``epochs`` and ``clipnorm``, and leaves the rest to
    the framework's defaults.
    """

    epochs: Annotated[int, Field(ge=1, le=_MANY)] = 3
    batch_size: Annotated[int, Field(ge=1, le=_MANY)] = 32
    loss: Literal["binary_crossentropy"] = "binary_crossentropy"
    optimizer: Literal["adam"] = "adam"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    epsilon: Annotated[float, Field(gt=0)] = 1e-7
    clipnorm: Annotated[
        float, Field(ge=0, description="largest global norm of the gradients; larger ones are scaled down; 0 for none")
    ] = 0.0
    factors: Factors = Factors()


def switched(training: TrainingSpec, values: Mapping[str, object]) -> TrainingSpec:
    """Give a training spec with some values replaced, by dotted key (``epsilon``, ``factors.biases``).

    Raises
    ------
    KeyError, ValueError
        There is no such key, or it can't have that value.
    """
    tree: dict[str, Any] = training.model_dump()
    for key, value in values.items():
        *above, last = key.split(".")
        below = tree
        for part in above:
            below = below[part]
        if last not in below:
            raise KeyError(key)
        below[last] = value
    return TrainingSpec.model_validate(tree)


Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**31)], ...],
    BeforeValidator(_seeds),
    Field(min_length=1, description="a count (seeds 0 to count - 1) or a list of seeds"),
]


class SeedsSpec(_Frozen):
    """Seeds of each division: a count or a list."""

    native: Seeds = (0, 1)
    matched: Seeds = (0,)

    @model_validator(mode="after")
    def _distinct(self) -> SeedsSpec:
        for division in DIVISIONS:
            seeds = self.of(division)
            if len(set(seeds)) != len(seeds):
                raise ValueError(f"the seeds of a division must differ, got {list(seeds)}")
        return self

    def of(self, division: Division) -> tuple[int, ...]:
        """Seeds of one division."""
        return self.native if division == "native" else self.matched


_Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=_MANY)], ...], BeforeValidator(_listed)]


class TimingSpec(_Frozen):
    """How the interleaved measurement goes (see docs/timing.md)."""

    warmup: Annotated[int, Field(ge=1, le=_FEW, description="rounds run and thrown away")] = 3
    starts: Annotated[int, Field(ge=1, le=_FEW, description="times that the workers of a model are started afresh")] = 5
    min_rounds: Annotated[int, Field(ge=5, le=_FEW, description="of each start")] = 10
    max_rounds: Annotated[int, Field(ge=5, le=_FEW, description="of each start")] = 100
    target: Annotated[float, Field(gt=0, lt=1, description="reach of the ratio's 95 % interval over rounds")] = 0.01
    max_seconds: Annotated[
        float, Field(gt=0, description="of one operation in one start; at least min_rounds are measured")
    ] = 3.0
    operations: Annotated[tuple[Operation, ...], BeforeValidator(_listed), Field(min_length=1)] = OPERATIONS
    settings: Annotated[
        tuple[Setting, ...], BeforeValidator(_listed), Field(description="of each backend that has them")
    ] = SETTINGS
    tuned_operations: Annotated[
        tuple[Operation, ...], BeforeValidator(_listed), Field(description="measured in tuned settings too")
    ] = OPERATIONS
    sweep_batches: Annotated[_Sizes, Field(description="batch sizes of a sweep")] = (1, 8, 32, 128, 512)
    sweep_lengths: Annotated[_Sizes, Field(description="lengths of a sweep")] = (100, 250, 500)

    @model_validator(mode="after")
    def _ordered(self) -> TimingSpec:
        if self.max_rounds < self.min_rounds:
            raise ValueError(f"max_rounds ({self.max_rounds}) must be at least min_rounds ({self.min_rounds})")
        if "default" not in self.settings:
            raise ValueError(f"the settings must have 'default', which the ratios refer to, got {list(self.settings)}")
        return self


class ParitySpec(_Frozen):
    """How backends are held against the reference and against themselves (docs/parity.md).

    Twins are of the first matched seed of each backend and model.
    """

    initial_twins: Annotated[int, Field(ge=0, le=_FEW, description="one weight moved by one ulp before training")] = 0
    continuing_twins: Annotated[
        int,
        Field(ge=0, le=_FEW, description="every update disturbed by noise of the size of the backend's own rounding"),
    ] = 0
    twins_in: Annotated[
        tuple[str, ...],
        BeforeValidator(_listed),
        Field(description="backends that have twins; none named, or none of these compared: all"),
    ] = ()
    probes: Annotated[int, Field(ge=1, le=_MANY, description="test examples predicted along the way")] = 256
    settings: Annotated[
        tuple[Setting, ...], BeforeValidator(_listed), Field(description="whose stages are compared, of each backend")
    ] = SETTINGS


class MarginSpec(_Frozen):
    """Differences that nobody would act on: what lies inside is called the same (docs/reading-the-report.md)."""

    accuracy: Annotated[float, Field(gt=0, le=100, description="points of accuracy")] = 1.0
    time: Annotated[float, Field(gt=0, lt=100, description="per cent of time")] = 5.0


class WorkerSpec(_Frozen):
    """Processes and threads."""

    threads: Annotated[int, Field(ge=1, le=_FEW, description="threads of one worker, pinned")] = 1
    jobs: Annotated[int, Field(ge=0, le=_FEW, description="runs trained side by side; 0 takes cores / threads")] = 0
    stall_seconds: Annotated[float, Field(gt=0, description="a worker silent for longer is stopped")] = 600.0


class Protocol(_Frozen):
    """Everything that is held equal."""

    name: Annotated[str, Field(min_length=1)]
    description: str = ""
    data: DataSpec = DataSpec()
    models: Annotated[tuple[Architecture, ...], BeforeValidator(_named), Field(min_length=1)]
    training: TrainingSpec = TrainingSpec()
    divisions: Annotated[tuple[Division, ...], BeforeValidator(_listed), Field(min_length=1)] = DIVISIONS
    seeds: SeedsSpec = SeedsSpec()
    timing: TimingSpec = TimingSpec()
    parity: ParitySpec = ParitySpec()
    margin: MarginSpec = MarginSpec()
    workers: WorkerSpec = WorkerSpec()

    @model_validator(mode="after")
    def _models_differ(self) -> Protocol:
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError(f"the models must have different names, got {names}")
        return self

    def model(self, name: str) -> ModelSpec:
        """Give the model called `name`, complete with the sizes of the data."""
        for model in self.models:
            if model.name == name:
                return ModelSpec(**model.model_dump(), vocabulary=self.data.vocabulary, length=self.data.length)
        raise KeyError(name)


class RunSpec(_Frozen):
    """One training: small, picklable and complete.

    Running it needs the spec, the encoded dataset with this fingerprint and a place for the result.
    """

    backend: str
    division: Division
    model: ModelSpec
    training: TrainingSpec
    data: DataSpec
    dataset_fingerprint: str
    seed: int
    device: Literal["cpu", "cuda"]
    threads: int
    setting: Setting = "default"
    probes: Annotated[
        int, Field(ge=0, le=_MANY, description="test examples predicted along the way; 0 for no trace")
    ] = 0
    twin: Literal["", "initial", "continuing"] = ""
    twin_number: int = 0
    variant: Annotated[str, Field(description="what is switched, for a run that isn't the protocol's own")] = ""

    @property
    def run_id(self) -> str:
        """Name of the run, as in node ids and on disk: ``native-pytorch-lstm-seed0``.

        A twin or a run with a switched factor has what makes it one at the end: ``-continuing1``, ``-biases``; so has
        one with tuned settings, ``-tuned``.
        """
        name = f"{self.division}-{self.backend.replace(':', '.')}-{self.model.name}-seed{self.seed}"
        twin = f"-{self.twin}{self.twin_number}" if self.twin else ""
        tuned = "" if self.setting == "default" else f"-{self.setting}"
        return name + tuned + twin + (f"-{self.variant}" if self.variant else "")

    def key(self, versions: Mapping[str, str]) -> str:
        """Hash of everything that the result depends on.

        Parameters
        ----------
        versions
            What the backend adds: versions of its distributions and a digest of its source.
        """
        content = {"spec": self.model_dump(mode="json"), "versions": dict(sorted(versions.items()))}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# --- reading ------------------------------------------------------------------------------------------------


def preset_names() -> tuple[str, ...]:
    """Names of the protocols that come with the installation."""
    return tuple(sorted(file.stem for file in _PRESETS.glob("*.toml")))


def load_protocol(source: str | Path, overrides: Iterable[str] = ()) -> Protocol:
    """Read a protocol by preset name or from a TOML file, and apply overrides.

    Parameters
    ----------
    source
        Name of a preset, or the path of a file (anything that ends in ``.toml``).
    overrides
        Lines ``dotted.key=value``; the value is TOML (``training.epochs=1``), or a bare word taken as a string.

    Raises
    ------
    UsageError
        The preset or file doesn't exist, isn't TOML, has an unknown key or a bad value; the sentence names the
        file, the key and what is allowed.
    """
    where, tree = _read(str(source))
    for line in overrides:
        key, sep, text = line.partition("=")
        if not sep or not key.strip():
            raise UsageError(f"An override has the form dotted.key=value, for example training.epochs=1; got {line!r}.")
        _put(tree, key.strip().split("."), _value(text.strip()))
    return parse_protocol(tree, where)


def parse_protocol(tree: Mapping[str, Any], where: str) -> Protocol:
    """Check a tree of plain values; `where` names the file in the error."""
    try:
        return Protocol.model_validate(tree)
    except ValidationError as error:
        raise UsageError(_sentence(error, where, tree)) from None


def _read(source: str, seen: tuple[str, ...] = ()) -> tuple[str, dict[str, Any]]:
    if source.endswith(".toml"):
        path = Path(source)
        where = str(path)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UsageError(
                f"There is no protocol file {where!r}; give a file that exists or one of the presets: "
                f"{', '.join(preset_names())}."
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"The protocol file {where!r} can't be read: {error}.") from None
    elif source in preset_names():
        where = f"{source}.toml"
        text = (_PRESETS / where).read_text(encoding="utf-8")
    else:
        raise UsageError(
            f"Unknown protocol {source!r}; the valid ones are: {', '.join(preset_names())}, or the path of a "
            "file that ends in .toml."
        )
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not valid TOML: {error}.") from None
    except RecursionError:
        raise UsageError(f"{where} is nested too deeply for a protocol.") from None
    base = tree.pop("extends", None)
    if base is None:
        tree.setdefault("name", Path(where).stem)
        return where, tree
    if not isinstance(base, str) or base in seen:
        raise UsageError(f"{where}: extends: expected the name of a preset or another file, got {base!r}.")
    if base.endswith(".toml"):
        # As the user reads it: beside the file that says so.
        base = str(Path(source).parent / base)
        if base in seen or base == source:
            raise UsageError(f"{where}: extends: the files extend each other in a circle.")
    _, below = _read(base, (*seen, source))
    below.pop("description", None)
    below["name"] = Path(where).stem
    return where, _merge(below, tree)


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _put(tree: dict[str, Any], keys: Sequence[str], value: Any) -> None:  # noqa: ANN401 - a TOML value
    for key in keys[:-1]:
        below = tree.setdefault(key, {})
        if not isinstance(below, dict):
            raise UsageError(f"The override {'.'.join(keys)} goes below {key!r}, which is a value, not a table.")
        tree = below
    tree[keys[-1]] = value


def _value(text: str) -> Any:  # noqa: ANN401 - a TOML value
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return text


def _key(location: tuple[int | str, ...], tree: Mapping[str, Any]) -> str:
    """Dotted key as the user wrote it: models are a table there, so they go by name."""
    parts = list(location)
    models = tree.get("models")
    if len(parts) > 1 and parts[0] == "models" and isinstance(parts[1], int) and isinstance(models, dict):
        parts[1] = list(models)[parts[1]]
    return ".".join(str(part) for part in parts)


def _sentence(error: ValidationError, where: str, tree: Mapping[str, Any]) -> str:
    """Turn the first problem into a sentence that names file, key, what came and what is allowed."""
    problem = error.errors()[0]
    key = _key(problem["loc"], tree)
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key {key!r}; allowed here: {', '.join(_allowed(problem['loc'][:-1]))}."
    if problem["type"] == "missing":
        return f"{where}: the key {key!r} is missing."
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    got = problem["input"]
    shown = "" if isinstance(got, dict | Protocol | BaseModel) else f", got {got!r}"
    return f"{where}: {key or 'protocol'}: {message}{shown}."


def _allowed(location: tuple[int | str, ...]) -> list[str]:
    """Keys of the record at `location` of the protocol."""
    record: type[BaseModel] = Protocol
    for part in location:
        if isinstance(part, int):  # an entry of `models`
            record = Architecture
            continue
        annotation = record.model_fields[part].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            record = annotation
    return sorted(record.model_fields) + (["extends"] if record is Protocol else [])
