"""Environments of strangers: one without this project, one with its wheel, one with it installed editable.

They see what this environment has installed through links, so that nothing is downloaded. ``python -m tests.installed``
installs the wheel into one of them and runs a small comparison from it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_OURS = re.compile(r"(__editable__.*|rnn_crosscheck.*)")


@dataclass(frozen=True)
class Installation:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def pip(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "pip", "--quiet", "--python", str(self.python), *arguments]
        subprocess.run(command, check=True, capture_output=True, text=True)

    def install(self, *what: str) -> None:
        self.pip("install", "--no-deps", "--no-index", "--no-build-isolation", *what)

    def run(self, *command: str, folder: Path) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "COLUMNS")}
        return subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            env={**environment, "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"},
            check=False,
        )


def make(folder: Path, *, without: tuple[str, ...] = ("hypothesis", "_hypothesis")) -> Installation:
    """Make an environment that has all that this one has, but for this project and the distributions named."""
    venv.create(folder / "venv", symlinks=True)
    made = Installation(folder / "venv")
    there = folder / "distributions"
    there.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if not _OURS.fullmatch(entry.name) and not entry.name.startswith(without) and entry.suffix != ".pth":
                (there / entry.name).symlink_to(entry)
    (made.site_packages / "others.pth").write_text(f"{there}\n")
    script = made.folder / "bin" / "pytest"
    script.write_text(f"#!{made.python}\nimport sys\nimport pytest\nsys.exit(pytest.main())\n")
    script.chmod(0o755)
    return made


def build(folder: Path) -> Path:
    """Build the wheel by way of the source distribution."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True,
        capture_output=True,
        text=True,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def small(backends: str) -> tuple[str, ...]:
    """Give the options of a whole comparison that is as small as can be."""
    sizes = {
        "data.train_examples": 32,
        "data.valid_examples": 8,
        "data.test_examples": 40,
        "data.length": 8,
        "training.epochs": 1,
        "timing.starts": 1,
        "timing.min_rounds": 5,
        "timing.max_rounds": 5,
        "parity.initial_twins": 0,
        "parity.continuing_twins": 0,
    }
    chosen = (f"--crosscheck-backends={backends}", "--crosscheck-models=rnn", "--crosscheck-seeds=1")
    return (*chosen, *(f"--crosscheck-set={key}={value}" for key, value in sizes.items()))


def names_in(wheel: Path) -> list[str]:
    """Names of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="crosscheck-wheel-") as name:
        folder = Path(name)
        environment = make(folder)
        environment.install(str(build(folder / "dist")))
        (folder / "user").mkdir()
        for command in (
            ("rnn-crosscheck", "list"),
            ("rnn-crosscheck", "new-backend", "my-framework"),
            ("pytest", "--benchmark", *small("pytorch")),
        ):
            done = environment.run(*command, folder=folder / "user")
            print(done.stdout + done.stderr)
            if done.returncode:
                sys.exit(f"{' '.join(command)} from the wheel ended with exit code {done.returncode}.")


if __name__ == "__main__":
    main()
