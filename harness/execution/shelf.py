"""What is on disk already in the folder of a comparison, and room for what is to come."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from rnn_crosscheck.harness.errors import DamageError
from rnn_crosscheck.harness.execution.plan import PlannedCheck, PlannedRun
from rnn_crosscheck.harness.results import (
    EffectsRecord,
    OcclusionsRecord,
    ParityRecord,
    TransplantsRecord,
    occlusion_tables,
    read_record,
    read_run,
    stored_key,
)
from rnn_crosscheck.harness.tables import verify

_RECORDS: Mapping[str, type[ParityRecord] | type[EffectsRecord] | type[TransplantsRecord] | type[OcclusionsRecord]] = {
    "parity": ParityRecord,
    "effects": EffectsRecord,
    "transplant": TransplantsRecord,
    "occlude": OcclusionsRecord,
}


def stored_check(folder: Path, check: PlannedCheck) -> bool:
    """Whether the check's record is on disk under its key, with all that belongs to it."""
    try:
        return _read_check(folder, check).key == check.key
    except DamageError:
        return False  # not there, or not whole: it is made anew


def _read_check(
    folder: Path, check: PlannedCheck
) -> ParityRecord | EffectsRecord | TransplantsRecord | OcclusionsRecord:
    path = folder / check.path
    record = read_record(path, _RECORDS[check.mode])
    if isinstance(record, OcclusionsRecord):
        for table in occlusion_tables(path):
            verify(table, record.files.get(table.name, ""))
    return record


def damage(folder: Path, planned: PlannedRun | PlannedCheck) -> str:
    """Say why what is on disk doesn't count, where it is damaged; nothing where there is none."""
    path = folder / planned.path
    try:
        if path.exists() and isinstance(planned, PlannedRun):
            read_run(path)
        elif path.exists() and isinstance(planned, PlannedCheck):
            _read_check(folder, planned)
    except DamageError as error:
        return str(error)
    return ""


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
