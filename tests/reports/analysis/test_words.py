from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.reports.analysis.words import AROUND, LEAST, NAMED, Moved, Read, Reader
from rnn_crosscheck.reports.read.comparison import Occlusions, load
from tests.reports.folders import retable, rewrite, write_comparison, write_occlusions

RUN, EXAMPLE = "native-pytorch-lstm-seed0", "example-020"


def occlusions(words: Mapping[str, str], said: Mapping[tuple[str, str], Mapping[tuple[int, int], float]]) -> Occlusions:
    """Make up what runs say; `said`: (run, example) -> (window, position) -> probability."""
    return Occlusions(
        pd.DataFrame(
            [
                (run_id, example_id, window, position, probability)
                for (run_id, example_id), rows in said.items()
                for (window, position), probability in rows.items()
            ],
            columns=["run_id", "example_id", "window", "position", "probability"],
        ).astype({"probability": np.float32}),
        pd.DataFrame(
            [
                (example_id, position, word, False)
                for example_id, text in words.items()
                for position, word in enumerate(text.split())
            ],
            columns=["example_id", "position", "word", "oov"],
        ),
    )


def read(text: str, said: Mapping[tuple[int, int], float]) -> Read:
    found = Reader(occlusions({"one": text}, {("run", "one"): said})).read("run", "one")
    assert found is not None
    return found


def effects(moved: tuple[Moved, ...]) -> list[tuple[str, float]]:
    return [(" ".join(one.words), round(one.effect, 6)) for one in moved]


FILM = "a laughable film with lame jokes and a good end"


# --- which words moved it -----------------------------------------------------------------------------------


def test_words_come_by_how_far_they_move_it_either_way() -> None:
    found = read(FILM, {(0, -1): 0.5, (1, 0): 0.51, (1, 1): 0.75, (1, 4): 0.6, (1, 8): 0.1, (1, 2): 0.55})
    assert effects(found.single) == [("good", 0.4), ("laughable", -0.25), ("lame", -0.1)]
    assert NAMED == 3
    assert [one.position for one in found.single] == [8, 1, 4]
    assert found.positions == {8, 1, 4}


def test_a_word_that_speaks_for_positive_has_an_effect_above_0() -> None:
    (moved,) = read(FILM, {(0, -1): 0.7, (1, 8): 0.2}).single
    assert moved == Moved(8, ("good",), pytest.approx(0.5))


def test_words_of_one_effect_come_in_the_order_of_the_text() -> None:
    found = read(FILM, {(0, -1): 0.5, (1, 2): 0.75, (1, 4): 0.25, (1, 6): 0.75, (1, 8): 0.25})
    assert [one.position for one in found.single] == [2, 4, 6]


def test_what_moves_it_less_is_not_worth_a_word() -> None:
    found = read(FILM, {(0, -1): 0.5, (1, 0): 0.5 - LEAST * 0.99, (1, 1): 0.5 + LEAST * 1.01, (5, 0): 0.5 + LEAST / 2})
    assert effects(found.single) == [("laughable", round(-LEAST * 1.01, 6))]
    assert found.stretches == ()


def test_stretches_are_named_beside_words_and_never_among_them() -> None:
    found = read(FILM, {(0, -1): 0.5, (1, 8): 0.4, (5, 0): 0.9, (5, 5): 0.2})
    assert effects(found.single) == [("good", 0.1)]
    assert effects(found.stretches) == [("a laughable film with lame", -0.4)]
    assert found.positions == {8}


def test_the_last_stretch_ends_with_the_text() -> None:
    found = read("one two three four five six seven", {(0, -1): 0.5, (5, 0): 0.5, (5, 5): 0.2})
    assert effects(found.stretches) == [("six seven", 0.3)]


def test_an_example_that_no_word_moves_has_been_read_all_the_same() -> None:
    found = read(FILM, {(0, -1): 0.5, (1, 0): 0.5, (5, 0): 0.501})
    assert found == Read((), ())
    assert found.positions == frozenset()


def test_each_run_and_each_example_has_its_own_words() -> None:
    reader = Reader(
        occlusions(
            {"one": "dull film", "two": "good film"},
            {
                ("a", "one"): {(0, -1): 0.5, (1, 0): 0.9},
                ("b", "one"): {(0, -1): 0.5, (1, 1): 0.1},
                ("a", "two"): {(0, -1): 0.5, (1, 0): 0.1},
            },
        )
    )

    def of(run_id: str, example_id: str) -> list[tuple[str, float]]:
        found = reader.read(run_id, example_id)
        assert found is not None
        return effects(found.single)

    assert of("a", "one") == [("dull", -0.4)]
    assert of("b", "one") == [("film", 0.4)]
    assert of("a", "two") == [("good", 0.4)]
    assert reader.read("b", "two") is None


def test_order_of_the_rows_on_disk_plays_no_part() -> None:
    known = occlusions({"one": FILM}, {("run", "one"): {(0, -1): 0.5, (1, 1): 0.8, (1, 8): 0.1, (5, 0): 0.9}})
    turned = Occlusions(known.probabilities.iloc[::-1], known.words.iloc[::-1])
    assert Reader(turned).read("run", "one") == Reader(known).read("run", "one")
    assert Reader(turned).snippet("one", frozenset({1})) == Reader(known).snippet("one", frozenset({1}))


