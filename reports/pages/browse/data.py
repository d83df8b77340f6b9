"""What the page to browse examples knows: sides, pairs and their floor, every example, and which texts go where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnn_crosscheck.reports.analysis.disagreement import snippet
from rnn_crosscheck.reports.analysis.frames import each
from rnn_crosscheck.reports.analysis.words import Read, Reader
from rnn_crosscheck.reports.read.comparison import Occlusions, Predicted
from rnn_crosscheck.reports.writing import plain

#: whole texts, and their characters together, that lie in the page itself; characters of those beside it
INSIDE, INSIDE_CHARACTERS, BESIDE_CHARACTERS = 5_000, 6_800_000, 40_000_000

#: characters of a longer text that its snippet is made of
_ENOUGH = 400


@dataclass(frozen=True)
class Data:
    """What the page is made of.

    Attributes
    ----------
    facts
        Names, figures and one column a fact of every example, as JSON has it.
    probabilities
        Every run's probabilities, uint8 (runs, examples): ``min(255, floor(256 p))``, so that 128 and more is exactly
        p >= 0.5.
    beside
        Place of an example to its whole text, for those that lie in a file of their own.
    """

    facts: Mapping[str, Any]
    probabilities: NDArray[np.uint8]
    beside: Mapping[int, str]


def data(title: str, predicted: Predicted, groups: pd.DataFrame, listed: Iterable[str], occlusions: Occlusions) -> Data:
    """Gather what the page shows.

    Parameters
    ----------
    title
        What was compared on what.
    groups
        As `disagreement.groups` gives them: they have the figures that the page repeats.
    listed
        Ids of examples that the report shows with figures: the page has the same ones, not bytes.
    occlusions
        What is known of words.
    """
    test, runs = predicted.test, predicted.ok
    texts = [str(text) for text in test["text"]]
    cut = test["truncated"].astype(bool).to_numpy()
    exact, words = _exact(predicted, listed), _words(predicted, occlusions)
    inside, beside = _places(texts, [*dict.fromkeys([*exact, *words, *_rank(predicted).tolist()])])
    whole, own = set(inside), _own(groups)
    facts = {
        "title": title,
        "runs": _runs(runs, own),
        "pairs": _pairs(runs, groups, own),
        "id": [str(name) for name in test.index],
        "label": test["label"].astype(int).tolist(),
        "cut": np.flatnonzero(cut).tolist(),
        **_known(test),
        "text": [
            text if place in whole else snippet(text[-_ENOUGH:] if end else text[:_ENOUGH], end)
            for place, (text, end) in enumerate(zip(texts, cut.tolist(), strict=True))
        ],
        "inside": inside,
        "beside": beside,
        "exact": exact,
        "words": words,
    }
    return Data(facts, _bytes(predicted), {place: texts[place] for place in beside})


def _bytes(predicted: Predicted) -> NDArray[np.uint8]:
    values = predicted.probabilities[list(predicted.ok.index)].to_numpy(np.float64)
    return np.ascontiguousarray(np.minimum(255, np.floor(256 * values)).astype(np.uint8).T)


def _known(test: pd.DataFrame) -> dict[str, Any]:
    """Give tokens, and per cent of unknown words, where they are known."""
    if test["length"].isna().any():
        return {}
    return {
        "length": test["length"].astype(int).tolist(),
        "unknown": (100 * test["oov"].astype(float).fillna(0.0)).round(1).tolist(),
    }


def _rank(predicted: Predicted) -> NDArray[np.intp]:
    """Order examples by how far apart the runs stand, or by how surely every one of them is wrong: the most first."""
    values = predicted.probabilities.to_numpy(np.float64)
    least, most = values.min(axis=1), values.max(axis=1)
    mistake = np.where(predicted.test["label"].to_numpy() == 0, least, 1 - most)
    return np.argsort(-np.maximum(most - least, mistake), kind="stable")


def _places(texts: Sequence[str], rank: Sequence[int]) -> tuple[list[int], list[int]]:
    """Divide the texts: those that lie in the page, and those beside it; for what is left there is no room."""
    inside: list[int] = []
    beside: list[int] = []
    here, there = INSIDE_CHARACTERS, BESIDE_CHARACTERS
    for place in rank:
        size = len(texts[place])
        if len(inside) < INSIDE and size <= here:
            inside.append(place)
            here -= size
        elif size <= there:
            beside.append(place)
            there -= size
    return sorted(inside), sorted(beside)


def _own(groups: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """Give what two seeds of one backend and model disagree on, by division, backend and model."""
    rows = groups[groups["kind"] == "seeds"]
    return {(row.division, row.backend_a, row.model_a): float(row.disagreement) for row in each(rows)}


def _runs(runs: pd.DataFrame, own: Mapping[tuple[str, str, str], float]) -> list[dict[str, Any]]:
    """Give every run: as one that can be chosen, and as a side of its own."""
    return [
        {
            "id": str(run_id),
            "division": row.division,
            "side": {"name": str(run_id), "runs": [place], "own": own.get((row.division, row.backend, row.model))},
        }
        for place, (run_id, row) in enumerate(zip(runs.index, each(runs), strict=True))
    ]


def _pairs(runs: pd.DataFrame, groups: pd.DataFrame, own: Mapping[tuple[str, str, str], float]) -> list[dict[str, Any]]:
    """Give the pairs of backends and of models: title, what they share, and two sides with the places of their runs."""
    seeds: dict[tuple[str, str, str], list[int]] = {}
    for place, row in enumerate(each(runs)):
        seeds.setdefault((row.division, row.backend, row.model), []).append(place)
    found = []
    for row in each(groups[groups["kind"] != "seeds"]):
        recipes = [(row.division, row.backend_a, row.model_a), (row.division, row.backend_b, row.model_b)]
        across, shared = (1, row.model_a) if row.kind == "backends" else (2, row.backend_a)
        names = [recipe[across] for recipe in recipes]
        found.append(
            {
                "title": ", ".join(names) + (f": {shared}" if shared else ""),
                "division": row.division,
                "shared": shared,
                "alike": "backend" if row.kind == "backends" else "model",
                "disagreement": float(row.disagreement),
                "sides": [
                    {"name": name, "runs": seeds[recipe], "own": own.get(recipe)}
                    for name, recipe in zip(names, recipes, strict=True)
                ],
            }
        )
    return found


def _exact(predicted: Predicted, listed: Iterable[str]) -> dict[int, list[float]]:
    """Give every run's probability of the examples that the report shows, as it shows them."""
    places = sorted(set(predicted.test.index.get_indexer(pd.Index(list(listed), dtype=object)).tolist()))
    values = predicted.probabilities[list(predicted.ok.index)].to_numpy(np.float64)
    return {place: [round(value, 6) for value in values[place].tolist()] for place in places}


