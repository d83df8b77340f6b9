"""Slow and plain references, written independently of the code that they check, and a small corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from rnn_crosscheck.harness.datasets.corpus import Corpus, SplitName

PUNCTUATION = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'


def tokenise(text: str) -> list[str]:
    words, word = [], ""
    for character in text.lower():
        if character == " " or character in PUNCTUATION:
            words.append(word)
            word = ""
        else:
            word += character
    return [word for word in [*words, word] if word]


def encode(texts: Sequence[str], training: Sequence[bool]) -> tuple[list[list[int]], list[str]]:
    """Full ids of each text, and the words by rank."""
    counts: Counter[str] = Counter()
    for text, used in zip(texts, training, strict=True):
        if used:
            counts.update(tokenise(text))
    # A Counter keeps the order of first appearance, and sorted() is stable.
    words = sorted(counts, key=lambda word: -counts[word])
    ids = {word: rank + 3 for rank, word in enumerate(words, start=1)}
    return [[1, *(ids.get(word, 2) for word in tokenise(text))] for text in texts], words


def pad(examples: Sequence[Sequence[int]], length: int, vocabulary: int) -> list[list[int]]:
    padded = []
    for example in examples:
        kept = [token if token < vocabulary else 2 for token in example[-length:]]
        padded.append([0] * (length - len(kept)) + kept)
    return padded


TEXTS = (
    "A fine film, fine and warm.",  # train 1
    "A dull film; dull, dull!",  # train 0
    "Fine acting",  # train 1
    "A poor, poor plot",  # train 0
    "warm",  # train 1
    "fine but slow",  # valid 1
    "dull and unheard",  # valid 0
    "A novel plot with one two three four five",  # test 0
    "fine",  # test 1
    "poor film",  # test 0
)
LABELS = (1, 0, 1, 0, 1, 1, 0, 0, 1, 0)
SPLITS: tuple[SplitName, ...] = (("train",) * 5) + (("valid",) * 2) + (("test",) * 3)


def corpus(*, valid: bool = True, order: Sequence[int] = range(10), **changes: object) -> Corpus:
    """A corpus of ten examples; without `valid` its validation examples belong to the training split."""
    fields: dict[str, object] = {
        "name": "tiny",
        "source": "ten texts written for the tests",
        "texts": [TEXTS[row] for row in order],
        "labels": np.array([LABELS[row] for row in order], np.int8),
        "example_ids": [f"tiny-{row}" for row in order],
        "splits": [SPLITS[row] if valid or SPLITS[row] != "valid" else "train" for row in order],
        **changes,
    }
    return Corpus(**fields)  # type: ignore[arg-type]
