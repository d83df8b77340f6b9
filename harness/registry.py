"""The register of backends: how one is found by its name, held against the contract, and known by its versions.

Nothing here imports a framework: a backend's file imports its own when it is used.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import re
import shlex
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import get_args

from packaging.requirements import InvalidRequirement, Requirement

from rnn_crosscheck.harness.backend import CAPABILITIES, Backend, InferenceModel, Model, is_other
from rnn_crosscheck.harness.errors import ContractError, UsageError
from rnn_crosscheck.harness.protocol import Cell, Factors, ModelSpec, TrainingSpec, switched

ENTRY_POINTS = "rnn_crosscheck.backends"


@dataclass(frozen=True)
class Registered:
    """A backend that can be named, found without importing its framework."""

    name: str
    target: str

    def load(self) -> type[Backend]:
        """Import the class and hold it against the contract.

        Raises
        ------
        ContractError
            One sentence that names the backend, what was expected and what came.
        """
        module_name, _, attribute = self.target.partition(":")
        try:
            found = getattr(importlib.import_module(module_name), attribute)
        except (Exception, SystemExit) as error:
            raise ContractError(
                f"Backend {self.name!r} ({self.target}) can't be imported: {type(error).__name__}: "
                f"{error if str(error) else 'no message'}."
            ) from error
        check_contract(self.name, found)
        if self.name != self.target and self.name != found.name:
            raise ContractError(
                f"Backend {self.name!r} ({self.target}) calls itself {found.name!r}; register it under the name that "
                "it has."
            )
        return found  # type: ignore[no-any-return]  # just checked


def registered() -> dict[str, Registered]:
    """Backends by name, from the entry points of every installed distribution.

    Raises
    ------
    ContractError
        Two distributions register different classes under one name.
    """
    found: dict[str, Registered] = {}
    for point in metadata.entry_points(group=ENTRY_POINTS):
        other = found.get(point.name)
        if other is not None and other.target != point.value:
            raise ContractError(
                f"Two backends are registered as {point.name!r}: {other.target} and {point.value}; "
                "uninstall one or rename it."
            )
        found[point.name] = Registered(point.name, point.value)
    return found


def find(name: str) -> Registered:
    """Find a backend by its registered name, or as ``module:Class`` for a local one.

    Raises
    ------
    UsageError
        There is none; the sentence lists those there are.
    """
    if ":" in name:
        return Registered(name, name)
    backends = registered()
    if name not in backends:
        raise UsageError(
            f"Unknown backend {name!r}; the valid ones are: {', '.join(sorted(backends))}, or module:Class for a "
            "local one."
        )
    return backends[name]


def check_contract(name: str, found: object) -> None:
    """Refuse a class that isn't a backend.

    It isn't a `Backend` or its model no `Model`, methods are missing, signatures differ, a capability is unknown or
    claimed and not there.
    """
    if not (inspect.isclass(found) and issubclass(found, Backend)):
        raise ContractError(
            f"Backend {name!r}: expected a subclass of rnn_crosscheck.harness.backend.Backend, got {found!r}."
        )
    for attribute in ("name", "distributions", "requirement", "capabilities", "model"):
        if not hasattr(found, attribute):
            raise ContractError(f"Backend {name!r}: {found.__name__} must declare {attribute!r}.")
    if not re.fullmatch(r"\w[\w.:-]*", found.name):
        raise ContractError(
            f"Backend {name!r}: {found.__name__}.name must have letters, digits, '_', '-', '.' and ':' alone, got "
            f"{found.name!r}."
        )
    if not (inspect.isclass(found.model) and issubclass(found.model, Model)):
        raise ContractError(
            f"Backend {name!r}: {found.__name__}.model must be a subclass of rnn_crosscheck.harness.backend.Model, got "
            f"{found.model!r}."
        )
    _check_methods(name, found, Backend)
    _check_methods(name, found.model, Model)
    _check_capabilities(name, found)
    _check_declarations(name, found)


def _check_declarations(name: str, found: type[Backend]) -> None:
    """Hold what a backend says without its framework against what it may say."""
    if not isinstance(found.distributions, tuple) or not all(isinstance(one, str) for one in found.distributions):
        raise ContractError(
            f"Backend {name!r}: {found.__name__}.distributions must be a tuple of names, such as ('torch',), got "
            f"{found.distributions!r}."
        )
    variables = _said(name, found, "worker_environment", 1)
    if not isinstance(variables, Mapping) or not all(
        isinstance(one, str) for pair in variables.items() for one in pair
    ):
        raise ContractError(
            f"Backend {name!r}: {found.__name__}.worker_environment must give texts by the names of variables, such as "
            f"{{'OMP_NUM_THREADS': '1'}}, got {variables!r}."
        )
    wanted = (
        f"Backend {name!r}: {found.__name__}.native_values must give values of the training spec by dotted key, such "
        "as {'factors.biases': 'two', 'factors.dense_weights': 'other: all ones'}"
    )
    for cell in get_args(Cell):
        model = ModelSpec(name=cell, cell=cell, units=2, embedding=2, vocabulary=5, length=1)
        values = _said(name, found, "native_values", model, TrainingSpec())
        if not isinstance(values, Mapping):
            raise ContractError(f"{wanted}, got {values!r}.")
        for key, value in values.items():
            if not _is_value(key, value):
                raise ContractError(f"{wanted}, got {key!r}: {value!r}.")


def _said(name: str, found: type[Backend], method: str, *arguments: object) -> object:
    try:
        return getattr(found, method)(*arguments)
    except Exception as error:
        raise ContractError(
            f"Backend {name!r}: {found.__name__}.{method} ended in {type(error).__name__}: "
            f"{str(error).strip() or 'no message'}."
        ) from error


def _is_value(key: object, value: object) -> bool:
    """Whether the training spec has a key, and the key can have a value; a factor may be something else in words."""
    if is_other(value):
        return isinstance(key, str) and key in {f"factors.{name}" for name in Factors.model_fields}
    try:
        switched(TrainingSpec(), {key: value})  # type: ignore[dict-item]  # whatever somebody wrote
    except (ValueError, LookupError, TypeError, AttributeError):
        return False
    return True


def _check_methods(name: str, found: type, contract: type) -> None:
    missing = sorted(found.__abstractmethods__)  # type: ignore[attr-defined]  # both are ABCs
    if missing:
        raise ContractError(f"Backend {name!r}: {found.__name__} does not implement {', '.join(missing)}.")
    for method in vars(contract):
        if method.startswith("_") or not inspect.isroutine(getattr(contract, method)):
            continue
        want, got = _parameters(getattr(contract, method)), _parameters(getattr(found, method))
        if want != got:
            raise ContractError(
                f"Backend {name!r}: {found.__name__}.{method} takes ({', '.join(got)}), "
                f"the contract asks for ({', '.join(want)})."
            )


def _check_capabilities(name: str, found: type[Backend]) -> None:
    """Hold what a backend claims against what it has."""
    claimed, model = found.capabilities, found.model
    if not isinstance(claimed, Set):
        raise ContractError(
            f"Backend {name!r}: {found.__name__}.capabilities must be a set, such as frozenset({{'native'}}), got "
            f"{claimed!r}."
        )
    where = f"Backend {name!r}: {found.__name__} claims"
    if unknown := sorted(set(claimed) - set(CAPABILITIES)):
        raise ContractError(f"{where} {unknown[0]!r}, which is no capability; there are {', '.join(CAPABILITIES)}.")
    trains = claimed & {"native", "matched"}
    if not trains and "inference" not in claimed:
        raise ContractError(f"{where} none of native, matched and inference, so nothing could be asked of it.")
    if trains and "inference" in claimed:
        raise ContractError(
            f"{where} 'inference' beside {', '.join(sorted(trains))}; it is for backends that train nothing."
        )
    if "factors" in claimed and "matched" not in claimed:
        raise ContractError(f"{where} 'factors', which are switches of matched models, but not 'matched'.")
    lacking = [method for method in ("forward", "gradients") if getattr(model, method) is getattr(Model, method)]
    if "parity" in claimed and lacking:
        raise ContractError(f"{where} 'parity', but {model.__name__} does not implement {' and '.join(lacking)}.")
    if trains and issubclass(model, InferenceModel):
        raise ContractError(
            f"{where} {' and '.join(sorted(trains))}, but {model.__name__} is an InferenceModel, which trains nothing."
        )


def _parameters(method: Callable[..., object]) -> list[str]:
    return [name for name in inspect.signature(method).parameters if name not in ("self", "cls")]


def missing_distributions(backend: type[Backend]) -> tuple[str, ...]:
    """Distributions that the backend needs and that aren't installed."""
    return tuple(name for name in backend.distributions if _version(name) is None)


def installed(backend: type[Backend]) -> dict[str, str]:
    """Versions of the backend's distributions."""
    return {name: _version(name) or "not installed" for name in backend.distributions}


def install_command(backend: type[Backend]) -> str:
    """Give the command that installs what a backend requires, one thing or several with spaces between them."""
    try:
        wanted = [str(Requirement(backend.requirement))]
    except InvalidRequirement:
        wanted = backend.requirement.split()
    return shlex.join(["pip", "install", *wanted])


def versions(backend: type[Backend]) -> dict[str, str]:
    """Versions of the backend's distributions, and a digest of the source that computes its results.

    The source is that of the modules of the backend, of its model and of their base classes, and of what the harness
    itself adds to a result: weights, batches, selection, worker. Comments and layout don't count. Other modules that a
    backend imports are not seen.
    """
    found = {"numpy": _version("numpy") or "not installed", **installed(backend)}
    # Neither the standard library's base classes nor the contract compute anything.
    bases = (*backend.__mro__, *backend.model.__mro__)
    files = {inspect.getfile(base) for base in bases if base.__module__.split(".")[0] not in sys.stdlib_module_names}
    files -= {inspect.getfile(Backend)}
    files |= {str(Path(__file__).parent / name) for name in _COMPUTING}
    found["source"] = digest_of(sorted(map(Path, files), key=lambda path: (path.name, path)))
    return found


#: Python's parser fails now and then in several threads at once (python/cpython#106905)
_PARSING = threading.Lock()


def digest_of(files: Iterable[Path]) -> str:
    """Digest of Python files, in their order; comments and layout don't count."""
    with _PARSING:
        dumped = b"".join(_dumped(file.read_bytes()) for file in files)
    return hashlib.sha256(dumped).hexdigest()[:16]


@cache
def _dumped(source: bytes) -> bytes:
    return ast.dump(ast.parse(source)).encode()


#: files of the harness that a result depends on, whatever the backend
_COMPUTING = (
    "adam.py",
    "weights.py",
    "batches.py",
    "worker/job.py",
    "worker/train.py",
    "parity/trace.py",
    "datasets/selection.py",
    "datasets/text.py",
)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
