"""The Large Movie Review Dataset (Maas et al., 2011) as Stanford gives it out: raw texts, 25,000 for each side.

Read from ``aclImdb_v1.tar.gz``, without unpacking it to the disk, or from its folder:
``aclImdb/{train,test}/{pos,neg}/ID_RATING.txt``. The texts are encoded as those of `reviews` are, with the words of
the training split.

An archive lists one class after the other, so each split is put into the order of its texts' hashes: the first n
examples are a sample of both classes, and the order is the same for an archive and for a folder.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np

from rnn_crosscheck.harness.datasets import text
from rnn_crosscheck.harness.datasets.cache import cached
from rnn_crosscheck.harness.datasets.corpus import Corpus
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.errors import DataError

NAME = "aclimdb"
ARCHIVE = "aclImdb_v1.tar.gz"
FOLDER = "aclImdb"
SOURCE = "the Large Movie Review Dataset (Maas et al., 2011): raw texts of aclImdb_v1"

_REVIEW = re.compile(r"aclImdb/(train|test)/(pos|neg)/(\d{1,9})_(\d{1,2})\.txt", re.ASCII)
#: the longest review has 14,000 bytes
_REVIEW_LIMIT = 1 << 20
#: of everything in the archive: the whole of it, with what isn't read, has 500 MB
_TOTAL_LIMIT = 1 << 32
#: of a header that tarfile would read into memory
_HEADER_LIMIT = 1 << 20

_HOW = (
    f"download {ARCHIVE} from https://ai.stanford.edu/~amaas/data/sentiment/ and name it, or the folder {FOLDER} "
    "unpacked from it, with --crosscheck-data=PATH"
)


def load(data: Path | None = None, cache: Path | None = None) -> Dataset:
    """Load the dataset from the cache, or from the user's archive or folder.

    Raises
    ------
    DataError
        No file or folder was given, or it isn't what it should be; the sentence names it and the member.
    """
    path = find(data)
    return cached(NAME, _digest(path), lambda: read(path), cache)


def find(data: Path | None) -> Path:
    """Find the archive or the folder ``aclImdb``: it is what is given, or lies in what is given.

    Raises
    ------
    DataError
        There is neither.
    """
    if data is None:
        raise DataError(f"The dataset {NAME!r} doesn't come with the installation: {_HOW}.")
    if data.is_file():
        return data
    for path in (data if data.name == FOLDER else data / FOLDER, data / ARCHIVE):
        if path.exists():
            return path
    if (data / "train").is_dir() and (data / "test").is_dir():
        return data  # the folder under another name
    raise DataError(f"{data} is neither {ARCHIVE} nor a folder that holds it or {FOLDER}: {_HOW}.")


def read(path: Path) -> Corpus:
    """Read the texts from the archive or the folder.

    Raises
    ------
    DataError
        A member that can't be taken; the sentence names it.
    """
    rows: list[tuple[str, bytes, str, str, str]] = []
    for name, content in _of_folder(path) if path.is_dir() else _of_archive(path):
        match = _REVIEW.fullmatch(name)
        assert match is not None
        split, kind, serial, rating = match.groups()
        where = f"{path}: {name}"
        try:
            review = content.decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{where} isn't UTF-8: the byte {content[error.start]:#04x} at {error.start} can't be decoded."
            ) from None
        if not text.has_word(review):
            raise DataError(f"{where} holds no word, so there is nothing to classify.")
        rows.append((split, hashlib.sha256(content).digest(), f"{int(serial):05d}_{rating}", kind, review))
    if not rows:
        raise DataError(f"{path} has no member {FOLDER}/train/pos/ID_RATING.txt, nor any other review: {_HOW}.")
    # The training split first, for the encoder.
    rows.sort(key=lambda row: (row[0] != "train", row[1], row[3], row[2]))
    return Corpus(
        name=NAME,
        source=SOURCE,
        texts=[row[4] for row in rows],
        labels=np.array([row[3] == "pos" for row in rows], np.int8),
        example_ids=[f"{NAME}-{row[0]}-{row[3]}-{row[2]}" for row in rows],
        splits=["train" if row[0] == "train" else "test" for row in rows],
        origin=str(path),
    )


def _digest(path: Path) -> str:
    """Digest of the archive, or of the reviews in a folder."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        for name, content in _of_folder(path):
            digest.update(f"{name} {len(content)}\n".encode())
            digest.update(content)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.") from None
    return digest.hexdigest()


# --- a folder -----------------------------------------------------------------------------------------------


