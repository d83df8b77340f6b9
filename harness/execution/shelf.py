"""What is on disk already in the folder of a comparison, and room for what is to come."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.harness.execution.plan import PlannedCheck, PlannedRun
from rnn_crosscheck.harness.results import (
    EffectsRecord,
    OcclusionsRecord,
    ParityRecord,
    TransplantsRecord,
    occlusion_tables,
    read_record,
    stored_key,
)

_RECORDS: Mapping[str, type[ParityRecord] | type[EffectsRecord] | type[TransplantsRecord] | type[OcclusionsRecord]] = {
    "parity": ParityRecord,
    "effects": EffectsRecord,
    "transplant": TransplantsRecord,
    "occlude": OcclusionsRecord,
}


def stored_check(folder: Path, check: PlannedCheck) -> bool:
    """Whether the check's record is on disk under its key, with all that belongs to it."""
    path = folder / check.path
    try:
        return read_record(path, _RECORDS[check.mode]).key == check.key and (
            check.mode != "occlude" or all(table.is_file() for table in occlusion_tables(path))
        )
    except ResultsError:
        return False  # not there, or not whole: it is made anew


def stored(folder: Path, run: PlannedRun) -> bool:
    """Whether the run's result is on disk under its key; one that was set aside is brought back."""
    if run.ended_well(folder):
        return True
    aside = _aside(folder, run, run.key)
    if stored_key(aside) != run.key:
        return False
    set_aside(folder, run)
    (folder / run.path).parent.mkdir(parents=True, exist_ok=True)
    os.replace(aside, folder / run.path)
    return True


def set_aside(folder: Path, run: PlannedRun) -> None:
    """Make room for a run: keep a finished result of another protocol, drop a failure.

    Hours of training must not be lost because the next comparison in the same folder asked for something else.
    """
    current = folder / run.path
    key = stored_key(current)
    if key is None:
        shutil.rmtree(current, ignore_errors=True)
        return
    aside = _aside(folder, run, key)
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(current, aside)


def _aside(folder: Path, run: PlannedRun, key: str) -> Path:
    return folder / "superseded" / f"{run.run_id}-{key[:16]}"
