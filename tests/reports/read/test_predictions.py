from __future__ import annotations

import csv
import json
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from rnn_crosscheck.__main__ import main
from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.reports.build import build
from rnn_crosscheck.reports.pages.export import STORED, column_names
from rnn_crosscheck.reports.read.comparison import load
from rnn_crosscheck.reports.read.predictions import read_predictions
from tests.reports.folders import HOSTILE, write_comparison
from tests.reports.rendering import tables_of, tokens_of


def columns(seed: int = 0, examples: int = 400) -> dict[str, list[Any]]:
    """A file of two models in the shape of the source experiment, with ids."""
    generator = np.random.default_rng(seed)
    truth = np.random.default_rng(99).integers(0, 2, examples)
    shared = generator.normal(size=examples)

    def model(skill: float) -> list[float]:
        logits = skill * (2 * truth - 1) + shared + generator.normal(size=examples)
        return [float(p) for p in 1 / (1 + np.exp(-logits))]

    return {
        "text": [f"review {number}" for number in range(examples)],
        "actual_pred": [int(label) for label in truth],
        "rnn_prob": model(0.6),
        "lstm_prob": model(1.2),
        "example_id": [f"e{number}" for number in range(examples)],
    }


def write(path: Path, content: dict[str, list[Any]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(content), encoding="utf-8")
    elif path.suffix == ".csv":
        pd.DataFrame(content).to_csv(path, index=False)
    else:
        pd.DataFrame(content).to_parquet(path, index=False)
    return path


def content_of(folder: Path) -> Any:
    return json.loads((folder / "comparison.json").read_text(encoding="utf-8"))


def test_two_files_give_what_others_calculate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = columns(1), columns(2)
    order = np.random.default_rng(5).permutation(len(two["actual_pred"]))
    turned = {name: [values[row] for row in order] for name, values in two.items()}
    files = [write(tmp_path / "one.csv", one), write(tmp_path / "two.parquet", turned)]
    output = tmp_path / "out"
    assert main(["predictions", *map(str, files), "--output", str(output)]) == 0
    assert capsys.readouterr().out == f"{output / 'report.md'}\n"
    found = content_of(output)
    models = {"one: rnn": one["rnn_prob"], "one: lstm": one["lstm_prob"],
              "two: rnn": two["rnn_prob"], "two: lstm": two["lstm_prob"]}  # fmt: skip
    truth = np.array(one["actual_pred"])
    assert {row["run_id"]: row["accuracy"] for row in found["runs"]} == pytest.approx(
        {name: np.mean((np.array(values) >= 0.5) == truth) for name, values in models.items()}
    )
    assert len(found["pairs"]) == 6
    exact = []
    for row in found["pairs"]:
        a, b = (np.array(models[row[side]]) >= 0.5 for side in ("run_a", "run_b"))
        right = pd.crosstab(a == truth, b == truth).reindex(index=[True, False], columns=[True, False]).to_numpy()
        assert [[row["both_right"], row["only_a"]], [row["only_b"], row["both_wrong"]]] == right.tolist()
        assert row["kappa"] == pytest.approx(cohen_kappa_score(a, b))
        assert row["error_kappa"] == pytest.approx(cohen_kappa_score(a == truth, b == truth))
        # statsmodels has no mid-p: half of the probability of what was seen, on both sides, is taken off.
        test = mcnemar(right, exact=True)
        tie = row["only_a"] == row["only_b"]
        exact.append(1.0 if tie else test.pvalue - _point(row["only_a"], row["only_b"]))
        assert row["p"] == pytest.approx(exact[-1])
    assert [row["p_holm"] for row in found["pairs"]] == pytest.approx(multipletests(exact, method="holm")[1])
    assert "joined by example id" in found["joined"]


def _point(b: int, c: int) -> float:
    """Probability of exactly this split of b + c."""
    return comb(b + c, min(b, c)) / 2 ** (b + c)


@pytest.mark.slow
def test_a_comparison_s_own_file_gives_its_own_numbers(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "comparison", failed=["matched-pytorch-rnn-seed1"])
    build(folder)
    comparison = load(folder)
    stored = json.loads((folder / STORED).read_text(encoding="utf-8"))
    names = column_names(comparison)
    assert list(stored) == ["text", "actual_pred", *names.values(), "example_id"]
    assert len(names) == 15
    assert names["native-pytorch-rnn-seed0"] == "native-pytorch-rnn-seed0_prob"
    for run_id, name in names.items():
        assert np.array_equal(np.array(stored[name], np.float32), comparison.probabilities[run_id].to_numpy())
    assert stored["text"] == comparison.test["text"].tolist()
    assert stored["example_id"] == comparison.test.index.tolist()

    assert main(["predictions", str(folder / STORED), "--output", str(tmp_path / "out")]) == 0
    ours, again = content_of(folder), content_of(tmp_path / "out")
    accuracies = {row["run_id"]: row["accuracy"] for row in ours["runs"] if row["status"] == "ok"}
    assert {row["run_id"]: row["accuracy"] for row in again["runs"]} == accuracies
    pairs = {(row["run_a"], row["run_b"]): row for row in again["pairs"]}
    same = ("both_right", "only_a", "only_b", "both_wrong", "disagreement", "kappa", "error_kappa", "difference",
            "low", "high", "p")  # fmt: skip
    for row in ours["pairs"]:
        found = pairs.get((row["run_a"], row["run_b"]))
        if found:  # the runs of the other order stand the other way round
            assert [found[name] for name in same] == [row[name] for name in same]
    assert sum((row["run_a"], row["run_b"]) in pairs for row in ours["pairs"]) > 10


def test_one_run_a_model_is_named_after_the_model(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", backends=("pytorch",), seeds={"native": (0,)}, timed=False)
    build(folder)
    stored = json.loads((folder / STORED).read_text(encoding="utf-8"))
    assert list(stored) == ["text", "actual_pred", "rnn_prob", "lstm_prob", "example_id"]


def test_without_runs_no_stale_file_stays(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "c", seeds={"native": ()}, timed=False)
    (folder / STORED).write_text("{}")
    build(folder)
    assert not (folder / STORED).exists()


def test_the_notebook_s_own_counts_come_back(tmp_path: Path) -> None:
    # Who was right is all that the counts hang on; texts and exact probabilities do not matter.
    parts = [(12_848, True, True), (2_603, True, False), (7_401, False, True), (2_148, False, False)]
    rnn = np.concatenate([np.full(n, a) for n, a, _ in parts])
    lstm = np.concatenate([np.full(n, b) for n, _, b in parts])
    truth = np.arange(25_000) % 2
    content = {
        "actual_pred": truth.tolist(),
        "rnn_prob": np.where(rnn == (truth == 1), 0.7, 0.3).tolist(),
        "lstm_prob": np.where(lstm == (truth == 1), 0.9, 0.1).tolist(),
    }
    file = write(tmp_path / STORED, content)
    assert main(["predictions", str(file), "--output", str(tmp_path / "out")]) == 0
    (row,) = content_of(tmp_path / "out")["pairs"]
    assert [row[name] for name in ("both_right", "only_b", "only_a", "both_wrong")] == [12_848, 7_401, 2_603, 2_148]
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    table = tables_of(report)[0]
    assert [cells[1] for cells in table.rows[1:]] == ["61.8", "81.0"]
    assert "lstm stood 19.2 points above rnn" in report
    assert "## Examples" not in report  # there is no text to read
    cells = tables_of(report)[1].rows[1]
    assert cells[2] == "12,848; 2,603; 7,401; 2,148"


def test_the_report_is_as_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Callable[[str, str], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    content = columns(3, 60)
    content["text"] = [HOSTILE[n] if n < len(HOSTILE) else f"Review {n}." for n in range(60)]
    write(Path("mine.json"), content)
    write(
        Path("runs/predictions.parquet"), {"label": content["actual_pred"], "probability": columns(4, 60)["rnn_prob"]}
    )
    assert main(["predictions", "mine.json", "runs/predictions.parquet", "--output", "out"]) == 0
    report = Path("out/report.md").read_text(encoding="utf-8")
    golden("predictions.md", report)
    html = [token.content.strip() for token in tokens_of(report) if token.type == "html_block"]
    assert html.count("</details>") * 2 == len(html)
    assert "joined by position, since predictions.parquet came without example ids" in report
    assert "| runs " in report  # a file called predictions is named after its folder
    assert "2 seeds" not in report


def test_the_default_folder_is_said_in_the_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("mine.csv"), columns())
    assert main(["predictions", "mine.csv"]) == 0
    assert capsys.readouterr().out.strip() == "predictions-report/report.md"
    assert sorted(path.name for path in Path("predictions-report").iterdir()) == [
        "comparison.json",
        "examples.html",
        "report.md",
    ]


def test_ids_bring_rows_into_order_and_names_stay_apart(tmp_path: Path) -> None:
    one = columns()
    two = {name: values[::-1] for name, values in one.items()}
    found = read_predictions([write(tmp_path / "a.json", one), write(tmp_path / "b.json", two),
                              write(tmp_path / "sub" / "b.json", two)])  # fmt: skip
    assert found.runs.index.tolist() == ["a: rnn", "a: lstm", "b: rnn", "b: lstm", "b: rnn (2)", "b: lstm (2)"]
    values = found.probabilities
    assert np.array_equal(values["a: rnn"], values["b: rnn"])
    assert found.test["text"].tolist() == one["text"]


def test_values_that_a_csv_spells_differently_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'\xef\xbb\xbfexample_id,label,m_prob,note,text\n1,1.0,5e-1,"x","a ""quoted"", text\nwith lines"\n'
        b"2,0,0,,NA\n3,1, 1 ,,\n"
    )
    found = read_predictions([path])
    assert found.test.index.tolist() == ["1", "2", "3"]
    assert found.test["label"].tolist() == [1, 0, 1]
    assert found.test["text"].tolist() == ['a "quoted", text\nwith lines', "NA", ""]
    assert found.probabilities["m"].tolist() == [0.5, 0, 1]


GOOD: dict[str, Any] = {"actual_pred": [0, 1, 1], "m_prob": [0.1, 0.9, 0.2]}


def changed(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in {**GOOD, **changes}.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", None, "There is no file"),
        ("a.json", b"", "is no JSON that can be read"),
        ("a.json", b'{"actual_pred": [0', "is no JSON that can be read"),
        ("a.json", b"[" * 100_000, "is no JSON that can be read"),
        ("a.json", b'{"m_prob": [' + b"1" * 5000 + b"]}", "is no JSON that can be read"),
        ("a.json", b"\xff\xfe{}", "is not UTF-8"),
        ("a.json", b"[1, 2]", "should hold columns, as in"),
        ("a.json", b'{"m_prob": [0.1], "m_prob": [0.2], "label": [1]}', "comes twice"),
        ("a.json", changed(m_prob=0.5), "should be a list, not a number"),
        ("a.json", changed(m_prob=None), "at least one of probabilities"),
        ("a.json", changed(actual_pred=None), "should hold one column of labels"),
        ("a.json", changed(label=[0, 1, 1]), "should hold one column of labels"),
        ("a.json", changed(m_prob=[0.1, 0.9]), "should have one length; they have: actual_pred 3, m_prob 2"),
        ("a.json", changed(text=["a"]), "should have one length"),
        ("a.json", changed(actual_pred=[], m_prob=[]), "holds no examples"),
        ("a.json", changed(m_prob=[0.1, 1.5, 0.2]), "holds 1.5 in row 2 (1 of 3 rows are wrong)"),
        ("a.json", changed(m_prob=[0.1, float("nan"), 0.2]), "holds nan in row 2"),
        ("a.json", changed(m_prob=[0.1, float("-inf"), 0.2]), "holds -inf in row 2"),
        ("a.json", changed(m_prob=[0.1, None, 0.2]), "holds None in row 2"),
        ("a.json", changed(m_prob=[[0.1], [0.9], [0.2]]), "holds a list in row 1 (3 of 3 rows are wrong)"),
        ("a.json", changed(m_prob=[0.1, 10**400, 0.2]), "probabilities lie from 0 to 1"),
        ("a.json", changed(actual_pred=[0, 1, 2]), "labels are 0 or 1, but the column 'actual_pred' holds 2 in row 3"),
        ("a.json", changed(actual_pred=["neg", "pos", "pos"]), "holds 'neg' in row 1"),
        ("a.json", changed(actual_pred=[0, 1, 0.5]), "labels are 0 or 1"),
        ("a.json", changed(example_id=["a", "b", "a"]), "holds the example id 'a' more than once"),
        ("a.json", changed(example_id=["a", "b", None]), "row 3 is None"),
        ("a.json", changed(text=["a", 3, "c"]), "should hold text, but row 2 is 3"),
        ("a.csv", b"", "is no CSV in UTF-8 that can be read"),
        ("a.csv", b"label,m_prob\n", "holds no examples"),
        ("a.csv", b"label,m_prob\n1,0.5,7\n", "is no CSV in UTF-8 that can be read"),
        ("a.csv", b"label,m_prob\n1\n", "is no CSV in UTF-8 that can be read"),
        ("a.csv", b"label,m_prob,m_prob\n1,0.5,0.5\n", "holds the column 'm_prob' more than once"),
        ("a.csv", b"label,m_prob\n1,\n", "holds '' in row 1"),
        ("a.csv", b"label,m_prob\n1,NaN\n", "holds 'NaN' in row 1"),
        ("a.csv", b"label,m_prob,text\n1,0.5,caf\xe9\n", "is no CSV in UTF-8 that can be read"),
        ("a.csv", b"label,m_prob,caf\xe9\n1,0.5,x\n", "is no CSV in UTF-8 that can be read"),
        ("a.csv", "label,m_prob\n1,0.5\n".encode("utf-16"), "a.csv"),
        ("a.csv", b'label,m_prob,text\n1,0.5,"never closed\n', "a quotation mark is never closed"),
        ("a.parquet", b"PAR1 and nothing else PAR1", "is no Parquet file that can be read"),
        ("a.parquet", b"", "is no Parquet file that can be read"),
        ("a.txt", b"label,m_prob\n1,0.5\n", "should be a file of predictions that ends in .json, .csv, .parquet"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    output = tmp_path / "out"
    assert main(["predictions", str(path), "--output", str(output)]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert captured.err.endswith(".\n")
    assert not output.exists()


def test_a_parquet_file_that_is_cut_short_or_claims_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.parquet", columns())
    whole = path.read_bytes()
    monkeypatch.setattr("rnn_crosscheck.reports.read.predictions.MOST_ROWS", 100)
    with pytest.raises(ResultsError, match=r"claims 400 rows; at most 100 are read"):
        read_predictions([path])
    monkeypatch.undo()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ResultsError, match="no Parquet file"):
        read_predictions([path])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"example_id": ["a", "b", "x"]}, "of the 3 ids of the first 1 are missing in the second, which holds 3, 1 of"),
        ({"actual_pred": [0, 1, 0]}, "1 of 3 have another label in the second, first example 'c'"),
        ({"text": ["t0", "t1", "other"]}, "1 of 3 have another text in the second, first example 'c'"),
        ({"example_id": None, "actual_pred": [0, 0, 1]}, "have another label in the second, first row 2"),
        ({"example_id": None, "text": ["t1", "t0", "t2"]}, "2 of 3 have another text in the second, first row 1"),
        ({"example_id": None, "actual_pred": [0, 1], "m_prob": [0, 1], "text": None}, "holds 3 examples and"),
    ],
)
def test_files_about_other_examples_are_refused_with_both_sides(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    base = {**GOOD, "example_id": ["a", "b", "c"], "text": ["t0", "t1", "t2"]}
    one = write(tmp_path / "one.json", base)
    two = write(tmp_path / "two.json", {name: value for name, value in {**base, **change}.items() if value is not None})
    with pytest.raises(ResultsError) as caught:
        read_predictions([one, two])
    assert said in str(caught.value)
    assert str(one) in str(caught.value)
    assert str(two) in str(caught.value)


@pytest.mark.slow
def test_somebody_s_folder_is_never_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_comparison(tmp_path / "c", seeds={"native": (0,)}, timed=False)
    build(folder)
    before = (folder / "report.md").read_bytes()
    assert main(["predictions", str(folder / STORED), "--output", str(folder)]) == 4
    assert "needs a new or an empty folder, or one that was written before" in capsys.readouterr().err
    assert (folder / "report.md").read_bytes() == before
    file = tmp_path / "file"
    file.write_text("")
    assert main(["predictions", str(folder / STORED), "--output", str(file)]) == 4
    assert f"'{file}' is no folder" in capsys.readouterr().err
    for _ in range(2):  # the second time into its own
        assert main(["predictions", str(folder / STORED), "--output", str(tmp_path / "mine")]) == 0


def test_many_models_keep_the_answer_short(tmp_path: Path) -> None:
    content = {"label": columns()["actual_pred"]} | {f"m{n}_prob": columns(n)["rnn_prob"] for n in range(17)}
    path = tmp_path / "many.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(content)
        writer.writerows(zip(*content.values(), strict=True))
    assert main(["predictions", str(path), "--output", str(tmp_path / "out")]) == 0
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert report.startswith("# m0 against m1 against m2 against 14 more: predictions on 400 examples\n")
    assert "The 136 single pairs are in `comparison.json`" in report
    assert "the largest of 136 differences" in report
