"""Writes the files with which a backend begins: the contract to be filled in, its test, its registration."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from string import Template

from rnn_crosscheck.harness.errors import UsageError
from rnn_crosscheck.harness.registry import registered

_TEMPLATES = Path(__file__).parent / "new_backend"


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
    if there := registered().get(name):
        raise UsageError(f"There is a backend called {name!r} already ({there.target}); give another name.")
    package = name.replace("-", "_")
    filled = {
        "name": name,
        "module": f"crosscheck_{package}",
        "kind": "".join(part.capitalize() for part in name.split("-")),
        "package": package,
    }
    filled["entry"] = _filled("entry.toml", filled)
    files = {f"{filled['module']}.py": "backend.py", f"test_{filled['module']}.py": "test.py"}
    project = folder / "pyproject.toml"
    if not project.exists():
        files["pyproject.toml"] = "project.toml"
    for file in files:
        if (folder / file).exists():
            raise UsageError(f"{folder / file} is there already; give another name, or another folder with --output.")
    folder.mkdir(parents=True, exist_ok=True)
    for file, template in files.items():
        (folder / file).write_text(_filled(template, filled), encoding="utf-8")
    said = [f"wrote {folder / file}" for file in files]
    if "pyproject.toml" not in files:
        said += ["", f"{project} is there already; add to it:", "", filled["entry"].rstrip()]
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


def _filled(template: str, values: Mapping[str, str]) -> str:
    return Template((_TEMPLATES / f"{template}.template").read_text(encoding="utf-8")).substitute(values)


def _keys(project: Path) -> set[str]:
    try:
        return set(tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return set()
