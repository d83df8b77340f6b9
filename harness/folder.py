"""Files and folders that are whole or absent, and whose folder it is: a comparison's, or somebody else's."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from rnn_crosscheck.harness.errors import UsageError

#: what says that a folder is a comparison's; the first file that is written into one
MANIFEST = "manifest.json"


def is_comparison(folder: Path) -> bool:
    """Whether a folder carries our manifest, of whatever version."""
    return says_of_itself(folder / MANIFEST, {"format", "protocol", "backends", "runs"})


def says_of_itself(path: Path, keys: Set[str]) -> bool:
    """Whether a file is a JSON object with these keys."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and keys <= content.keys()


def refuse_foreign(folder: Path, option: str, ours: Callable[[Path], bool]) -> None:
    """Refuse an output folder that is neither new nor empty nor `ours`: what is in it is somebody's.

    Raises
    ------
    UsageError
        It names `option` and what is there.
    """
    expected = f"{option} needs a new or an empty folder, or one that was written before"
    try:
        if not os.path.lexists(folder):
            return
        if not folder.is_dir():
            kind = "no folder" if folder.exists() else "a link to nothing"
            raise UsageError(f"{expected}; {str(folder)!r} is {kind}. Give another.")
        # Hidden ones are other tools' (pytest-benchmark's, a desktop's), or left of a write that was cut off.
        there = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise UsageError(f"{expected}; {str(folder)!r} can't be read: {error.strerror}. Give another.") from None
    if there and not ours(folder):
        shown = ", ".join(there[:3]) + (f" and {len(there) - 3} more" if len(there) > 3 else "")
        raise UsageError(f"{expected}; {str(folder)!r} holds other files ({shown}). Give another.")


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a temporary file that becomes `path` when the block ends well, replacing what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        scratch.chmod(0o644)
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with new_file(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, record: BaseModel) -> None:
    """Write a record under a temporary name and move it into place."""
    write_text(path, record.model_dump_json(indent=1) + "\n")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends well, replacing what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        scratch.chmod(0o755)
        yield scratch
        if path.exists():
            # os.replace can't put a folder over a full one; the old one steps aside first.
            aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-old-"))
            os.replace(path, aside / "old")
            os.replace(scratch, path)
            shutil.rmtree(aside)
        else:
            os.replace(scratch, path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def way_to(other: Path, folder: Path) -> str:
    """Write where `other` lies as seen from `folder`, which holds after both were moved together."""
    return Path(os.path.relpath(other.resolve(), folder.resolve())).as_posix()
