"""Keras' IMDB: ``imdb.npz`` and ``imdb_word_index.json``, read with Keras' own semantics.

Order, labels and ids are those of ``keras.datasets.imdb.load_data`` (its shuffle with seed 113, start token 1, words
from rank + 3 on), so that results can be held against anybody's. Texts are decoded from the ids of the same example.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.datasets import cache as _cache
from rnn_crosscheck.harness.datasets import text
from rnn_crosscheck.harness.datasets.corpus import Corpus, SplitName
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.datasets.spill import Ordered
from rnn_crosscheck.harness.errors import DataError

NPZ = "imdb.npz"
INDEX = "imdb_word_index.json"

#: where Keras keeps them, and the digests of what lies there
_BASE_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_KNOWN = {
    NPZ: "sha256:69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f",
    INDEX: "sha256:027313fe9a320280f3bf0fac5baf58c4a683cf39a7ed9c3d3d3912bde4284cf6",
}
_ATTEMPTS = 2
_SECONDS = 20
_SHUFFLE_SEED = 113
_SPLITS: tuple[SplitName, ...] = ("train", "test")
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
#: several times what IMDB has: what claims more is refused before it fills the memory
_MEMBER_LIMIT = 1 << 27
_INDEX_LIMIT = 1 << 26
_TOKENS_LIMIT = 1 << 26

SOURCE = "Keras' IMDB (the Large Movie Review Dataset, Maas et al., 2011, as token ids): imdb.npz"


def load(data: Path | None, cache: Path | None) -> Dataset:
    """Load Keras' IMDB from `data`, from Keras' own folder, or from the network.

    Raises
    ------
    DataError
        A file is missing and can't be downloaded, or isn't what it should be.
    """
    npz, index = find(data)
    digest = hashlib.sha256()
    for path in (npz, index):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return _cache.cached("imdb", digest.hexdigest(), lambda: read(npz, index), cache)


def find(data: Path | None) -> tuple[Path, Path]:
    """Find both files: in the user's folder, else in ``$KERAS_HOME/datasets``, else downloaded there.

    Raises
    ------
    DataError
        The user's folder lacks one, or the download failed.
    """
    if data is not None:
        folder = data.parent if data.name == NPZ else data
        for name in (NPZ, INDEX):
            if not (folder / name).is_file():
                raise DataError(f"The dataset imdb needs {NPZ} and {INDEX} in one folder, but {folder} has no {name}.")
        return folder / NPZ, folder / INDEX
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "datasets"
    _download(home)
    return home / NPZ, home / INDEX


def _download(folder: Path) -> None:
    """Download what isn't there yet."""
    for name, known in _KNOWN.items():
        if (folder / name).is_file():
            continue
        for attempt in range(_ATTEMPTS):
            try:
                _retrieve(name, known, folder)
                break
            # An address that can't be reached, a server that refuses, a disk that is full; a wrong digest.
            except (OSError, ValueError) as error:
                if attempt + 1 < _ATTEMPTS:
                    continue
                reason = f"it has another SHA-256 than {known[7:]}"
                if not isinstance(error, ValueError):
                    reason = error.strerror or type(error).__name__
                raise DataError(
                    f"The dataset imdb isn't on this machine and {name} can't be downloaded ({reason}); put {NPZ} and "
                    f"{INDEX} into a folder and name it with --crosscheck-data=FOLDER, or use the dataset reviews, "
                    "which comes with the installation."
                ) from None


def _retrieve(name: str, known: str, folder: Path) -> None:
    """Download one file, with a progress bar; it is there whole and as it is known, or not at all."""
    # Imported when they are needed: most comparisons download nothing.
    import pooch
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    pooch.get_logger().setLevel("WARNING")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        downloader = pooch.HTTPDownloader(progressbar=_Bar(progress, f"downloading {name}"), timeout=_SECONDS)
        pooch.retrieve(_BASE_URL + name, known, fname=name, path=folder, downloader=downloader)


class _Bar:
    """What pooch asks of a progress bar, shown by rich."""

    def __init__(self, progress: Any, description: str) -> None:  # noqa: ANN401 - a rich Progress, imported late
        self._progress = progress
        self._task = progress.add_task(description, total=None)
        self.total = 0

    def update(self, more: int) -> None:
        self._progress.update(self._task, total=self.total or None, advance=more)

    def reset(self) -> None:
        """Begin again; pooch does before it fills the bar at the end."""
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """End; the bar goes with its display."""


