"""Texts to token ids, the way Keras prepared its IMDB dataset.

A text is lower-cased, punctuation becomes spaces, and it is split on the space character. Words are ranked by
frequency in the training split. Ids: 0 pads, 1 starts every example, 2 stands for a word out of vocabulary, 3
is never used, and a word of rank r (from 1) has the id r + 3. Only the pad and the vocabulary's size depend on
a protocol, so what is stored are the full ids; `pad` cuts them to a length and to a vocabulary.

Source: ``keras.preprocessing.text.Tokenizer`` and ``keras.datasets.imdb.load_data`` (``start_char=1``,
``oov_char=2``, ``index_from=3``).
"""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, repeat
from typing import IO

import numpy as np
from numpy.typing import NDArray

PAD = 0
START = 1
OOV = 2
#: id of the most frequent word; 3 stays unused, as in Keras
FIRST_WORD = 4

_SEPARATORS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
_IN_A_WORD = re.compile(f"[^ {re.escape(_SEPARATORS)}]")
_TO_SPACES = bytes.maketrans(_SEPARATORS.encode(), b" " * len(_SEPARATORS))

#: provisional numbers of what isn't a word
_EMPTY, _START, _UNKNOWN = range(3)
_START_NUMBER = np.array([_START], np.int32)
#: tokens, and Python integers, that there are at once
_BLOCK = 1 << 20
_INTEGERS = 1 << 14


@dataclass(frozen=True, eq=False)
class Encoded:
    """Encoded texts, end to end.

    Attributes
    ----------
    tokens
        Ids of all texts, each with its start token, int32 (total,).
    offsets
        Text i is ``tokens[offsets[i]:offsets[i + 1]]``, int64 (n + 1,).
    words
        Words of the training texts by rank; ``words[r - 1]`` has the id r + 3.
    """

    tokens: NDArray[np.int32]
    offsets: NDArray[np.int64]
    words: list[str]


def _pieces(text: str) -> list[str]:
    # The separators are ASCII, so they can be replaced among the bytes, which takes an eighth of the time.
    spaced = text.lower().encode("utf-8", "surrogatepass").translate(_TO_SPACES).decode("utf-8", "surrogatepass")
    # Not str.split(): that also splits on U+0085 and U+00A0, which stay inside words.
    return spaced.split(" ")


def tokenise(text: str) -> list[str]:
    """Words of a text, in order."""
    return [word for word in _pieces(text) if word]


def has_word(text: str) -> bool:
    """Whether a text has a word."""
    return _IN_A_WORD.search(text) is not None


def encode(texts: Sequence[str], training: NDArray[np.bool_]) -> Encoded:
    """Encode texts with the vocabulary of those that are for training, in memory.

    Parameters
    ----------
    texts
        Texts in the order of the dataset, n of them.
    training
        Which of them rank the words, (n,). Words of equal frequency rank by their first appearance in these
        texts; a word that only the others have is out of vocabulary.

    Returns
    -------
    Encoded
        A text without a word holds its start token alone.
    """
    file = io.BytesIO()
    offsets, words = encode_into(file, texts, training)
    return Encoded(np.frombuffer(file.getbuffer(), np.int32), offsets, words)


