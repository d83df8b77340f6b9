"""Keras' IMDB: ``imdb.npz`` and ``imdb_word_index.json``, read with Keras' own semantics.

Order, labels and ids are those of ``keras.datasets.imdb.load_data`` (its shuffle with seed 113, start token 1, ids
of rank + 3), so that results can be held against anybody's. Texts are decoded from the ids of the same example.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets import cache as _cache
from harness.datasets import text
from harness.datasets.dataset import Corpus, Dataset, SplitName
from harness.errors import DataError

NPZ = "imdb.npz"
INDEX = "imdb_word_index.json"

#: where Keras keeps them, and the digests of what lies there (keras/src/datasets/imdb.py)
_BASE_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_KNOWN = {
    NPZ: "sha256:69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f",
    INDEX: "md5:bfafd718b763782e994055a2d397834f",
}
_SHUFFLE_SEED = 113
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
#: an .npy member that claims to be larger is no IMDB
_MEMBER_LIMIT = 1 << 30

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
    if not all((home / name).is_file() for name in (NPZ, INDEX)):
        _download(home)
    return home / NPZ, home / INDEX


def _download(folder: Path) -> None:
    import pooch

    for name, known in _KNOWN.items():
        if (folder / name).is_file():
            continue
        problem: Exception | None = None
        for _ in range(2):  # one retry
            try:
                pooch.retrieve(_BASE_URL + name, known, fname=name, path=folder, progressbar=True)
                break
            # The libraries below pooch raise errors of many kinds for a network that isn't there.
            except (OSError, ValueError) as error:
                problem = error
        else:
            raise DataError(
                f"The dataset imdb isn't on this machine and {name} can't be downloaded "
                f"({type(problem).__name__}); put {NPZ} and {INDEX} into a folder and name it with "
                "--crosscheck-data, or use the dataset reviews, which comes with the installation."
            ) from problem


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
    names: tuple[SplitName, ...] = ("train", "test")
    # NumPy's legacy generator, once for both splits, since the order has to be Keras'.
    generator = np.random.RandomState(_SHUFFLE_SEED)
    try:
        archive = zipfile.ZipFile(npz)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{npz} is not a readable .npz file: {error}.") from None
    with archive:
        for split in names:
            reviews = _member(archive, npz, f"x_{split}")
            marks = _member(archive, npz, f"y_{split}")
            if len(reviews) != len(marks):
                raise DataError(f"{npz}: x_{split} has {len(reviews)} reviews, but y_{split} has {len(marks)} labels.")
            order = np.arange(len(reviews))
            generator.shuffle(order)
            tokens += [_ids(reviews[row], npz, split, row, len(words)) for row in order.tolist()]
            labels.append(np.asarray(marks)[order].astype(np.int8))
            # The id is the row in the file, so that it stays when the order changes.
            ids += [f"imdb-{split}-{row:05d}" for row in order.tolist()]
            splits += [split] * len(reviews)
            del reviews
    offsets = np.zeros(len(tokens) + 1, np.int64)
    np.cumsum([len(review) for review in tokens], out=offsets[1:])
    flat = np.concatenate(tokens) if tokens else np.empty(0, np.int32)
    spelled = np.array(["<pad>", "<start>", "<oov>", "<unused>", *words], dtype=object)
    texts = [" ".join(spelled[review[1:]].tolist()) for review in tokens]
    return Corpus(
        name="imdb",
        source=SOURCE,
        texts=texts,
        labels=np.concatenate(labels),
        example_ids=ids,
        splits=splits,
        encoded=text.Encoded(flat, offsets, words),
    )


def _ids(review: object, npz: Path, split: str, row: int, words: int) -> NDArray[np.int32]:
    """Ids of one review: the start token, then rank + 3."""
    ranks: NDArray[Any] = np.asarray(review)
    if ranks.ndim != 1 or not len(ranks) or ranks.dtype.kind not in "iu":
        raise DataError(f"{npz}: row {row} of x_{split} should be a list of word ranks, got {str(review)[:60]!r}.")
    if ranks.min() < 1 or ranks.max() > words:
        raise DataError(
            f"{npz}: row {row} of x_{split} has word ranks from {ranks.min()} to {ranks.max()}, but {INDEX} has 1 to "
            f"{words}; do both files belong together?"
        )
    ids = np.empty(len(ranks) + 1, np.int32)
    ids[0] = text.START
    ids[1:] = ranks + (text.FIRST_WORD - 1)
    return ids


def _read_words(path: Path) -> list[str]:
    """Words by rank, from a JSON object word -> rank."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not readable JSON: {error}.") from None
    if not isinstance(content, dict) or not all(type(rank) is int for rank in content.values()):
        raise DataError(f"{path}: expected a JSON object of words with their ranks.")
    words = sorted(content, key=content.__getitem__)
    if [content[word] for word in words] != list(range(1, len(words) + 1)):
        raise DataError(f"{path}: expected each rank from 1 to {len(content)} once.")
    return [word.replace("\n", " ") for word in words]


