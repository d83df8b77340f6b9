"""A table of the user's, from the command line to the report."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

PLAIN = (
    "--benchmark",
    "-p",
    "no:cacheprovider",
    "--crosscheck-dataset=table",
    "--crosscheck-backends=tests.fakes:Steady",
)
SMALL = ("data.train_examples=0", "data.valid_examples=0", "data.test_examples=0", "data.length=8", "training.epochs=1")


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("review,sentiment\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


def overrides() -> list[str]:
    return [part for value in SMALL for part in ("--crosscheck-set", value)]


def text(result: pytest.RunResult) -> str:
    return result.stdout.str() + result.stderr.str()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["a film,pos", "a film", "b,neg"], "row 2 (line 3): it has 1 value, but the header has 2 columns."),
        (["a film,pos", '"never closed,neg'], "line 3: a quote is opened that is never closed."),
        (["a film,pos", ",neg"], "row 2 (line 3): the text in 'review' is empty, so there is nothing to classify."),
    ],
)
def test_a_damaged_table_is_one_sentence_and_exit_code_4(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, rows: list[str], sentence: str
) -> None:
    cache = pytester.path / "cache"
    monkeypatch.setenv("CROSSCHECK_CACHE", str(cache))
    path = write(pytester.path / "mine.csv", rows)
    result = pytester.runpytest_inprocess(*PLAIN, *overrides(), "--crosscheck-data=mine.csv")
    shown = text(result)
    assert result.ret == 4, shown
    assert f"ERROR: {path}" in shown
    assert shown.count(sentence) == 1
    assert "Traceback" not in shown
    assert not list(cache.iterdir())
    assert not list(pytester.path.glob("comparison/runs/*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--crosscheck-columns=text=review,mood=sentiment"],
            "with the roles text, label, split, id; got 'mood=sentiment'",
        ),
        (
            ["--crosscheck-dataset=reviews", "--crosscheck-columns=text=a"],
            "'reviews' has no columns to name; got 'text=a'",
        ),
    ],
)
def test_columns_that_cannot_be_taken_are_exit_code_4(
    pytester: pytest.Pytester, options: list[str], sentence: str
) -> None:
    write(pytester.path / "mine.csv", ["a,pos"])
    data = [] if "--crosscheck-dataset=reviews" in options else ["--crosscheck-data=mine.csv"]
    result = pytester.runpytest_inprocess(*PLAIN, *overrides(), *data, *options)
    assert result.ret == 4, text(result)
    assert sentence in text(result)
    assert "Traceback" not in text(result)


@pytest.mark.long
def test_a_table_of_the_users_is_compared_and_named_in_the_report(pytester: pytest.Pytester) -> None:
    rows = [f"{('dull', 'fine')[row % 2]} film {row},{('neg', 'pos')[row % 2]}" for row in range(200)]
    write(pytester.path / "mine.csv", rows)
    options = ["--crosscheck-data=mine.csv", "--crosscheck-columns=text=review,label=sentiment", "-k", "test_training"]
    result = pytester.runpytest_subprocess(*PLAIN, *overrides(), *options)
    assert result.ret == 0, text(result)
    folder = pytester.path / "comparison"
    facts = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert facts["source"].startswith("200 rows of the table 'mine.csv'; text from the column 'review';")
    assert facts["longest"]["example_id"] == facts["longest_id"]
    assert "label from 'sentiment', 'neg' is 0 and 'pos' is 1" in (folder / "report.md").read_text(encoding="utf-8")
    assert os.listdir(pytester.path).count("mine.csv") == 1
