"""Words that mattered: what a model says to an example when some of its tokens are left out.

Each word is left out alone, and each five in a row are left out together, since what one word says is often said by its
neighbours too. What remains is padded in front, as a shorter text would have been.

Source: occlusion, from Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.datasets import text
from rnn_crosscheck.harness.folder import new_file, sha256_of, write_json
from rnn_crosscheck.harness.results import OcclusionsRecord, occlusion_tables

if TYPE_CHECKING:
    import pyarrow as pa

#: how many words in a row are left out; each window begins where the one before it ended
WINDOWS = (1, 5)


@dataclass(frozen=True, eq=False)
class Occluded:
    """One example whole, and with each of its parts left out.

    Attributes
    ----------
    tokens
        Token ids, int32 (n, length); the first row is the example as it is.
    windows
        Words that a row may lack, int8 (n,): 0 for none. The last window of an example may be shorter.
    positions
        The first word that a row lacks, counted from 0 among the words of the example, int32 (n,); -1 for none.
    """

    tokens: NDArray[np.int32]
    windows: NDArray[np.int8]
    positions: NDArray[np.int32]


def occlude(row: NDArray[np.int32]) -> Occluded:
    """Leave out each part of one padded example, token ids int32 (length,).

    Padding and the start token aren't words: they are neither counted nor left out.
    """
    start, words = _parted(row)
    places = [(0, -1)] + [(window, first) for window in WINDOWS for first in range(0, len(words), window)]
    tokens = np.full((len(places), len(row)), text.PAD, np.int32)
    for line, (window, first) in zip(tokens, places, strict=True):
        rest = words if window == 0 else np.delete(words, slice(first, first + window))
        line[len(line) - len(rest) :] = rest
        line[len(line) - len(rest) - len(start) : len(line) - len(rest)] = start
    windows, positions = np.array(places).T
    return Occluded(tokens, windows.astype(np.int8), positions.astype(np.int32))


def unknown(row: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Say which words of one padded example the models don't know, (words,)."""
    return np.asarray(_parted(row)[1] == text.OOV)


def _parted(row: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Start token, if it wasn't cut off, and words of a padded example."""
    kept = row[row != text.PAD]
    begin = int(len(kept) > 0 and kept[0] == text.START)
    return kept[:begin], kept[begin:]


def spell(
    ids: NDArray[np.int32], content: str, length: int, decode: Callable[[Iterable[int]], Sequence[str]]
) -> list[str]:
    """Spell the words of an example that are left when it is cut to `length` tokens, in order.

    Parameters
    ----------
    ids
        Full ids of the example with its start token, int32 (tokens,).
    content
        Its text; a word that isn't in the training split can be read nowhere else.
    length
        Tokens that are kept, from the end.
    decode
        Gives the words of ids, and a placeholder for a word that isn't in the training split.
    """
    decoded = list(decode(ids[1:].tolist()))
    written = text.tokenise(content)
    # Ids that came with a dataset need not be those of its texts, word for word.
    fits = len(written) == len(decoded) and all(
        token == text.OOV or said == seen for token, said, seen in zip(ids[1:].tolist(), decoded, written, strict=True)
    )
    words = written if fits else decoded
    return words[max(0, len(ids) - length - 1) :]


def write(path: Path, record: OcclusionsRecord, probabilities: pa.Table, words: pa.Table) -> None:
    """Write a record and its tables; as long as they aren't whole, there is no record."""
    import pyarrow.parquet as pq

    files = {}
    # What was there before goes first: its record would describe tables that it doesn't know.
    path.unlink(missing_ok=True)
    for place, table in zip(occlusion_tables(path), (probabilities, words), strict=True):
        with new_file(place, flushed=True) as scratch:
            pq.write_table(table, scratch)
        files[place.name] = sha256_of(place)
    write_json(path, record.model_copy(update={"files": files}))