# --- npz without arbitrary pickles --------------------------------------------------------------------------


class _Unpickler(pickle.Unpickler):
    """Knows NumPy arrays of lists of integers, and nothing else.

    A pickle runs what it names. These names build an array and its dtype; lists and integers need none.
    """

    _ALLOWED = frozenset(
        (module, name)
        for package in ("numpy.core", "numpy._core")
        for module, name in ((f"{package}.multiarray", "_reconstruct"), (f"{package}.numeric", "_frombuffer"))
    ) | {("numpy", "ndarray"), ("numpy", "dtype")}

    def __init__(self, file: IO[bytes], where: str) -> None:
        super().__init__(file)
        self._where = where

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - whatever is named
        if (module, name) not in self._ALLOWED:
            raise DataError(
                f"{self._where} asks for {module}.{name} to be run, which an array of lists of integers doesn't need; "
                "it was refused, and nothing in the file was run."
            )
        # numpy.core has moved to numpy._core; the old name would warn.
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)

    def persistent_load(self, pid: object) -> Any:  # noqa: ANN401 - never returns
        raise DataError(f"{self._where} refers to something outside of itself ({pid!r}), which was refused.")


def _member(archive: zipfile.ZipFile, npz: Path, name: str) -> Sequence[Any] | NDArray[Any]:
    """Read one array; an array of objects goes through `_Unpickler`."""
    where = f"{npz}: {name}.npy"
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        found = ", ".join(archive.namelist()) or "none"
        raise DataError(f"{npz} has no {name}; expected the arrays {', '.join(_ARRAYS)}, got {found}.") from None
    if info.file_size > _MEMBER_LIMIT:
        raise DataError(f"{where} would unpack to {info.file_size:,} bytes, far more than IMDB has; it was refused.")
    try:
        content = archive.read(info)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{where} can't be unpacked: {error}.") from None
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, _, dtype = header(file)
    except (ValueError, KeyError) as error:
        raise DataError(f"{where} is not an .npy array: {error}.") from None
    if len(shape) != 1:
        raise DataError(f"{where}: expected one axis, got the shape {shape}.")
    if not dtype.hasobject:
        file.seek(0)
        try:
            plain: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise DataError(f"{where} is damaged: {error}.") from None
        if plain.dtype.kind not in "iu":
            raise DataError(f"{where}: expected integers, got {plain.dtype}.")
        return plain
    try:
        loaded = _Unpickler(file, where).load()
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged pickle raises whatever it likes
        raise DataError(f"{where} is damaged: {type(error).__name__}: {error}.") from None
    if not isinstance(loaded, np.ndarray) or loaded.shape != shape:
        raise DataError(f"{where}: expected an array of shape {shape}, got {type(loaded).__name__}.")
    return loaded