def _of_folder(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names, from ``aclImdb/`` on, and contents of the reviews, as `_of_archive` gives them."""
    for split in ("train", "test"):
        for kind in ("neg", "pos"):
            folder = path / split / kind
            for link in (path / split, folder):
                if link.is_symlink():
                    raise _unsafe(path, str(link.relative_to(path)), "a link")
            try:
                names = sorted(os.listdir(folder))
            except OSError as error:
                raise DataError(f"{folder} can't be read ({error.strerror}), expected a folder of reviews.") from None
            for base in names:
                name = f"{FOLDER}/{split}/{kind}/{base}"
                file = folder / base
                if file.is_symlink():
                    raise _unsafe(path, name, "a link")
                if not _REVIEW.fullmatch(name):
                    continue
                if not file.is_file():
                    raise _unsafe(path, name, "not a file")
                if file.stat().st_size > _REVIEW_LIMIT:
                    raise _too_large(path, name, file.stat().st_size)
                try:
                    content = file.read_bytes()
                except OSError as error:
                    raise DataError(f"{file} can't be read: {error.strerror}.") from None
                yield name, content


# --- an archive ---------------------------------------------------------------------------------------------


class _Damaged(Exception):
    """A header that isn't one, where `tarfile` would take the archive to be at its end."""


class _Member(tarfile.TarInfo):
    """A header, looked at before `tarfile` does what it says."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        if len(buf) < tarfile.BLOCKSIZE:
            raise _Damaged("it ends in the middle")
        if not any(buf):
            return super().frombuf(buf, encoding, errors)  # the regular end, which that raises
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            raise _Damaged(str(error)) from None
        # Long names and further attributes are read whole into memory.
        if not (header.isreg() or header.isdir()) and header.size > _HEADER_LIMIT:
            raise _Damaged(f"the header of {header.name[:80]!r} claims {header.size:,} bytes")
        return header


def _of_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    seen: set[str] = set()
    total = 0
    try:
        with (
            gzip.open(path) as unpacked,
            tarfile.open(fileobj=unpacked, mode="r|", tarinfo=_Member, errorlevel=2) as archive,
        ):
            for member in archive:
                name = member.name.removeprefix("./")
                _check(path, member)
                total += member.size
                if total > _TOTAL_LIMIT:
                    raise DataError(f"{path} unpacks to more than {_TOTAL_LIMIT:,} bytes; it was refused.")
                # tarfile remembers every member, which is of no use in a stream.
                archive.members = []  # type: ignore[attr-defined]
                if not member.isfile() or not _REVIEW.fullmatch(name):
                    continue
                if name in seen:
                    raise DataError(f"{path} has the member {name} twice.")
                seen.add(name)
                if member.size > _REVIEW_LIMIT:
                    raise _too_large(path, name, member.size)
                file = archive.extractfile(member)
                assert file is not None
                content = file.read()
                if len(content) != member.size:
                    raise _Damaged("it ends in the middle")
                yield name, content
            # To the end of what is packed, where its checksum is.
            while some := unpacked.read(1 << 20):
                total += len(some)
                if total > _TOTAL_LIMIT:
                    raise DataError(f"{path} unpacks to more than {_TOTAL_LIMIT:,} bytes; it was refused.")
    except (_Damaged, tarfile.TarError, EOFError, OSError, zlib.error, ValueError, OverflowError) as error:
        problem = str(error).rstrip(".") or type(error).__name__
        raise DataError(f"{path} isn't a whole .tar.gz archive: {problem}.") from None


def _check(path: Path, member: tarfile.TarInfo) -> None:
    """Refuse what no honest copy of the archive has; its reviews alone are read, but who knows what else was done."""
    if member.name.startswith(("/", "\\")) or re.match("[A-Za-z]:", member.name):
        raise _unsafe(path, member.name, "an absolute path")
    if ".." in re.split(r"[/\\]", member.name):
        raise _unsafe(path, member.name, "a path out of its folder")
    if member.issym() or member.islnk():
        raise _unsafe(path, member.name, "a link")
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise _unsafe(path, member.name, "not a file or a folder")


def _unsafe(path: Path, name: str, what: str) -> DataError:
    return DataError(f"{path}: {name[:200]!r} is {what}, which the dataset doesn't have; it was refused.")


def _too_large(path: Path, name: str, size: int) -> DataError:
    return DataError(f"{path}: {name} has {size:,} bytes, a review has at most {_REVIEW_LIMIT:,}; it was refused.")
