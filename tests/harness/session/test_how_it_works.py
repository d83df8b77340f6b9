"""The page that walks the way of a comparison."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs/how-it-works.md").read_text(), re.DOTALL)


def test_a_step_is_at_most_three_lines() -> None:
    assert len(blocks()) == 6
    assert all(len([line for line in block.splitlines() if line]) <= 3 for block in blocks())


def test_every_file_of_the_rooms_is_there() -> None:
    table = (ROOT / "docs/how-it-works.md").read_text().split("## The rooms")[1]
    for line in table.splitlines():
        if found := re.match(r"\| `([\w/]+)/`", line):
            for name in re.findall(r"`(\w+\.py)`", line):
                assert (ROOT / found[1] / name).is_file(), (found[1], name)


@pytest.mark.slow
def test_the_page_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks()), {"__name__": "prompt"})
    planned, ended, title = capsys.readouterr().out.splitlines()
    assert "matched-reference-rnn-seed0" in planned
    assert "weights.npz" in ended
    assert title.startswith("# ")
    assert (tmp_path / "comparison" / "runs" / "matched-reference-rnn-seed0" / "result.json").is_file()