def _words(predicted: Predicted, occlusions: Occlusions) -> dict[int, dict[int, dict[str, Any]]]:
    """Give, by example and by run, what the words do that moved it most, and where they stand in the text."""
    reader = Reader(occlusions)
    runs = {str(run_id): number for number, run_id in enumerate(predicted.ok.index)}
    places = {str(name): number for number, name in enumerate(predicted.test.index)}
    asked = occlusions.probabilities[["run_id", "example_id"]].drop_duplicates()
    found: dict[int, dict[int, dict[str, Any]]] = {}
    for row in each(asked[asked["run_id"].isin(runs.keys())]):
        read = reader.read(row.run_id, row.example_id)
        if read is None:
            continue
        place = places[row.example_id]
        text = str(predicted.test["text"].iloc[place])
        stand = _stand(text, reader.words(row.example_id))
        marks = [[_units(text[:end]) for end in stand[one.position]] for one in read.single] if stand else []
        found.setdefault(place, {})[runs[row.run_id]] = {"said": _in_words(row.run_id, read), "marks": marks}
    return found


def _in_words(run_id: str, read: Read) -> str:
    moved = [f"{plain(' '.join(one.words))} {one.effect:+.2f}" for one in (*read.single, *read.stretches)]
    return f"words of {run_id}: {', '.join(moved) or 'none moves it'}"


def _stand(text: str, words: Sequence[str]) -> list[tuple[int, int]]:
    """Find where the words that the models see stand in a text; empty if they aren't its end.

    They are the last ones of the text. From its end on, nothing but separators may stand between two of them.
    """
    lowered = text.lower()
    if len(lowered) != len(text):  # a letter that becomes two would move all that follows
        return []
    found = []
    end = len(text)
    for word in reversed(words):
        begin = lowered.rfind(word.lower(), 0, end)
        between = lowered[begin + len(word) : end]
        if begin < 0 or any(character.isalnum() for character in between):
            return []
        found.append((begin, begin + len(word)))
        end = begin
    return found[::-1]


def _units(text: str) -> int:
    """Length of a text as JavaScript counts it: characters beyond the first 65,536 are two."""
    return len(text) + sum(character > "\uffff" for character in text)
