"""What a loader reads: labelled texts with their splits, and what every dataset is held to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.datasets import text
from rnn_crosscheck.harness.errors import DataError

SplitName = Literal["train", "valid", "test"]
SPLITS: tuple[SplitName, ...] = get_args(SplitName)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Labelled texts as a loader read them, checked.

    Attributes
    ----------
    name
        Name of the dataset.
    source
        Where it comes from, in a sentence for the report.
    texts
        One text an example; the order of the rows of a split is the order of the split. A sequence that isn't a list
        or a tuple gives valid Unicode. Large datasets lie on disk, with the training split first.
    labels
        0 or 1, int8 (n,).
    example_ids
        One unique name an example.
    splits
        ``train``, ``valid`` or ``test`` for each example; there need not be a ``valid``.
    encoded
        The ids, for a source that comes encoded; None to encode the texts.
    origin
        What an error names: the user's file, for a dataset that is read from one.

    Raises
    ------
    DataError
        A sentence that names the example or the split that isn't as it should be.
    """

    name: str
    source: str
    texts: Sequence[str]
    labels: NDArray[np.int8]
    example_ids: Sequence[str]
    splits: Sequence[SplitName]
    encoded: text.Encoded | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        sizes = {name: len(getattr(self, name)) for name in ("texts", "labels", "example_ids", "splits")}
        if len(set(sizes.values())) > 1:
            shown = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sizes.items())
            raise self.error(f"expected one of each for every example, got {shown}")
        self._check_ids()
        self._check_texts()
        self._check_labels()
        self._check_splits()

    def error(self, problem: str) -> DataError:
        """Say what isn't as it should be."""
        return DataError(f"{self.origin or f'Dataset {self.name!r}'}: {problem}.")

    def _check_ids(self) -> None:
        for example_id in self.example_ids:
            if not example_id or "\n" in example_id or not _is_unicode(example_id):
                raise self.error(f"an example id is one line of text, got {example_id!r}")
        if repeated := first_repeat(self.example_ids):
            raise self.error(f"example ids must be unique, got {self.example_ids[repeated[1]]!r} twice")

    def _check_texts(self) -> None:
        if not isinstance(self.texts, list | tuple):
            return  # read from disk or decoded, so valid, and costly to go through
        for example_id, content in zip(self.example_ids, self.texts, strict=True):
            if not _is_unicode(content):
                raise self.error(f"the text of {example_id!r} isn't valid Unicode (it has a lone surrogate)")

    def _check_labels(self) -> None:
        labels = np.asarray(self.labels)
        wrong = np.flatnonzero((labels != 0) & (labels != 1))
        if len(wrong):
            example_id = self.example_ids[int(wrong[0])]
            raise self.error(f"labels are 0 or 1, got {labels[wrong[0]]!s} for {example_id!r}")
        object.__setattr__(self, "labels", labels.astype(np.int8))

    def _check_splits(self) -> None:
        present: dict[str, set[int]] = {}
        for example_id, split, label in zip(self.example_ids, self.splits, self.labels.tolist(), strict=True):
            if split not in SPLITS:
                raise self.error(f"a split is one of {', '.join(SPLITS)}, got {split!r} for {example_id!r}")
            present.setdefault(split, set()).add(label)
        for required in ("train", "test"):
            if required not in present:
                raise self.error(f"there is no example in the split {required!r}, which is needed")
        for name, classes in present.items():
            if len(classes) < 2:
                raise self.error(
                    f"every split needs examples of both classes, but all of {name!r} have the label {classes.pop()}"
                )


def first_repeat(values: Sequence[str]) -> tuple[int, int] | None:
    """Find the first value that was there before: the earlier and the later place, None if all are different."""
    # Eight bytes a value, where a set takes more than a hundred; equal hashes are looked at again.
    hashes = np.fromiter(map(hash, values), np.int64, len(values))
    order = np.argsort(hashes, kind="stable")
    alike = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    suspects = np.unique(np.concatenate([order[alike], order[alike + 1]]))
    seen: dict[str, int] = {}
    for place in suspects.tolist():
        earlier = seen.setdefault(values[place], place)
        if earlier != place:
            return earlier, place
    return None


def _is_unicode(content: str) -> bool:
    try:
        content.encode()
    except UnicodeEncodeError:
        return False
    return True
