"""Datasets encoded in a folder: written from a `Corpus`, opened as a `Dataset`.

Layout of the folder::

    tokens.npy    int32 (total,)      full ids, each example with its start token
    offsets.npy   int64 (n + 1,)      example i is tokens[offsets[i]:offsets[i + 1]]
    labels.npy    int8 (n,)           0 or 1
    splits.npy    int8 (n,)           position in SPLITS
    words.txt     words by rank, one a line
    texts.arrow   example_id and text, one row an example
    meta.json     name, source, fingerprint, size and hash of each file; written last
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from rnn_crosscheck.harness.adapter import Late
from rnn_crosscheck.harness.datasets import text
from rnn_crosscheck.harness.datasets.corpus import SPLITS, Corpus
from rnn_crosscheck.harness.errors import DataError
from rnn_crosscheck.harness.folder import unsealed, write_json

pa: Any = Late("pyarrow")

FORMAT = 2

_ARRAYS = {"tokens": np.int32, "offsets": np.int64, "labels": np.int8, "splits": np.int8}
_FILES = (*(f"{array}.npy" for array in _ARRAYS), "words.txt", "texts.arrow")
#: bytes, or characters of text, that are written or hashed at once
_BATCH = 1 << 22
#: the ids before the first word's
_SPECIAL = ("<pad>", "<start>", "<oov>", "<unused>")


# --- on disk ------------------------------------------------------------------------------------------------


class _File(BaseModel, frozen=True, extra="forbid"):
    bytes: int
    sha256: str


class _Meta(BaseModel, frozen=True, extra="forbid"):
    format: int
    name: str
    source: str
    fingerprint: str
    files: dict[str, _File]
    encode_seconds: float = 0.0


def write(corpus: Corpus, folder: Path, begun: float | None = None) -> None:
    """Encode a corpus into an existing folder.

    Parameters
    ----------
    corpus
        What a loader has read.
    folder
        Where it goes.
    begun
        When reading it began, by ``time.perf_counter``; None for now.

    Raises
    ------
    DataError
        An example has no word; the sentence names it.
    """
    begun = time.perf_counter() if begun is None else begun
    codes = np.array([SPLITS.index(split) for split in corpus.splits], np.int8)
    offsets, words = _write_tokens(corpus, codes == SPLITS.index("train"), folder / "tokens.npy")
    empty = np.flatnonzero(np.diff(offsets) == 1)
    if len(empty):
        example_id = corpus.example_ids[int(empty[0])]
        raise corpus.error(
            f"the text of {example_id!r} has no word, so there is nothing to classify "
            f"({len(empty)} such text{'s' if len(empty) > 1 else ''}); leave it out"
        )
    arrays: dict[str, NDArray[Any]] = {"offsets": offsets, "labels": corpus.labels, "splits": codes}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    spelled = "\n".join(words).encode()
    (folder / "words.txt").write_bytes(spelled)
    _write_texts(corpus, folder / "texts.arrow")

    whole = {"name": corpus.name.encode(), "words": spelled}
    whole |= {name: array.astype(array.dtype.newbyteorder("<")).tobytes() for name, array in arrays.items()}
    parts: dict[str, Callable[[], Iterable[bytes]]] = {
        "ids": partial(_joined, corpus.example_ids),
        "tokens": partial(_blocks, folder / "tokens.npy"),
        **{name: partial(iter, [content]) for name, content in whole.items()},
    }
    meta = _Meta(
        format=FORMAT,
        name=corpus.name,
        source=corpus.source,
        fingerprint=_fingerprint(parts),
        files={name: _describe(folder / name) for name in _FILES},
        encode_seconds=time.perf_counter() - begun,
    )
    write_json(folder / "meta.json", meta)


def _write_tokens(corpus: Corpus, training: NDArray[np.bool_], path: Path) -> tuple[NDArray[np.int64], list[str]]:
    """Write the tokens, and return their offsets and the words by rank."""
    if corpus.encoded is not None:
        np.save(path, corpus.encoded.tokens)
        return corpus.encoded.offsets, corpus.encoded.words
    with path.open("w+b") as file:
        # The header comes again when the size is known; NumPy pads it, so that any size fits.
        _write_header(file, 0)
        begin = file.tell()
        offsets, words = text.encode_into(file, corpus.texts, training)
        file.seek(0)
        _write_header(file, int(offsets[-1]))
        assert file.tell() == begin
    return offsets, words


def _write_header(file: IO[bytes], total: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.int32)), "fortran_order": False, "shape": (total,)}
    np.lib.format.write_array_header_1_0(file, header)


def _write_texts(corpus: Corpus, path: Path) -> None:
    schema = pa.schema([("example_id", pa.large_string()), ("text", pa.large_string())])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        ids: list[str] = []
        texts: list[str] = []
        characters = 0
        for example_id, content in zip(corpus.example_ids, corpus.texts, strict=True):
            ids.append(example_id)
            texts.append(content)
            characters += len(content)
            if characters >= _BATCH or len(ids) >= _BATCH // 64:
                writer.write_batch(pa.record_batch([ids, texts], schema=schema))
                ids, texts, characters = [], [], 0
        writer.write_batch(pa.record_batch([ids, texts], schema=schema))


def _blocks(path: Path) -> Iterator[bytes]:
    """Content of an ``.npy`` file of int32 in little-endian order, a few megabytes at a time."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        while block := file.read(_BATCH):
            yield np.frombuffer(block, np.int32).astype("<i4").tobytes()


