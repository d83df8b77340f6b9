"""Texts to token ids, the way Keras prepared its IMDB dataset.

A text is lower-cased, punctuation becomes spaces, and it is split on the space character. Words are ranked by
frequency in the training split. Ids: 0 pads, 1 starts every example, 2 stands for a word out of vocabulary, 3
is never used, and a word of rank r (from 1) has the id r + 3. Only the pad and the vocabulary's size depend on
a protocol, so what is stored are the full ids; `pad` cuts them to a length and to a vocabulary.

Source: ``keras.preprocessing.text.Tokenizer`` and ``keras.datasets.imdb.load_data`` (``start_char=1``,
``oov_char=2``, ``index_from=3``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD = 0
START = 1
OOV = 2
#: id of the most frequent word; 3 stays unused, as in Keras
FIRST_WORD = 4

_SEPARATORS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
_TO_SPACES = str.maketrans(_SEPARATORS, " " * len(_SEPARATORS))


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


class _Numbering(dict[str, int]):
    """Numbers that are given out as words are first seen."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


def _pieces(text: str) -> list[str]:
    # Not str.split(): that also splits on U+0085 and U+00A0, which stay inside words.
    return text.lower().translate(_TO_SPACES).split(" ")


def tokenise(text: str) -> list[str]:
    """Words of a text, in order."""
    return [word for word in _pieces(text) if word]


def encode(texts: Sequence[str], training: NDArray[np.bool_]) -> Encoded:
    """Encode texts with the vocabulary of those that are for training.

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
    rows = np.concatenate([np.flatnonzero(training), np.flatnonzero(~training)])
    n_training = int(np.count_nonzero(training))
    # One pass gives out provisional numbers in the order of first appearance, training texts first, so that
    # the numbers up to `known` are the training words, already in the order that breaks ties. The empty piece
    # between two spaces takes number 0: dropping it from an array is quicker than from a list.
    numbering = _Numbering({"": 0})
    number = numbering.__getitem__
    chunks: list[NDArray[np.int32]] = [np.empty(0, np.int32)] * len(texts)
    known = 1
    for position, row in enumerate(rows.tolist()):
        if position == n_training:
            known = len(numbering)
        numbers = np.fromiter(map(number, _pieces(texts[row])), np.int32)
        chunks[row] = numbers[numbers != 0]
    if n_training == len(texts):
        known = len(numbering)

    counts = np.zeros(known, np.int64)
    for row in rows[:n_training].tolist():
        np.add.at(counts, chunks[row], 1)
    by_rank = np.argsort(-counts[1:], kind="stable") + 1
    final = np.full(len(numbering), OOV, np.int32)
    final[by_rank] = np.arange(FIRST_WORD, FIRST_WORD + len(by_rank), dtype=np.int32)

    offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([1 + len(chunk) for chunk in chunks], out=offsets[1:])
    tokens = np.empty(int(offsets[-1]), np.int32)
    for chunk, start in zip(chunks, offsets.tolist(), strict=False):
        tokens[start] = START
        tokens[start + 1 : start + 1 + len(chunk)] = final[chunk]
    spelled = list(numbering)
    return Encoded(tokens, offsets, [spelled[i] for i in by_rank.tolist()])


def pad(
    tokens: NDArray[np.int32],
    offsets: NDArray[np.int64],
    rows: NDArray[np.int64],
    length: int,
    vocabulary: int,
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
