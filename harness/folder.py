"""Files and folders that are whole or absent, and whose folder it is: a comparison's, or somebody else's."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from rnn_crosscheck.harness.errors import UsageError

if TYPE_CHECKING:
    from filelock import BaseFileLock

#: what says that a folder is a comparison's; the first file that is written into one
MANIFEST = "manifest.json"


def is_comparison(folder: Path) -> bool:
    """Whether a folder carries our manifest, of whatever version, or one that is damaged beside our description."""
    described = says_of_itself(folder / "dataset.json", {"format", "fingerprint", "inputs_hash"})
    return described or says_of_itself(folder / MANIFEST, {"format", "protocol", "backends", "runs"})


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


def claim(folder: Path, option: str) -> BaseFileLock:
    """Take a folder for this process, until it lets go or ends in whatever way.

    Raises
    ------
    UsageError
        Another process has it; names `option`, that process, and when it began.
    OSError
        The folder can't be written.
    """
    from filelock import FileLock, Timeout  # a tenth of a second, which workers needn't wait for

    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / ".lock"), folder / ".lock.txt"
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UsageError(
            f"Another comparison is under way in {folder}: {_first_line(holder)}. Wait for it, end it, or give another "
            f"folder: {option} DIR."
        ) from None
    write_text(holder, f"process {os.getpid()}, since {datetime.now(UTC).isoformat(sep=' ', timespec='seconds')}\n")
    return lock


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")[:100].strip()
    except (OSError, ValueError):
        return "a process that hasn't said which"


@contextmanager
def new_file(path: Path, *, flushed: bool = False) -> Iterator[Path]:
    """Give a temporary file that becomes `path` when the block ends well, replacing what was there.

    `flushed`, it is on the disk itself before it counts: what can't be made anew in seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(handle)
    scratch = Path(name)
    try:
        yield scratch
        scratch.chmod(0o644)
        if flushed:
            _flush(scratch)
        os.replace(scratch, path)
        if flushed:
            _flush(path.parent)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str, *, flushed: bool = False) -> None:
    """Write a text file whole or not at all."""
    with new_file(path, flushed=flushed) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, record: BaseModel) -> None:
    """Write a record, whole or not at all, with a seal that tells whether it is what was written."""
    write_text(path, sealed(record.model_dump_json(indent=1) + "\n"), flushed=True)


_END = "\n}\n"
_SEAL = re.compile(rb',\n "sha256": "([0-9a-f]{64})"\n}\n\Z')


def sealed(text: str) -> str:
    """Add to a JSON object, of a line for each key, the digest of what it was without."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f'{text.removesuffix(_END)},\n "sha256": "{digest}"{_END}'


def unsealed(content: bytes) -> bytes | None:
    """Give what was sealed, or None where the seal is missing or doesn't fit."""
    if (seal := _SEAL.search(content)) is None:
        return None
    text = content[: seal.start()] + _END.encode()
    return text if hashlib.sha256(text).hexdigest() == seal[1].decode() else None


def sha256_of(path: Path) -> str:
    """Digest of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `path` when the block ends well, replacing what was there.

    Its files, and that it is there, are on the disk itself before it counts.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        scratch.chmod(0o755)
        yield scratch
        for inside in (*scratch.rglob("*"), scratch):
            _flush(inside)
        _put(scratch, path)
        _flush(path.parent)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _put(scratch: Path, path: Path) -> None:
    """Move a folder into place; what is there, perhaps another process' since a moment ago, steps aside first."""
    where: dict[str, Any] = {"dir": path.parent, "prefix": f".{path.name}-old-", "ignore_cleanup_errors": True}
    with tempfile.TemporaryDirectory(**where) as aside:
        for number in count():
            try:
                return os.replace(scratch, path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
            with suppress(FileNotFoundError):
                os.replace(path, Path(aside) / str(number))


def _flush(path: Path) -> None:
    """Have the system write a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def resolved(path: Path) -> Path:
    """Follow links as far as they lead; who opens a loop of them gets an `OSError` (`Path.resolve` raises another)."""
    return Path(os.path.realpath(path))


def way_to(other: Path, folder: Path) -> str:
    """Write where `other` lies as seen from `folder`, which holds after both were moved together."""
    return Path(os.path.relpath(resolved(other), resolved(folder))).as_posix()
