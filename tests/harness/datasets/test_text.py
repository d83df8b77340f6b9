from __future__ import annotations

import io
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnn_crosscheck.harness.datasets import text
from rnn_crosscheck.harness.datasets.corpus import Corpus
from tests.harness.datasets import naive

# Few characters, so that words repeat, ranks tie and separators stand side by side.
texts = st.text(st.sampled_from(list("aAbİßς'.,- \t\n\r\u0085\u00a0")), max_size=30)
corpora = st.lists(st.tuples(st.one_of(texts, st.text(max_size=20)), st.booleans()), min_size=1, max_size=12)
examples = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), min_size=1, max_size=8)


def flat(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.array([token for one in lists for token in one], np.int32)
    return tokens, np.cumsum([0, *map(len, lists)], dtype=np.int64)


def encoded(pairs: list[tuple[str, bool]]) -> text.Encoded:
    return text.encode([one for one, _ in pairs], np.array([training for _, training in pairs], bool))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("The film's GREAT!", ["the", "film's", "great"]),
        ("10/10<br /><br />Wow...", ["10", "10", "br", "br", "wow"]),
        ("one\ttwo\nthree", ["one", "two", "three"]),
        ("a\u0085b c\u00a0d e\rf", ["a\u0085b", "c\u00a0d", "e\rf"]),
        ("'' \" ", ["''"]),
        ("  ", []),
        ("", []),
    ],
)
def test_words_are_what_lies_between_spaces_and_punctuation(content: str, words: list[str]) -> None:
    assert text.tokenise(content) == words


@given(st.one_of(texts, st.text()))
def test_tokenise_agrees_with_a_loop_over_characters(content: str) -> None:
    assert text.tokenise(content) == naive.tokenise(content)


@given(corpora)
def test_encode_agrees_with_a_counter(pairs: list[tuple[str, bool]]) -> None:
    expected, words = naive.encode([one for one, _ in pairs], [training for _, training in pairs])
    found = encoded(pairs)
    assert found.words == words
    assert found.tokens.dtype == np.int32
    assert [list(found.tokens[a:b]) for a, b in zip(found.offsets, found.offsets[1:], strict=False)] == expected


@given(st.one_of(texts, st.text()))
def test_a_text_has_a_word_if_there_is_one(content: str) -> None:
    assert text.has_word(content) == bool(naive.tokenise(content))


@given(corpora, st.integers(1, 7))
def test_a_file_gets_the_same_tokens_in_blocks_of_any_size(pairs: list[tuple[str, bool]], block: int) -> None:
    whole = encoded(pairs)
    file = io.BytesIO(b"head")
    file.seek(4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "_BLOCK", block)
        offsets, words = text.encode_into(file, [one for one, _ in pairs], np.array([used for _, used in pairs], bool))
    assert file.getvalue()[:4] == b"head"
    assert np.array_equal(np.frombuffer(file.getvalue()[4:], np.int32), whole.tokens)
    assert np.array_equal(offsets, whole.offsets)
    assert words == whole.words


@given(corpora)
def test_training_texts_are_decoded_to_their_own_words(pairs: list[tuple[str, bool]]) -> None:
    found = encoded(pairs)
    for row, (content, training) in enumerate(pairs):
        ids = found.tokens[found.offsets[row] : found.offsets[row + 1]].tolist()
        assert ids[0] == text.START
        words = [found.words[token - text.FIRST_WORD] if token != text.OOV else None for token in ids[1:]]
        for word, decoded in zip(text.tokenise(content), words, strict=True):
            assert decoded == word or (decoded is None and not training and word not in found.words)


def test_words_of_equal_frequency_rank_by_first_appearance_in_training() -> None:
    found = encoded([("only here c b", False), ("b c a", True), ("a d c b", True)])
    assert found.words == ["b", "c", "a", "d"]
    assert found.tokens.tolist() == [1, 2, 2, 5, 4, 1, 4, 5, 6, 1, 6, 7, 5, 4]


def test_words_outside_training_count_for_nothing() -> None:
    found = encoded([("a b", True), ("b b b new new", False)])
    assert found.words == ["a", "b"]


@given(examples, st.integers(1, 15), st.integers(5, 45), st.data())
def test_pad_agrees_with_a_loop(lists: list[list[int]], length: int, vocabulary: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(lists) - 1), max_size=10))
    found = text.pad(*flat(lists), np.array(rows, np.int64), length, vocabulary)
    assert found.shape == (len(rows), length)
    assert found.dtype == np.int32
    assert found.tolist() == naive.pad([lists[row] for row in rows], length, vocabulary)


@given(examples, st.integers(1, 15), st.integers(5, 45))
def test_padded_ids_stay_below_the_vocabulary(lists: list[list[int]], length: int, vocabulary: int) -> None:
    found = text.pad(*flat(lists), np.arange(len(lists)), length, vocabulary)
    assert found.min() >= 0
    assert found.max() < vocabulary


def test_the_end_of_a_long_text_is_kept_and_zeros_stand_in_front_of_a_short_one() -> None:
    found = text.pad(*flat([[1, 10, 11, 12, 13], [1, 9]]), np.array([1, 0]), 3, 13)
    assert found.tolist() == [[0, 1, 9], [11, 12, 2]]


def test_pad_leaves_what_is_stored_alone() -> None:
    tokens, offsets = flat([[1, 50, 60]])
    tokens.flags.writeable = False
    padded = text.pad(tokens, offsets, np.array([0]), 3, 55)
    padded[:] = 9
    assert tokens.tolist() == [1, 50, 60]


def test_pad_refuses_a_row_that_is_not_there() -> None:
    with pytest.raises(IndexError):
        text.pad(*flat([[1, 5]]), np.array([1]), 3, 10)


def test_a_batch_is_padded_in_well_under_a_millisecond() -> None:
    tokens, offsets = flat([[1] * 240] * 64)
    rows = np.arange(32)
    seconds = []
    for _ in range(50):
        start = time.perf_counter()
        text.pad(tokens, offsets, rows, 500, 5000)
        seconds.append(time.perf_counter() - start)
    # The best of fifty: a busy machine must not fail this, indexing per token in Python must.
    assert min(seconds) < 1e-3


@pytest.mark.slow
def test_all_reviews_as_one_training_split_give_the_known_figures(corpus: Corpus) -> None:
    found = text.encode(corpus.texts, np.ones(25_000, bool))
    lengths = np.diff(found.offsets)
    assert len(found.words) == 88_582
    assert (lengths.min(), lengths.max()) == (11, 2494)
    assert round(float(lengths.mean()), 2) == 238.71
    # The ranks that Keras' own word index of these reviews begins with.
    assert found.words[:10] == ["the", "and", "a", "of", "to", "is", "br", "in", "it", "i"]


def test_real_reviews_are_encoded_as_the_naive_reference_does(corpus: Corpus) -> None:
    sample = list(corpus.texts[::40])
    training = np.arange(len(sample)) % 3 != 0
    expected, words = naive.encode(sample, training.tolist())
    found = text.encode(sample, training)
    assert found.words == words
    assert found.tokens.tolist() == [token for one in expected for token in one]