def test_what_is_not_known_is_none() -> None:
    nothing = Reader(Occlusions())
    assert nothing.read("run", "one") is None
    assert nothing.snippet("one", frozenset({0})) is None
    some = Reader(occlusions({"one": FILM}, {("run", "one"): {(0, -1): 0.5}, ("run", "two"): {(0, -1): 0.5}}))
    assert some.read("run", "three") is None
    assert some.read("another", "one") is None
    assert some.read("run", "two") is None  # its words aren't known
    assert some.snippet("two", frozenset({0})) is None
    assert some.snippet("one", frozenset()) is None
    # A text without words has none to leave out.
    assert Reader(occlusions({"one": ""}, {("run", "one"): {(0, -1): 0.5}})).read("run", "one") is None
    # Effects are told from the example as it is.
    assert Reader(occlusions({"one": FILM}, {("run", "one"): {(1, 0): 0.5}})).read("run", "one") is None


# --- the text around them -----------------------------------------------------------------------------------


LONG = [f"w{i}" for i in range(60)]


def snippet(*marked: int) -> list[tuple[int, str]]:
    found = Reader(occlusions({"one": " ".join(LONG)}, {})).snippet("one", frozenset(marked))
    assert found is not None
    return found


def piece(first: int, last: int) -> list[tuple[int, str]]:
    return [(place, LONG[place]) for place in range(first, last + 1)]


GAP = [(-1, "…")]


def test_a_snippet_shows_the_words_around_a_marked_one() -> None:
    assert snippet(30) == GAP + piece(30 - AROUND, 30 + AROUND) + GAP


def test_gaps_stand_where_words_are_left_out_only() -> None:
    assert snippet(0) == piece(0, AROUND) + GAP
    assert snippet(59) == GAP + piece(59 - AROUND, 59)
    assert snippet(AROUND, 59) == piece(0, 2 * AROUND) + GAP + piece(59 - AROUND, 59)
    # Pieces that overlap, or that meet, are one.
    assert snippet(25, 30) == GAP + piece(25 - AROUND, 30 + AROUND) + GAP
    assert snippet(10, 11 + 2 * AROUND) == GAP + piece(1, 11 + 3 * AROUND) + GAP
    assert snippet(10, 12 + 2 * AROUND) == GAP + piece(1, 19) + GAP + piece(21, 12 + 3 * AROUND) + GAP


def test_a_short_text_is_shown_whole() -> None:
    words = Reader(occlusions({"one": FILM}, {})).snippet("one", frozenset({4}))
    assert words == list(enumerate(FILM.split()))


# --- off the disk -------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_comparison(tmp_path, models=("lstm",), seeds={"native": (0,)}, timed=False)
    write_occlusions(tmp_path, {RUN: [EXAMPLE, "example-037"], RUN.replace("pytorch", "keras-tensorflow"): [EXAMPLE]})
    return tmp_path


def test_what_is_on_disk_is_read_for_every_run(folder: Path) -> None:
    comparison = load(folder)
    reader = Reader(comparison.occlusions)
    found = reader.read(RUN, EXAMPLE)
    assert found is not None
    assert len(found.single) == NAMED
    assert all(LEAST <= abs(one.effect) <= 0.1 + 1e-6 for one in found.single)
    text = comparison.test.loc[EXAMPLE, "text"].split()
    assert all(text[one.position] == one.words[0] for one in found.single)
    assert len(found.stretches[0].words) == 5
    assert reader.read(RUN.replace("pytorch", "keras-tensorflow"), EXAMPLE) not in (None, found)
    assert reader.read(RUN, "example-037") is not None
    # Both backends know the words of the one that both have read; they stand there once.
    assert not comparison.occlusions.words.duplicated(["example_id", "position"]).any()


@pytest.mark.parametrize("name", ["pytorch.parquet", "pytorch.words.parquet"])
def test_words_of_examples_that_nobody_knows_are_refused(folder: Path, name: str) -> None:
    record = folder / "occlusions" / "pytorch.json"
    retable(record.with_name(name), record, lambda frame: frame.replace({"example_id": {EXAMPLE: "stranger"}}))
    with pytest.raises(ResultsError, match=r"pytorch\.parquet is about examples that test\.parquet doesn't hold; .*\."):
        load(folder)


def test_words_of_a_run_that_was_trained_again_are_left_out(folder: Path) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["keys"][RUN] = "a newer key"
    rewrite(path, manifest)
    known = load(folder).occlusions.probabilities
    assert known["run_id"].unique().tolist() == [RUN.replace("pytorch", "keras-tensorflow")]


@pytest.mark.parametrize("name", ["pytorch.json", "pytorch.parquet", "pytorch.words.parquet"])
def test_what_is_damaged_or_missing_is_left_out_by_name(folder: Path, name: str) -> None:
    path = folder / "occlusions" / name
    path.write_bytes(path.read_bytes()[:30])
    comparison = load(folder)
    assert Reader(comparison.occlusions).read(RUN, EXAMPLE) is None
    assert f"{name} is damaged" in comparison.left_out["occlusions-pytorch"]
    path.unlink()
    comparison = load(folder)
    assert ("There is no" in comparison.left_out.get("occlusions-pytorch", "")) == (name != "pytorch.json")
    reader = Reader(comparison.occlusions)
    assert reader.read(RUN, EXAMPLE) is None
    assert reader.read(RUN.replace("pytorch", "keras-tensorflow"), EXAMPLE) is not None


def test_a_comparison_without_occlusions_has_none(tmp_path: Path) -> None:
    comparison = load(write_comparison(tmp_path, models=("lstm",), seeds={"native": (0,)}, timed=False))
    assert comparison.occlusions.probabilities.empty
    assert comparison.occlusions.words.empty
