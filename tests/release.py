"""What a release has to pass: ``make release-check``, or ``python -m tests.release PYTHON...``.

The wheel is built and checked, and installed into fresh environments without the repository: with PyTorch on each
Python that is named, with everything on the last of them, and with the oldest versions that ``pyproject.toml`` allows
on the first. Each runs a whole small comparison; the oldest versions run the fast tests too. Prints what was run as a
table. Downloads gigabytes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from tests.installed import ROOT, build, small

SHOWN = (
    "pytest",
    "pytest-benchmark",
    "numpy",
    "pandas",
    "pyarrow",
    "tensorflow",
    "keras",
    "torch",
    "jax",
    "onnxruntime",
)
FRAMEWORKS = "keras-tensorflow,pytorch,keras-jax,keras-torch,jax,onnxruntime,reference"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="+", metavar="PYTHON", help="interpreters, the oldest first")
    pythons = parser.parse_args().pythons
    rows = []
    with tempfile.TemporaryDirectory(prefix="crosscheck-release-") as name:
        folder = Path(name)
        wheel = build(folder / "dist")
        run(sys.executable, "-m", "twine", "check", "--strict", *map(str, (folder / "dist").iterdir()))
        for number, python in enumerate(pythons):
            environment = new_environment(python, folder / f"python{number}")
            run(environment, "-m", "pip", "install", "--quiet", f"{wheel}[pytorch]")
            compare(environment, "pytorch", folder / f"with-pytorch-{number}")
            rows.append(("PyTorch alone", *versions(environment)))
        run(environment, "-m", "pip", "install", "--quiet", f"{wheel}[all]")
        compare(environment, FRAMEWORKS, folder / "with-all")
        rows.append(("everything", *versions(environment)))
        environment = oldest(pythons[0], wheel, folder)
        rows.append(("everything, the oldest", *versions(environment)))
    print(tabulate(rows, headers=("installed", "Python", *SHOWN), tablefmt="github"))


def oldest(python: str, wheel: Path, folder: Path) -> str:
    """Run a comparison and the fast tests with the oldest versions that are allowed; returns the interpreter."""
    environment = new_environment(python, folder / "oldest")
    install = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", environment)
    # From pyproject.toml: what a wheel needs isn't direct to uv, so that the newest would be taken.
    needed = ("-r", str(ROOT / "pyproject.toml"), "--extra", "all", "--extra", "dev")
    run(*install, "--resolution", "lowest-direct", *needed)
    run(*install, "--no-deps", str(wheel))
    compare(environment, FRAMEWORKS, folder / "with-oldest")
    run(environment, "-m", "pytest", "-q", "-m", "not slow", "-n", "2", "--dist", "loadfile", folder=ROOT)
    return environment


def run(*command: str, folder: Path | None = None) -> None:
    print("+", *command, flush=True)
    subprocess.run(command, cwd=folder, check=True)


def new_environment(python: str, folder: Path) -> str:
    """Make a virtual environment; returns its interpreter."""
    run(python, "-m", "venv", str(folder))
    return str(folder / "bin" / "python")


def compare(python: str, backends: str, folder: Path) -> None:
    """Run a whole small comparison in an empty folder."""
    folder.mkdir()
    run(python, "-m", "rnn_crosscheck", "list", folder=folder)
    run(python, "-m", "pytest", "--benchmark", *small(backends), folder=folder)
    assert (folder / "comparison" / "report.md").is_file()


def versions(python: str) -> Sequence[str]:
    """Give the versions of an environment: its Python's, then those of `SHOWN`."""
    code = (
        "import json, platform, sys; from importlib import metadata as m;"
        "there = {d.metadata['Name'].lower(): d.version for d in m.distributions()};"
        "print(json.dumps([platform.python_version(), *(there.get(name, '') for name in sys.argv[1:])]))"
    )
    found: Sequence[str] = json.loads(subprocess.check_output([python, "-c", code, *SHOWN], text=True))
    return found


if __name__ == "__main__":
    main()