def encode_into(
    file: IO[bytes], texts: Sequence[str], training: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], list[str]]:
    """Encode texts as `encode` does, with the tokens in a file: int32 from its present position on.

    Memory doesn't grow with the number of tokens, as long as the texts for training come before the others; else
    all tokens are brought into the order of the texts in memory.

    Parameters
    ----------
    file
        Binary, to write, read and seek in.
    texts
        Read once, those for training first; they may lie on disk.
    training
        As for `encode`.

    Returns
    -------
    offsets, words
        As in `Encoded`.
    """
    begin = file.tell()
    order = np.concatenate([np.flatnonzero(training), np.flatnonzero(~training)])
    n_training = int(np.count_nonzero(training))
    # One pass gives out provisional numbers in the order of first appearance, which is the order that breaks ties.
    # The empty piece between two spaces has one too: dropping a number from an array is quicker than a piece from a
    # list. Separators are no words, so they can stand for what isn't a word.
    special = {"": _EMPTY, "\n": _START, "\t": _UNKNOWN}
    n_special = len(special)
    numbering = defaultdict(count(n_special).__next__, special)
    lengths = np.zeros(len(texts), np.int64)
    counts = np.zeros(n_special, np.int64)
    waiting: list[NDArray[np.int32]] = []
    n_waiting = 0
    for place, row in enumerate(integers(order)):
        pieces = _pieces(texts[row])
        if place < n_training:
            numbers = np.fromiter(map(numbering.__getitem__, pieces), np.int32, len(pieces))
        else:
            # Words that only these texts have need no number, and there may be millions of them.
            numbers = np.fromiter(map(numbering.get, pieces, repeat(_UNKNOWN)), np.int32, len(pieces))
        numbers = numbers[numbers != _EMPTY]
        waiting += (_START_NUMBER, numbers)
        lengths[place] = 1 + len(numbers)
        n_waiting += 1 + len(numbers)
        if n_waiting >= _BLOCK or place in (n_training - 1, len(texts) - 1):
            block = np.concatenate(waiting)
            if place < n_training:
                counted = np.bincount(block, minlength=len(numbering))
                counted[: len(counts)] += counts
                counts = counted
            file.write(block.data)
            waiting, n_waiting = [], 0

    by_rank = np.argsort(-counts[n_special:], kind="stable") + n_special
    final = np.full(len(numbering), OOV, np.int32)
    final[_START] = START
    final[by_rank] = np.arange(FIRST_WORD, FIRST_WORD + len(by_rank), dtype=np.int32)
    _renumber(file, begin, int(lengths.sum()), final)

    offsets = np.zeros(len(texts) + 1, np.int64)
    offsets[1:][order] = lengths
    np.cumsum(offsets, out=offsets)
    if np.any(order[1:] < order[:-1]):
        _reorder(file, begin, order, lengths, offsets)
    spelled = list(numbering)
    return offsets, [spelled[i] for i in by_rank.tolist()]


def integers(order: NDArray[np.int64]) -> Iterator[int]:
    """Elements as Python integers, without a list of all of them."""
    for start in range(0, len(order), _INTEGERS):
        yield from order[start : start + _INTEGERS].tolist()


def _renumber(file: IO[bytes], begin: int, total: int, final: NDArray[np.int32]) -> None:
    """Replace each of the `total` numbers in the file by what `final` has for it."""
    for start in range(0, total, _BLOCK):
        at = begin + 4 * start
        file.seek(at)
        block = np.frombuffer(file.read(4 * min(_BLOCK, total - start)), np.int32)
        file.seek(at)
        file.write(final[block].data)


def _reorder(
    file: IO[bytes], begin: int, order: NDArray[np.int64], lengths: NDArray[np.int64], offsets: NDArray[np.int64]
) -> None:
    """Bring the texts in the file, which lie in `order`, to where `offsets` wants them."""
    file.seek(begin)
    found = np.frombuffer(file.read(4 * int(offsets[-1])), np.int32)
    tokens = np.empty_like(found)
    start = 0
    for row, length in zip(integers(order), integers(lengths), strict=True):
        tokens[offsets[row] : offsets[row + 1]] = found[start : start + length]
        start += length
    file.seek(begin)
    file.write(tokens.data)


def pad(
    tokens: NDArray[np.int32], offsets: NDArray[np.int64], rows: NDArray[np.int64], length: int, vocabulary: int
) -> NDArray[np.int32]:
    """Bring examples to one length: the last `length` tokens are kept, short ones are padded in front.

    Parameters
    ----------
    tokens, offsets
        Encoded texts, (total,) and (n + 1,).
    rows
        Which of them, in this order, (m,).
    length
        Tokens an example is cut or padded to.
    vocabulary
        Ids from here on become 2 (out of vocabulary).

    Returns
    -------
    int32 (m, length)
    """
    ends = offsets[1:][rows]
    starts = np.maximum(offsets[:-1][rows], ends - length)
    padded = np.zeros((len(rows), length), np.int32)
    # A copy per row moves each token once; building the indices of the whole block (8 bytes a token) took
    # three times as long for a batch, and hundreds of megabytes for a split.
    for row, start, end in zip(padded, starts.tolist(), ends.tolist(), strict=True):
        row[length - end + start :] = tokens[start:end]
    padded[padded >= vocabulary] = OOV
    return padded
