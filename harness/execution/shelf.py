"""What is on disk already in the folder of a comparison, and room for what is to come."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from rnn_crosscheck.harness.errors import DamageError
from rnn_crosscheck.harness.execution.plan import PlannedCheck, PlannedRun
from rnn_crosscheck.harness.folder import new_file, new_folder
from rnn_crosscheck.harness.results import (
    RESULT,
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


def stored(folder: Path, planned: PlannedRun | PlannedCheck) -> bool:
    """Whether a run or check is whole on disk under its key; a run that was set aside is brought back."""
    if isinstance(planned, PlannedRun):
        return _stored_run(folder, planned)
    try:
        return _read_check(folder, planned).key == planned.key
    except DamageError:
        return False  # not there, or not whole: it is made anew


def _stored_run(folder: Path, run: PlannedRun) -> bool:
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


def put(place: Path, files: Mapping[str, bytes]) -> None:
    """Put a run or the record of a check into its place, whole or not at all, as it came from elsewhere.

    `files` has contents by name; a record that is none of a run's comes after the tables that it describes.
    """
    if any(Path(name).name != name for name in files):
        raise DamageError(f"What came for {place} holds {', '.join(map(repr, files))}, which aren't names of files.")
    if RESULT in files:
        with new_folder(place) as scratch:
            for name, content in files.items():
                (scratch / name).write_bytes(content)
        return
    place.unlink(missing_ok=True)
    for name, content in files.items():
        with new_file(place.with_name(name), flushed=True) as scratch:
            scratch.write_bytes(content)
