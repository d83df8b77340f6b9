"""Whatever happens to a file of a comparison, its report shows what was computed or says what is missing, and why."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from rnn_crosscheck.harness.errors import CrosscheckError, in_a_sentence
from rnn_crosscheck.harness.folder import write_json
from rnn_crosscheck.harness.results import LostCheck, lost_check
from rnn_crosscheck.reports.analysis.findings import find
from rnn_crosscheck.reports.build import as_json, pages
from rnn_crosscheck.reports.read.comparison import load
from tests.reports.folders import (
    protocol,
    rewrite,
    write_comparison,
    write_effects,
    write_occlusions,
    write_stages,
    write_traces,
    write_transplants,
)

BACKENDS, DIVISIONS = ("keras-tensorflow", "pytorch"), ("native", "matched")
PROTOCOL = protocol(models=protocol().models[1:])

Damage = Callable[[Path, Random], None]

#: what a file holds that a process was to write, and what runs if somebody took it for a program or a pickle
HOSTILE = b"cos\nsystem\n(S'touch planted'\ntR."


def cut(path: Path, random: Random) -> None:
    path.write_bytes(path.read_bytes()[: random.randrange(path.stat().st_size)])


def empty(path: Path, random: Random) -> None:
    path.write_bytes(b"")


def flip_a_bit(path: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def change_a_digit(path: Path, random: Random) -> None:
    content = path.read_bytes()
    places = [found.start() for found in re.finditer(rb"[0-9]", content)] or [0]
    at = random.choice(places)
    path.write_bytes(content[:at] + b"%d" % random.randrange(10) + content[at + 1 :])


def delete(path: Path, random: Random) -> None:
    path.unlink()


def another_file(path: Path, random: Random) -> None:
    others = [other for other in sorted(path.parents[1].rglob(f"*{path.suffix}")) if other.is_file()]
    path.write_bytes(random.choice(others).read_bytes())


def a_folder(path: Path, random: Random) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_itself(path: Path, random: Random) -> None:
    path.unlink()
    path.symlink_to(path)


def hostile(path: Path, random: Random) -> None:
    path.write_bytes(HOSTILE)


def written_twice(path: Path, random: Random) -> None:
    path.write_bytes(path.read_bytes() * 2)


DAMAGES: tuple[Damage, ...] = (
    cut,
    empty,
    flip_a_bit,
    change_a_digit,
    delete,
    another_file,
    a_folder,
    a_link_to_itself,
    hostile,
    written_twice,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = write_comparison(
        tmp_path_factory.mktemp("whole"), models=("lstm",), seeds={"native": (0,), "matched": (0,)}, of=PROTOCOL
    )
    write_traces(folder, models=("lstm",), continuing=1, initial=0)
    write_stages(folder, models=("lstm",))
    write_effects(folder, models=("lstm",))
    write_transplants(folder)
    write_occlusions(folder, {f"{kind}-{name}-lstm-seed0": ["example-000"] for kind in DIVISIONS for name in BACKENDS})
    manifest = json.loads((folder / "manifest.json").read_text())
    trained = [f"{what}-{name}" for what in ("transplants", "occlusions") for name in BACKENDS]
    rewrite(folder / "manifest.json", {**manifest, "trained": trained})
    front, figures = told(folder)
    assert "**Unfinished**" not in front
    assert "**Without" not in front
    return folder, figures


def told(folder: Path) -> tuple[str, str]:
    """Give the front page, and all that the report says in numbers."""
    comparison = load(folder)
    findings = find(comparison)
    return pages(comparison, findings)[0], as_json(comparison, findings)


def hold(whole: tuple[Path, str], tmp_path: Path, seed: int) -> str:
    """Damage one file, and say what is wrong with what the report makes of it; nothing where all is well."""
    random, (source, before) = Random(seed), whole
    folder = tmp_path / "inside" / "comparison"
    shutil.copytree(source, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    kind = random.choice(sorted({path.suffix for path in files}))  # tables as often as records
    path = random.choice([path for path in files if path.suffix == kind])
    damage = random.choice(DAMAGES)
    content = path.read_bytes()
    damage(path, random)
    what = f"seed {seed}: {damage.__name__} of {path.relative_to(folder)}"
    try:
        with in_a_sentence("The report can't be made"):
            front, after = told(folder)
    except CrosscheckError as error:
        needed = path.parent == folder and path.name != "timings.json"
        return "" if needed and str(error).endswith((".", "?")) and "\n" not in str(error) else f"{what}: {error}"
    except Exception as error:  # noqa: BLE001 - which is what is looked for
        return f"{what}: {error!r}"
    if sorted(entry.name for entry in tmp_path.rglob("*") if entry.name == "planted") or Path("planted").exists():
        return f"{what}: was executed"
    if path.is_file() and not path.is_symlink() and path.read_bytes() == content:
        return ""
    said = "**Without**" in front or "**Unfinished**" in front
    return "" if said or after == before else f"{what}: another report, and not a word"


@pytest.mark.slow
def test_a_damaged_file_is_named_or_the_report_is_what_it_was(whole: tuple[Path, str], tmp_path: Path) -> None:
    assert [wrong for seed in range(6) if (wrong := hold(whole, tmp_path / str(seed), seed))] == []


@pytest.mark.long
def test_many_damages(whole: tuple[Path, str], tmp_path: Path) -> None:
    seeds = range(6, int(os.environ.get("CROSSCHECK_DAMAGES", "60")))  # 300 by hand
    assert [wrong for seed in seeds if (wrong := hold(whole, tmp_path / str(seed), seed))] == []


def test_a_check_that_failed_is_named_with_its_reason(whole: tuple[Path, str], tmp_path: Path) -> None:
    folder = tmp_path / "comparison"
    shutil.copytree(whole[0], folder)
    record = folder / "parity" / "effects-lstm.json"
    record.unlink()
    assert "**Unfinished**, still without 1 of 5 checks of stages and causes" in told(folder)[0]
    write_json(lost_check(record), LostCheck(key="another", reason="It fell long ago."))
    assert "It fell" not in told(folder)[0]
    other = lost_check(folder / "occlusions" / "pytorch.json")
    write_json(other, LostCheck(key="any", keys={"a-run": "of another"}, reason="It fell long ago."))
    other.with_name("pytorch.json").unlink()
    front = told(folder)[0]
    assert "It fell" not in front
    assert "1 of 5 checks of stages and causes and 1 of 4 checks of trained weights" in front
    other.unlink()
    shutil.copy(whole[0] / "occlusions" / "pytorch.json", other.with_name("pytorch.json"))
    write_json(lost_check(record), LostCheck(key="parity", reason="The worker was killed by SIGKILL."))
    front = told(folder)[0]
    assert "**Without** `effects-lstm`: The worker was killed by SIGKILL." in front
    assert "**Unfinished**" not in front
    assert "This makes what is left out anew: `pytest" in front
