"""Imports go downwards, and somebody notices when one doesn't."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("harness", "backends", "reports", "docs", "src", "pyproject.toml"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("file", "planted", "contract"),
    [
        ("harness/worker/train.py", "from rnn_crosscheck.harness.execution import plan", "rooms of the harness"),
        ("harness/parity/stages.py", "from rnn_crosscheck.harness import conformance", "rooms of the harness"),
        ("harness/execution/local.py", "from rnn_crosscheck.harness.session import session", "rooms of the harness"),
        ("harness/results.py", "from rnn_crosscheck.reports import load", "harness knows no backend and no report"),
        ("reports/analysis/timing.py", "from rnn_crosscheck.reports.pages import markdown", "rooms of the reports"),
        ("reports/read/comparison.py", "from rnn_crosscheck.reports.analysis import frames", "rooms of the reports"),
        ("reports/read/comparison.py", "import torch", "harness and reports import no framework"),
        ("backends/pytorch.py", "from rnn_crosscheck.harness import results", "backends know the contract"),
        (
            "reports/read/comparison.py",
            "from rnn_crosscheck.harness import backend",
            "reports read results and the protocol",
        ),
    ],
)
def test_a_planted_import_breaks_its_contract(copy: Path, file: str, planted: str, contract: str) -> None:
    path = copy / file
    path.write_text(f"{path.read_text()}\n{planted}\n")
    done = lint(copy)
    assert done.returncode != 0
    (broken,) = (line for line in done.stdout.splitlines() if line.endswith(" BROKEN"))
    assert contract in broken, done.stdout


def test_the_contracts_are_kept(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout
