"""A cache of encoded datasets, addressed by what they were made from.

A folder is named after the loader and a hash of the source's digest, the loader and `VERSION`, so a source that
changes is another entry, never a stale one. It is built beside its place and moved there when it is whole.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs

from rnn_crosscheck.harness.datasets.corpus import Corpus
from rnn_crosscheck.harness.datasets.dataset import FORMAT, Dataset, write
from rnn_crosscheck.harness.errors import DataError

#: raised whenever the same source would be read, split or encoded in another way
VERSION = 1

VARIABLE = "CROSSCHECK_CACHE"

_ATTEMPTS = 3


def default_folder() -> Path:
    """Folder of the cache: ``$CROSSCHECK_CACHE``, else the platform's place for caches."""
    return Path(os.environ.get(VARIABLE) or platformdirs.user_cache_dir("rnn-crosscheck"))


def key(digest: str, loader: str) -> str:
    """Hash of everything that an encoded dataset is made from, given the digest of its source."""
    return hashlib.sha256(f"{loader}\n{digest}\n{VERSION}.{FORMAT}".encode()).hexdigest()


def cached(loader: str, digest: str, read: Callable[[], Corpus], folder: Path | None = None) -> Dataset:
    """Open the encoded dataset from the cache, or read, encode and keep it.

    Parameters
    ----------
    loader
        Name of the loader, a plain word.
    digest
        Digest of the source: of everything that `read` depends on.
    read
        Reads the source; called when the cache has no whole entry.
    folder
        Of the cache; None for the default.

    Raises
    ------
    DataError
        The source isn't as it should be, or the cache can't be written.
    """
    folder = default_folder() if folder is None else folder
    entry = folder.absolute() / f"{loader}-{key(digest, loader)[:32]}"
    for _ in range(_ATTEMPTS):
        with suppress(DataError):  # missing or damaged; both are mended by building it
            return _verified(entry)
        try:
            _build(entry, read)
        except OSError as error:
            raise DataError(
                f"The encoded dataset can't be written to the cache folder {folder}: {error}; set {VARIABLE} to a "
                "folder that has room and can be written."
            ) from error
    return _verified(entry)


def fetched(name: str, fingerprint: str, fetch: Callable[[], bytes], folder: Path | None = None) -> Path:
    """Give the folder of an encoded dataset that was made elsewhere; unless it is in the cache, it is fetched, once.

    Parameters
    ----------
    name
        Of the entry in the cache.
    fingerprint
        Of the dataset.
    fetch
        Gives the entry, packed by tar.
    folder
        Of the cache; None for the default.

    Raises
    ------
    DataError
        The cache can't be written, or what was fetched is another dataset.
    """
    from filelock import FileLock

    folder = (default_folder() if folder is None else folder).absolute()
    entry = folder / name
    if (entry, fingerprint) in _FETCHED and entry.is_dir():
        return entry
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{name}.lock"):
        if not _holds(entry, fingerprint):
            with tempfile.TemporaryDirectory(dir=folder, prefix=f".{name}-", ignore_cleanup_errors=True) as scratch:
                with tarfile.open(fileobj=io.BytesIO(fetch())) as archive:
                    archive.extractall(scratch, filter="data")
                Path(scratch).chmod(0o755)
                _install(Path(scratch), entry)
    if not _holds(entry, fingerprint):
        raise DataError(f"{entry} isn't the dataset with fingerprint {fingerprint}.")
    _FETCHED.add((entry, fingerprint))
    return entry


#: entries that this process has verified
_FETCHED: set[tuple[Path, str]] = set()


def _holds(entry: Path, fingerprint: str) -> bool:
    with suppress(DataError):
        return _verified(entry).fingerprint == fingerprint
    return False


def _verified(entry: Path) -> Dataset:
    dataset = Dataset.open(entry)
    # Tens of milliseconds, and a comparison never trains on bits that have rotted.
    dataset.verify()
    return dataset


def _build(entry: Path, read: Callable[[], Corpus]) -> None:
    entry.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=entry.parent, prefix=f".{entry.name}-", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        scratch.chmod(0o755)
        begun = time.perf_counter()
        write(read(), scratch, begun)
        _install(scratch, entry)


def _install(scratch: Path, entry: Path) -> None:
    """Move a whole folder into place; give way to another process that was quicker."""
    if entry.exists():
        with suppress(DataError):
            _verified(entry)
            return
        aside = Path(tempfile.mkdtemp(dir=entry.parent, prefix=f".{entry.name}-old-"))
        os.replace(entry, aside / entry.name)
        shutil.rmtree(aside, ignore_errors=True)
    try:
        os.replace(scratch, entry)
    except OSError:
        # Another process put its own there since; the caller looks at what it finds.
        if not entry.exists():
            raise
