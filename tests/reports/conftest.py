from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rnn_crosscheck.reports.read.comparison import Comparison, load
from tests.reports.folders import write_comparison

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole comparison in which one run was killed; read only."""
    return write_comparison(tmp_path_factory.mktemp("comparison"), failed=["matched-pytorch-rnn-seed1"])


@pytest.fixture(scope="session")
def comparison(folder: Path) -> Comparison:
    return load(folder)


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare a text with the file kept of it; CROSSCHECK_UPDATE_GOLDEN=1 writes the files anew."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("CROSSCHECK_UPDATE_GOLDEN") == "1":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        assert path.is_file(), f"no golden file {name}; CROSSCHECK_UPDATE_GOLDEN=1 writes it"
        assert text == path.read_text(encoding="utf-8")

    return check
