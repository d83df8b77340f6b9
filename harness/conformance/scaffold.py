"""Writes the files with which a backend begins: the contract to be filled in, its test, its registration."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from string import Template

from rnn_crosscheck.harness.errors import UsageError

_BACKEND = '''"""A backend for rnn-crosscheck: $name.

Everything that is still to be written raises NotImplementedError and says what it is. See what comes next with

    pytest --benchmark --crosscheck-conformance $module:$kind
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.adapter import Late, SteppingModel, Update
from rnn_crosscheck.harness.backend import Backend, Capability, Forward, Model, check_device
from rnn_crosscheck.harness.protocol import ModelSpec, Setting, TrainingSpec
from rnn_crosscheck.harness.weights import Weights, check_weights

#: imported at the first use, never when somebody only looks at the backend
framework: Any = Late("$package")


class ${kind}Model(SteppingModel):
    """Embedding, one recurrent layer (``spec.cell``: rnn, lstm or gru), one logit.

    ``self.matched`` says in which division it is, ``self.spec`` and ``self.training`` what was asked for.
    """

    def __init__(self, spec: ModelSpec, training: TrainingSpec, weights: Weights | None, seed: int) -> None:
        super().__init__("$name", spec, training, matched=weights is not None)
        raise NotImplementedError(
            "${kind}Model.__init__: build the layers and the optimizer; with weights None as the framework does by "
            "default, seeded with `seed`, else from the canonical weights (call self.set_weights)"
        )

    def set_weights(self, weights: Weights) -> None:
        check_weights(weights, self.spec, self.where + "set_weights")
        raise NotImplementedError(
            "${kind}Model.set_weights: copy the canonical weights into the model (shapes and gates: harness/weights.py)"
        )

    def get_weights(self) -> Weights:
        raise NotImplementedError("${kind}Model.get_weights: copy the weights out, in the canonical layout, float32")

    def probabilities(self, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
        raise NotImplementedError(
            "${kind}Model.probabilities: for tokens (n, length) the probability of the positive class, float32 (n,); "
            "padding (0) is a token like any other"
        )

    def update(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Update:
        raise NotImplementedError(
            "${kind}Model.update: one step on a batch: mean binary cross-entropy of the logits, gradients, and the "
            "framework's own optimizer when native or rnn_crosscheck.harness.adam.Adam when matched; returns the loss, "
            "the number of right answers and the norm of the gradients, all from before the step"
        )

    # Native models shuffle: override `epoch(batches)`, which gives the batches as they come.
    # On a device that works ahead: override `wait()`, which returns when it has finished.

    def forward(self, tokens: NDArray[np.int32]) -> Forward:
        self.check("forward", tokens)
        raise NotImplementedError(
            "${kind}Model.forward: recurrent states (n, length, units) and logits (n,), for the capability 'parity'"
        )

    def gradients(self, tokens: NDArray[np.int32], labels: NDArray[np.float32]) -> Weights:
        self.check("gradients", tokens, labels)
        raise NotImplementedError(
            "${kind}Model.gradients: those of the mean loss, in the canonical layout, for the capability 'parity'"
        )


class $kind(Backend):
    """$name."""

    name: ClassVar[str] = "$name"
    #: what must be installed; their versions are part of the key of every result
    distributions: ClassVar[tuple[str, ...]] = ()
    #: what to give to pip when they are missing
    requirement: ClassVar[str] = "$package"
    #: take out what it can't do: native, matched, parity; add factors if matched models honour training.factors
    capabilities: ClassVar[frozenset[Capability]] = frozenset({"native", "matched", "parity"})
    model: ClassVar[type[Model]] = ${kind}Model

    def setup(self, *, threads: int, seed: int, setting: Setting, deterministic: bool) -> None:
        raise NotImplementedError(
            "$kind.setup: pin the framework to `threads` threads, seed every generator, ask for determinism; and "
            "declare in `distributions` what must be installed"
        )

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def create(
        self, model: ModelSpec, training: TrainingSpec, *, weights: Weights | None, seed: int, device: str
    ) -> Model:
        check_device(self, device)
        return ${kind}Model(model, training, weights, seed)

    def environment(self) -> dict[str, str]:
        raise NotImplementedError("$kind.environment: the framework's version, device, threads and kernels, as text")
'''

_TEST = '''"""Whether $name conforms: one check for each thing that the contract asks for."""

import subprocess
import sys
from pathlib import Path


def test_it_conforms() -> None:
    command = [sys.executable, "-m", "pytest", "--benchmark", "--crosscheck-conformance", "$module:$kind"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
'''

_ENTRY = """[project.entry-points."rnn_crosscheck.backends"]
$name = "$module:$kind"
"""

_PROJECT = (
    """[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "crosscheck-$name"
version = "0.1.0"
dependencies = ["rnn-crosscheck"]

"""
    + _ENTRY
    + """
[tool.setuptools]
py-modules = ["$module"]
"""
)


def new_backend(name: str, folder: Path) -> str:
    """Write the files of a new backend.

    Parameters
    ----------
    name
        What it is to be called on the command line: small letters, digits, hyphens.
    folder
        Where the files go; made if it isn't there.

    Returns
    -------
    What was written and what to do next, for the terminal.

    Raises
    ------
    UsageError
        The name can't be one, or a file is there already. Nothing was written then.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(
            f"A backend's name has small letters, digits and hyphens and begins with a letter, such as my-framework; "
            f"got {name!r}."
        )
    package = name.replace("-", "_")
    filled = {
        "name": name,
        "module": f"crosscheck_{package}",
        "kind": "".join(part.capitalize() for part in name.split("-")),
        "package": package,
    }
    files = {f"{filled['module']}.py": _BACKEND, f"test_{filled['module']}.py": _TEST}
    project = folder / "pyproject.toml"
    if not project.exists():
        files["pyproject.toml"] = _PROJECT
    for file in files:
        if (folder / file).exists():
            raise UsageError(f"{folder / file} is there already; give another name, or another folder with --output.")
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_text(Template(content).substitute(filled), encoding="utf-8")
    said = [f"wrote {folder / file}" for file in files]
    if "pyproject.toml" not in files:
        said += ["", f"{project} is there already; add to it:", "", Template(_ENTRY).substitute(filled).rstrip()]
        if "entry-points" in _keys(project):
            said.append("(under the entry points that it has)")
    said += [
        "",
        "See what to write next:",
        "",
        f"    pytest --benchmark --crosscheck-conformance {filled['module']}:{filled['kind']}",
        "",
        "docs/adding-a-backend.md has a complete example.",
    ]
    return "\n".join(said)


def _keys(project: Path) -> set[str]:
    try:
        return set(tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return set()
