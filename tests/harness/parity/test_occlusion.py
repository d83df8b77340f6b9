"""Leaving words out of an encoded example."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_crosscheck.harness.datasets.text import FIRST_WORD, OOV, PAD, START, encode, pad
from rnn_crosscheck.harness.folder import sha256_of
from rnn_crosscheck.harness.parity.occlusion import WINDOWS, occlude, spell, unknown, write
from rnn_crosscheck.harness.results import OcclusionsRecord, occlusion_tables, read_record


def row(*ids: int, length: int = 8) -> np.ndarray:
    return np.array([PAD] * (length - len(ids)) + list(ids), np.int32)


def test_each_word_and_each_five_words_are_left_out_and_the_rest_is_padded_in_front() -> None:
    found = occlude(row(START, 4, 5, 6, 7, 8, 9))
    expected = [
        (0, -1, (START, 4, 5, 6, 7, 8, 9)),
        (1, 0, (START, 5, 6, 7, 8, 9)),
        (1, 1, (START, 4, 6, 7, 8, 9)),
        (1, 2, (START, 4, 5, 7, 8, 9)),
        (1, 3, (START, 4, 5, 6, 8, 9)),
        (1, 4, (START, 4, 5, 6, 7, 9)),
        (1, 5, (START, 4, 5, 6, 7, 8)),
        (5, 0, (START, 9)),
        (5, 5, (START, 4, 5, 6, 7, 8)),
    ]
    assert found.windows.tolist() == [window for window, _, _ in expected]
    assert found.positions.tolist() == [position for _, position, _ in expected]
    np.testing.assert_array_equal(found.tokens, [row(*ids) for _, _, ids in expected])
    assert (found.tokens.dtype, found.windows.dtype, found.positions.dtype) == (np.int32, np.int8, np.int32)


def test_an_example_that_was_cut_has_no_start_token_and_its_first_word_counts() -> None:
    found = occlude(row(4, 5, OOV, length=3))
    np.testing.assert_array_equal(found.tokens[1], [PAD, 5, OOV])
    np.testing.assert_array_equal(found.tokens[-1], [PAD, PAD, PAD])
    assert found.positions.tolist() == [-1, 0, 1, 2, 0]
    assert unknown(row(4, 5, OOV, length=3)).tolist() == [False, False, True]
    assert unknown(row(START, OOV, 4)).tolist() == [True, False]


@given(
    words=st.lists(st.integers(OOV, 50).filter(lambda token: token != 3), min_size=1, max_size=40),
    start=st.booleans(),
    spare=st.integers(0, 5),
)
def test_what_is_left_out_and_what_remains_make_up_the_example(words: list[int], start: bool, spare: int) -> None:
    begin = [START] if start else []
    length = len(begin) + len(words) + spare
    found = occlude(row(*begin, *words, length=length))
    assert found.tokens.shape == (1 + sum(-(-len(words) // window) for window in WINDOWS), length)
    assert found.windows[0] == 0
    assert found.positions[0] == -1
    np.testing.assert_array_equal(found.tokens[0], row(*begin, *words, length=length))
    for window in WINDOWS:
        assert found.positions[found.windows == window].tolist() == list(range(0, len(words), window))
    for tokens, window, first in zip(found.tokens, found.windows.tolist(), found.positions.tolist(), strict=True):
        rest = words[:first] + words[first + window :] if window else words
        # What the encoder makes of a text that has only these words.
        alone = np.array([*begin, *rest], np.int32)
        offsets = np.array([0, len(alone)])
        np.testing.assert_array_equal(tokens, pad(alone, offsets, np.array([0]), length, 1000)[0])


TEXTS = ["A good film, a good cast", "a dull film", "Good? A sleeper..."]
ENCODED = encode(TEXTS, np.array([True, True, False]))


def spelled(number: int, length: int, content: str | None = None) -> list[str]:
    def decode(ids: object) -> list[str]:
        known = {OOV: "<oov>"} | {rank + FIRST_WORD: word for rank, word in enumerate(ENCODED.words)}
        return [known[token] for token in ids]  # type: ignore[attr-defined]

    ids = ENCODED.tokens[ENCODED.offsets[number] : ENCODED.offsets[number + 1]]
    return spell(ids, TEXTS[number] if content is None else content, length, decode)


def test_words_are_spelled_as_the_text_has_them_even_if_no_training_text_has_them() -> None:
    assert spelled(0, 100) == ["a", "good", "film", "a", "good", "cast"]
    assert spelled(2, 100) == ["good", "a", "sleeper"]


@pytest.mark.parametrize(("length", "words"), [(1, 1), (5, 5), (6, 6), (7, 6), (8, 6)])
def test_words_of_an_example_that_is_cut_are_the_last_ones(length: int, words: int) -> None:
    assert spelled(0, length) == ["a", "good", "film", "a", "good", "cast"][-words:]
    offsets = ENCODED.offsets
    kept = pad(ENCODED.tokens, offsets, np.array([0]), length, 1000)[0]
    assert len(unknown(kept)) == words


@pytest.mark.parametrize("content", ["Good? A real sleeper", "Bad, a sleeper", ""])
def test_a_text_that_does_not_fit_its_ids_is_not_believed(content: str) -> None:
    assert spelled(2, 100, content) == ["good", "a", "<oov>"]


def record(key: str) -> OcclusionsRecord:
    return OcclusionsRecord(key=key, keys={}, backend="b", runs={"r": ("e",)}, seconds=1.0)


def test_a_record_is_there_only_with_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "occlusions" / "tests.fakes.Steady.json"
    tables = [pa.table({"a": [1]}), pa.table({"b": [2]})]
    write(path, record("old"), tables[0], tables[1])
    found = read_record(path, OcclusionsRecord)
    assert found.model_copy(update={"files": {}}) == record("old")
    places = occlusion_tables(path)
    assert [place.name for place in places] == ["tests.fakes.Steady.parquet", "tests.fakes.Steady.words.parquet"]
    assert [pq.read_table(place) for place in places] == tables
    assert found.files == {place.name: sha256_of(place) for place in places}
    with pytest.raises((TypeError, AttributeError)):
        write(path, record("new"), tables[1], "no table")  # type: ignore[arg-type]
    assert not path.exists()
    assert sorted(place.name for place in path.parent.iterdir()) == sorted(place.name for place in places)