def read(npz: Path, index: Path) -> Corpus:
    """Read both files into a corpus with Keras' order and ids.

    Raises
    ------
    DataError
        A file isn't what it should be; the sentence names it and the member.
    """
    words = _read_words(index)
    tokens: list[NDArray[np.int32]] = []
    labels: list[NDArray[np.int8]] = []
    ids: list[str] = []
    splits: list[SplitName] = []
    # NumPy's legacy generator, since the order has to be Keras'; once for both splits.
    generator = np.random.RandomState(_SHUFFLE_SEED)
    try:
        archive = zipfile.ZipFile(npz)
    except Exception as error:  # noqa: BLE001 - a damaged zip raises many kinds
        raise DataError(f"{npz} is not a readable .npz file: {_what(error)}.") from None
    with archive:
        for split in _SPLITS:
            marks = _labels(archive, npz, split)
            order = np.arange(len(marks))
            generator.shuffle(order)
            reviews = _reviews(archive, npz, split, len(marks), len(words))
            tokens += [reviews[row] for row in order.tolist()]
            labels.append(marks[order])
            # The id is the row in the file, so that it stays when the order changes.
            ids += [f"imdb-{split}-{row:05d}" for row in order.tolist()]
            splits += [split] * len(marks)
    offsets = np.zeros(len(tokens) + 1, np.int64)
    np.cumsum([len(review) for review in tokens], out=offsets[1:])
    flat = np.concatenate(tokens)
    return Corpus(
        name="imdb",
        source=SOURCE,
        texts=_decoded(flat, offsets, words),
        labels=np.concatenate(labels),
        example_ids=ids,
        splits=splits,
        encoded=text.Encoded(flat, offsets, words),
        origin=str(npz),
    )


def _what(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__


def _decoded(tokens: NDArray[np.int32], offsets: NDArray[np.int64], words: list[str]) -> Ordered:
    """Texts that are put together from their ids whenever they are asked for."""
    spelled = np.array(["", "", "", "", *words], dtype=object)

    def decode(row: int) -> str:
        ids = tokens[offsets[row] + 1 : offsets[row + 1]]  # without the start token
        return " ".join(spelled[ids].tolist())

    return Ordered(decode, np.arange(len(offsets) - 1))


def _read_words(path: Path) -> list[str]:
    """Words by rank, from a JSON object word -> rank."""
    try:
        if path.stat().st_size > _INDEX_LIMIT:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes, far more than a word index; it was refused.")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not readable JSON: {_what(error)}.") from None
    if not isinstance(content, dict) or not content or not all(type(rank) is int for rank in content.values()):
        raise DataError(f"{path}: expected a JSON object of words with their ranks.")
    words = sorted(content, key=content.__getitem__)
    if [content[word] for word in words] != list(range(1, len(words) + 1)):
        raise DataError(f"{path}: expected each rank from 1 to {len(content)} once.")
    try:
        "".join(words).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: a word isn't valid Unicode ({error.reason}).") from None
    return [word.replace("\n", " ") for word in words]


# --- npz without arbitrary pickles --------------------------------------------------------------------------


def _labels(archive: zipfile.ZipFile, npz: Path, split: SplitName) -> NDArray[np.int8]:
    """Labels 0 and 1, int8 (n,)."""
    where, file, n, dtype = _array(archive, npz, f"y_{split}")
    if dtype.kind not in "iu":
        raise DataError(f"{where}: expected integers, got {dtype}.")
    content = file.read()
    if len(content) != n * dtype.itemsize:
        raise DataError(
            f"{where} is damaged: it says that it holds {n:,} labels in {n * dtype.itemsize:,} bytes, but has "
            f"{len(content):,}."
        )
    labels = np.frombuffer(content, dtype)
    wrong = np.flatnonzero((labels != 0) & (labels != 1))
    if len(wrong):
        raise DataError(f"{where}: labels are 0 or 1, got {labels[wrong[0]]} in row {wrong[0]}.")
    return labels.astype(np.int8)


def _reviews(archive: zipfile.ZipFile, npz: Path, split: SplitName, n: int, words: int) -> list[NDArray[np.int32]]:
    """Ids of n reviews, each with its start token."""
    where, file, found, dtype = _array(archive, npz, f"x_{split}")
    if not dtype.hasobject:
        raise DataError(f"{where}: expected lists of word ranks, got an array of {dtype}.")
    if found != n:
        raise DataError(f"{npz}: x_{split} has {found} reviews, but y_{split} has {n} labels.")
    reviews = _unpickle(file, where)
    if len(reviews) != n:
        raise DataError(f"{where} is damaged: it says that it holds {n} reviews, but has {len(reviews)}.")
    total = 0
    tokens: list[NDArray[np.int32]] = []
    for row in range(n):
        ranks = _ranks(reviews[row])
        if ranks is None or not len(ranks):
            raise DataError(f"{npz}: row {row} of x_{split} should be a list of word ranks, and not an empty one.")
        if ranks.min() < 1 or ranks.max() > words:
            raise DataError(
                f"{npz}: row {row} of x_{split} has word ranks from {ranks.min()} to {ranks.max()}, but {INDEX} has 1 "
                f"to {words}; do both files belong together?"
            )
        # A pickle may hold one long list in many places; none of them costs it anything.
        total += len(ranks) + 1
        if total > _TOKENS_LIMIT:
            raise DataError(f"{where} holds more than {_TOKENS_LIMIT:,} words, far more than IMDB has; it was refused.")
        reviews[row] = None  # an integer in a list takes ten times what it takes in an array
        tokens.append(np.concatenate(([text.START], ranks + (text.FIRST_WORD - 1)), dtype=np.int32))
    return tokens