def _joined(strings: Sequence[str]) -> Iterator[bytes]:
    """Strings as lines, the last without its end, some thousands at a time."""
    lines = iter(strings)
    separator = b""
    while some := list(islice(lines, 1 << 14)):
        yield separator + "\n".join(some).encode()
        separator = b"\n"


def _fingerprint(parts: Mapping[str, Callable[[], Iterable[bytes]]]) -> str:
    """Hash parts, each of which is asked for twice and needn't fit into memory."""
    digest = hashlib.sha256()
    for name in sorted(parts):
        # The name and size before each part: no two datasets run together into the same bytes.
        digest.update(f"{name} {sum(map(len, parts[name]()))}\n".encode())
        for content in parts[name]():
            digest.update(content)
    return digest.hexdigest()


def _describe(path: Path) -> _File:
    with path.open("rb") as file:
        return _File(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


class Dataset:
    """An encoded dataset, opened from its folder; what it holds is read when it is asked for.

    Attributes
    ----------
    path
        The folder.
    name, source
        As the loader gave them.
    fingerprint
        SHA-256 over everything that defines the dataset: name, example ids, labels, splits, tokens, offsets
        and the words of the vocabulary.
    tokens
        Full ids of all examples, int32 (total,), memory-mapped and read-only.
    offsets
        Example i is ``tokens[offsets[i]:offsets[i + 1]]``, int64 (n + 1,).
    labels
        0 or 1, int8 (n,).
    splits
        The splits there are, in the order train, valid, test.
    encode_seconds
        What reading and encoding the source took when this folder was made; 0 if that isn't known.
    """

    def __init__(self, path: Path, meta: _Meta, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.path = path
        self.name = meta.name
        self.source = meta.source
        self.fingerprint = meta.fingerprint
        self.encode_seconds = meta.encode_seconds
        self._files = meta.files
        self.tokens: NDArray[np.int32] = arrays["tokens"]
        self.offsets: NDArray[np.int64] = arrays["offsets"]
        self.labels: NDArray[np.int8] = arrays["labels"]
        rows = {name: np.flatnonzero(arrays["splits"] == code) for code, name in enumerate(SPLITS)}
        self.splits: Mapping[str, Split] = MappingProxyType(
            {name: Split(self, name, of_split) for name, of_split in rows.items() if len(of_split)}
        )

    @classmethod
    def open(cls, path: Path) -> Dataset:
        """Open the folder of an encoded dataset.

        Sizes and shapes are checked, contents aren't (see `verify`): a worker opens what was just checked.

        Raises
        ------
        DataError
            The folder is missing, damaged or of another version.
        """
        meta = _read_meta(path)
        for name, expected in meta.files.items():
            if not (path / name).is_file():
                raise _damaged(path, f"{name} is missing")
            if (found := (path / name).stat().st_size) != expected.bytes:
                raise _damaged(path, f"{name} has {found} bytes, expected {expected.bytes}")
        arrays: dict[str, NDArray[Any]] = {}
        for name, dtype in _ARRAYS.items():
            try:
                mapped = np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            except Exception as error:  # noqa: BLE001 - its header is Python source, which may hold any mistake
                raise _damaged(path, f"{name}.npy can't be read ({error})") from None
            if mapped.dtype != dtype or mapped.ndim != 1:
                raise _damaged(path, f"{name}.npy holds {mapped.dtype} {mapped.shape}, expected {dtype.__name__} (n,)")
            # A slice of a np.memmap costs ten times that of a plain array over the same memory.
            arrays[name] = mapped.view(np.ndarray)
        offsets, labels = arrays["offsets"], arrays["labels"]
        if len(offsets) != len(labels) + 1 or len(arrays["splits"]) != len(labels):
            raise _damaged(path, "its arrays don't have the same number of examples")
        if offsets[0] != 0 or offsets[-1] != len(arrays["tokens"]) or np.any(np.diff(offsets) < 2):
            raise _damaged(path, "offsets.npy doesn't fit tokens.npy")
        return cls(path, meta, arrays)

    def verify(self) -> None:
        """Hash every file and compare with what was written.

        Raises
        ------
        DataError
            A file was changed; the sentence names it.
        """
        for name, expected in self._files.items():
            try:
                found = _describe(self.path / name)
            except OSError as error:
                raise _damaged(self.path, f"{name} can't be read ({error})") from None
            if found != expected:
                raise _damaged(self.path, f"{name} isn't what was written")

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{len(split)} {name}" for name, split in self.splits.items())
        return f"<Dataset {self.name!r}: {sizes}>"

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example with its start token, (n,)."""
        return np.diff(self.offsets)

    @cached_property
    def words(self) -> list[str]:
        """Words of the training split by rank; ``words[r - 1]`` has the id r + 3."""
        return (self.path / "words.txt").read_bytes().decode().split("\n")

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Give the words of token ids; ``<pad>``, ``<start>`` and ``<oov>`` for the special ones.

        Raises
        ------
        ValueError
            An id is negative or beyond the words of the training split.
        """
        found: list[str] = []
        first, end = text.FIRST_WORD, text.FIRST_WORD + len(self.words)
        for token in ids:
            if not 0 <= token < end:
                raise ValueError(
                    f"Token id {token} isn't in the vocabulary of {self.name!r}, whose ids run from 0 to {end - 1}."
                )
            found.append(_SPECIAL[token] if token < first else self.words[token - first])
        return found

    def strings(self, column: Literal["example_id", "text"], rows: NDArray[np.int64]) -> list[str]:
        """Read the example ids or texts of `rows`, (m,)."""
        values: list[str] = self._table[column].take(rows).to_pylist()
        return values

    @cached_property
    def _table(self) -> Any:  # noqa: ANN401 - a pyarrow.Table
        try:
            table = pa.ipc.open_file(pa.memory_map(str(self.path / "texts.arrow"))).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise _damaged(self.path, f"texts.arrow can't be read ({error})") from None
        if table.num_rows != len(self):
            raise _damaged(self.path, f"texts.arrow has {table.num_rows} examples, expected {len(self)}")
        return table


def _read_meta(path: Path) -> _Meta:
    try:
        content = unsealed((path / "meta.json").read_bytes())
    except OSError:
        raise DataError(f"There is no encoded dataset in {path}: it has no meta.json that can be read.") from None
    try:
        meta = _Meta.model_validate_json(content or b"")
    except ValidationError:
        raise _damaged(path, "meta.json isn't what was written") from None
    if meta.format != FORMAT:
        raise _damaged(path, f"it has format {meta.format}, expected {FORMAT}")
    if set(meta.files) != set(_FILES):
        raise _damaged(path, f"meta.json lists {', '.join(sorted(meta.files)) or 'no files'}")
    return meta


def _damaged(path: Path, problem: str) -> DataError:
    return DataError(
        f"The encoded dataset in {path} can't be used: {problem}; delete the folder, and the next run builds it again."
    )


class Part:
    """Examples of a dataset or of a split: those of `rows`, in this order."""

    def __init__(self, whole: Dataset | Split, rows: NDArray[np.int64]) -> None:
        self._whole = whole
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def labels(self) -> NDArray[np.int8]:
        """Labels 0 or 1, (n,)."""
        return self._whole.labels[self.rows]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each example with its start token, uncut, (n,)."""
        return self._whole.lengths[self.rows]

    @cached_property
    def example_ids(self) -> list[str]:
        """Names of the examples, n of them."""
        return self._whole.strings("example_id", self.rows)

    @cached_property
    def texts(self) -> list[str]:
        """Texts as the loader read them, n of them."""
        return self._whole.strings("text", self.rows)


class Split(Part):
    """One split of a dataset. Rows count within the split, in its order.

    Attributes
    ----------
    name
        ``train``, ``valid`` or ``test``.
    rows
        Rows of the dataset that make up the split, int64 (n,).
    """

    def __init__(self, dataset: Dataset, name: str, rows: NDArray[np.int64]) -> None:
        super().__init__(dataset, rows)
        self._dataset = dataset
        self.name = name

    def __repr__(self) -> str:
        return f"<Split {self.name!r} of {self._dataset.name!r}: {len(self)} examples>"

    def strings(self, column: Literal["example_id", "text"], rows: NDArray[np.int64]) -> list[str]:
        """Read the example ids or texts of `rows`, (m,), alone."""
        return self._dataset.strings(column, self.rows[rows])

    def tokens_of(self, row: int) -> NDArray[np.int32]:
        """Full ids of one example with its start token, neither cut nor padded."""
        start, end = self._dataset.offsets[self.rows[row]], self._dataset.offsets[self.rows[row] + 1]
        return self._dataset.tokens[start:end]

    def padded(self, rows: NDArray[np.int64], length: int, vocabulary: int) -> NDArray[np.int32]:
        """Token ids of `rows`, int32 (len(rows), length): cut in front, padded in front."""
        return text.pad(self._dataset.tokens, self._dataset.offsets, self.rows[rows], length, vocabulary)
