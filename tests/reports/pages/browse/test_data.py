from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_crosscheck.reports.analysis.disagreement import groups, pairs
from rnn_crosscheck.reports.pages import browse
from rnn_crosscheck.reports.pages.browse import build, data
from rnn_crosscheck.reports.read.comparison import Occlusions, Predicted
from tests.conftest import ROOT
from tests.reports.pages.browse.conftest import predicted

FILES = ROOT / "reports" / "pages" / "browse"
HALF = np.float32(0.5)


def gathered(of: Predicted, occlusions: Occlusions | None = None, listed: tuple[str, ...] = ()) -> data.Data:
    return data.data("made up", of, groups(pairs(of)), listed, occlusions or Occlusions())


def of_texts(*texts: str) -> Predicted:
    n = len(texts)
    return predicted({("native", name, "rnn", 0): np.linspace(0.1, last, n) for name, last in (("a", 0.9), ("b", 0.2))},
                     [0] * n, texts)  # fmt: skip


def test_a_byte_says_exactly_whether_the_prediction_is_positive() -> None:
    values = [0.0, np.nextafter(HALF, np.float32(0)), HALF, np.nextafter(HALF, np.float32(1)), 1.0]
    found = gathered(predicted({("native", "a", "rnn", 0): values}, [0] * 5)).probabilities
    assert found.tolist() == [[0, 127, 128, 128, 255]]


def test_texts_of_what_runs_differ_on_lie_in_the_page_and_none_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "INSIDE", 2)
    monkeypatch.setattr(data, "BESIDE_CHARACTERS", 1_100)
    texts = [f"{'word ' * 100}{number}" for number in range(5)]
    found = gathered(of_texts(*texts))
    assert found.facts["inside"] == [3, 4]  # 0.7 apart at the last
    assert found.facts["beside"] == list(found.beside) == [1, 2]
    assert [text == whole for text, whole in zip(found.facts["text"], texts, strict=True)] == [0, 0, 0, 1, 1]
    assert all(len(text) <= 165 for text in found.facts["text"][:3])


def test_one_text_too_long_for_the_page_leaves_room_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "INSIDE_CHARACTERS", 100)
    assert gathered(of_texts("short", "also short", "x" * 101)).facts["inside"] == [0, 1]


def test_what_the_report_shows_has_the_figures_of_the_report() -> None:
    of = of_texts("one", "two")
    exact = gathered(of, listed=("example-1",)).facts["exact"]
    assert list(exact) == [1]
    assert exact[1] == pytest.approx(of.probabilities.loc["example-1"].tolist(), abs=1e-6)


def occluded(words: list[str], effects: list[float]) -> Occlusions:
    rows = [("native-a-rnn-0", "example-0", 0, -1, 0.6)]
    rows += [("native-a-rnn-0", "example-0", 1, place, 0.6 - effect) for place, effect in enumerate(effects)]
    probabilities = pd.DataFrame(rows, columns=["run_id", "example_id", "window", "position", "probability"])
    seen = pd.DataFrame({"example_id": "example-0", "position": range(len(words)), "word": words, "oov": False})
    return Occlusions(probabilities, seen, ("a",))


def marked(text: str, words: list[str], effects: list[float]) -> list[str]:
    """Cut the marked words out of a text as JavaScript would."""
    (found,) = gathered(of_texts(text), occluded(words, effects)).facts["words"][0].values()
    units = text.encode("utf-16-le")
    return [units[2 * begin : 2 * end].decode("utf-16-le") for begin, end in found["marks"]]


def test_words_are_marked_where_they_stand_even_behind_characters_that_count_twice() -> None:
    # The models see the end only: its first "film" isn't the one that was left out.
    assert marked("A film 🎬🎬 of a Film, and a bad-film!", ["a", "film", "and", "a", "bad", "film"],
                  [0, 0.3, 0, 0, -0.2, 0.1]) == ["Film", "bad", "film"]  # fmt: skip


def test_words_that_aren_t_the_end_of_the_text_are_named_and_not_marked() -> None:
    assert marked("A film that nobody saw", ["another", "film"], [0.3, 0.1]) == []
    (found,) = gathered(of_texts("A film"), occluded(["another", "film"], [0.3, -0.1])).facts["words"][0].values()
    assert found["said"] == "words of native-a-rnn-0: another +0.30, film -0.10"


def test_equal_folders_give_equal_bytes_and_what_no_longer_holds_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "INSIDE", 1)
    of = of_texts("one <script>", "two", "three")
    for name in ("first", "second"):
        browse.write(tmp_path / name, "made up", of, groups(pairs(of)), [])
    first, second = ([(tmp_path / name / file).read_bytes() for file in (browse.PAGE, browse.TEXTS)]
                     for name in ("first", "second"))  # fmt: skip
    assert first == second
    monkeypatch.setattr(build, "MOST", 2)
    browse.write(tmp_path / "first", "made up", of, groups(pairs(of)), [])
    assert list((tmp_path / "first").iterdir()) == []


def test_the_script_is_small_and_never_writes_markup() -> None:
    script = (FILES / "script.js").read_text()
    lines = script.splitlines()
    assert len(lines) <= 450
    assert max(map(len, lines)) <= 120
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|DOMParser|\beval\b|</script|fetch\(", script
    )
    assert "$" not in re.sub(r"\$(script_hash|style_hash|script|style|facts|probabilities)\b", "",
                             (FILES / "template.html").read_text())  # fmt: skip