def _ranks(review: object) -> NDArray[np.int64] | None:
    """Ranks of one review; None for what isn't a list of integers."""
    if isinstance(review, _Array):
        return review.integers()
    # Looked at one by one: NumPy would take apart lists in lists, which a pickle makes for nothing.
    if type(review) is not list or not set(map(type, review)) <= {int}:
        return None
    try:
        return np.array(review, np.int64)
    except OverflowError:
        return None


def _array(archive: zipfile.ZipFile, npz: Path, name: str) -> tuple[str, io.BytesIO, int, np.dtype[Any]]:
    """Open one array behind its header: what to call it, the file, its length and its type."""
    where = f"{npz}: {name}.npy"
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        found = ", ".join(archive.namelist()[:8]) or "none"
        raise DataError(f"{npz} has no {name}; expected the arrays {', '.join(_ARRAYS)}, got {found}.") from None
    if info.file_size > _MEMBER_LIMIT:
        raise DataError(f"{where} would unpack to {info.file_size:,} bytes, far more than IMDB has; it was refused.")
    try:
        file = io.BytesIO(archive.read(info))
    except Exception as error:  # noqa: BLE001 - each compression has errors of its own
        raise DataError(f"{where} can't be unpacked: {_what(error)}.") from None
    try:
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = readers[np.lib.format.read_magic(file)](file)
    except Exception as error:  # noqa: BLE001 - a header is a Python literal and a type, either may be anything
        raise DataError(f"{where} is not an .npy array: {_what(error)}.") from None
    if len(shape) != 1:
        raise DataError(f"{where}: expected one axis, got the shape {shape}.")
    return where, file, shape[0], dtype


def _unpickle(file: io.BytesIO, where: str) -> list[Any]:
    """Elements of a pickled array of objects."""
    try:
        loaded = _Unpickler(file, where).load()
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged pickle raises whatever it likes
        raise DataError(f"{where} is damaged: {type(error).__name__}: {_what(error)[:200]}.") from None
    if not isinstance(loaded, _Array) or type(loaded.content) is not list:
        raise DataError(f"{where}: expected an array of lists of integers, got something else.")
    return loaded.content


class _NdArray:
    """Stands for `numpy.ndarray`, which a pickle names as an argument."""


class _Type:
    """Stands for a `numpy.dtype`."""

    def __init__(self, name: object, *_: object) -> None:
        self._name = name
        self._order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._order = state[1]

    def integers(self) -> np.dtype[Any] | None:
        """Type of integers that it stands for; None for any other."""
        if self._name in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8") and self._order in ("<", ">", "=", "|"):
            return np.dtype(f"{self._order}{self._name}")
        return None


class _Array:
    """Stands for an array: what a pickle says of it, and nothing that NumPy would do with that."""

    def __init__(self) -> None:
        self._type: object = None
        self.content: object = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, _, self._type, _, self.content = state

    def integers(self) -> NDArray[np.int64] | None:
        """Its integers; None if it holds anything else."""
        dtype = self._type.integers() if isinstance(self._type, _Type) else None
        if dtype is None or type(self.content) is not bytes or len(self.content) % dtype.itemsize:
            return None
        return np.frombuffer(self.content, dtype).astype(np.int64)


def _reconstruct(*_: object) -> _Array:
    return _Array()


class _Unpickler(pickle.Unpickler):
    """Knows NumPy arrays of lists of integers, and nothing else.

    A pickle runs what it names. What an array names gets a stand-in that only remembers; anything else is refused.
    """

    _KNOWN = {  # noqa: RUF012 - nobody changes it
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): _NdArray,
        ("numpy", "dtype"): _Type,
    }

    def __init__(self, file: io.BytesIO, where: str) -> None:
        super().__init__(file)
        self._where = where

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - whatever is named
        try:
            return self._KNOWN[module, name]
        except KeyError:
            asked = ascii(f"{module}.{name}"[:80])[1:-1]
            raise DataError(
                f"{self._where} asks for {asked} to be run, which an array of lists of integers doesn't need; it was "
                "refused, and nothing in the file was run."
            ) from None

    def persistent_load(self, pid: object) -> Any:  # noqa: ANN401 - never returns
        """Refuse what lies outside of the file."""
        raise DataError(
            f"{self._where} refers to something outside of itself, which was refused; nothing in the file was run."
        )
