"""Which words of an example moved a run: what happens to its probability when they are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnn_crosscheck.reports.read.comparison import Occlusions

#: words, and runs of words, that are named for each run of an example
NAMED, NAMED_RUNS = 3, 1

#: a change in probability that is smaller is not worth a word
LEAST = 0.005

#: words that are shown on either side of one that mattered
AROUND = 9


@dataclass(frozen=True)
class Moved:
    """Words of one example, and what they do to one run.

    Attributes
    ----------
    position, words
        Place of the first word among those that the models see, and the words as written.
    effect
        Probability of the positive class as it is, minus the same without them: above 0 they speak for *positive*.
    """

    position: int
    words: tuple[str, ...]
    effect: float


@dataclass(frozen=True)
class Read:
    """What one run made of one example: the single words, and the longer stretches, that moved it most."""

    single: tuple[Moved, ...]
    stretches: tuple[Moved, ...]

    @property
    def positions(self) -> frozenset[int]:
        """Places of the single words."""
        return frozenset(moved.position for moved in self.single)


class Reader:
    """Looks up in `occlusions` what was left out of which example."""

    def __init__(self, occlusions: Occlusions) -> None:
        self._asked = dict(iter(occlusions.probabilities.groupby(["run_id", "example_id"], sort=False)))
        self._words = {
            str(example_id): rows.sort_values("position")["word"].tolist()
            for example_id, rows in occlusions.words.groupby("example_id", sort=False)
        }

    def read(self, run_id: str, example_id: str) -> Read | None:
        """Tell which words moved a run most; None if nothing was left out of this example for this run."""
        whole, words = self.whole(run_id, example_id), self._words.get(example_id)
        if whole is None or words is None:
            return None
        rows = self._asked[run_id, example_id]
        effects = whole - rows["probability"].to_numpy(np.float64)
        windows, positions = rows["window"].to_numpy(), rows["position"].to_numpy()

        def most(places: NDArray[np.bool_], limit: int) -> tuple[Moved, ...]:
            chosen = np.flatnonzero(places & (np.abs(effects) >= LEAST))
            order = chosen[np.argsort(-np.abs(effects[chosen]), kind="stable")[:limit]]
            ends = zip(positions[order].tolist(), windows[order].tolist(), effects[order].tolist(), strict=True)
            return tuple(Moved(first, tuple(words[first : first + size]), effect) for first, size, effect in ends)

        return Read(most(windows == 1, NAMED), most(windows > 1, NAMED_RUNS))

    def whole(self, run_id: str, example_id: str) -> float | None:
        """Give a run's probability for an example of which nothing is left out, if it was asked."""
        rows = self._asked.get((run_id, example_id))
        whole = rows.loc[rows["window"] == 0, "probability"] if rows is not None else pd.Series(dtype=float)
        return float(whole.iloc[0]) if len(whole) == 1 else None

    def words(self, example_id: str) -> Sequence[str]:
        """Give the words of an example that the models see; empty if they aren't known."""
        return self._words.get(example_id, ())

    def snippet(self, example_id: str, marked: frozenset[int]) -> list[tuple[int, str]] | None:
        """Give the words around those at the `marked` places, with their places; -1 stands for words left out.

        None if the words of the example aren't known, or nothing is marked.
        """
        words = self._words.get(example_id)
        if words is None or not marked:
            return None
        shown = {
            place for mark in marked for place in range(mark - AROUND, mark + AROUND + 1) if 0 <= place < len(words)
        }
        pieces: list[tuple[int, str]] = []
        previous = -1
        for place in sorted(shown):
            if place != previous + 1:
                pieces.append((-1, "…"))
            pieces.append((place, words[place]))
            previous = place
        if previous < len(words) - 1:
            pieces.append((-1, "…"))
        return pieces
