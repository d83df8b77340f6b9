"""The user's table: how its columns and labels are understood, and the many ways in which it may be damaged."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.datasets import rows, table
from rnn_crosscheck.harness.datasets.corpus import first_repeat
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.datasets.reviews import split_of
from rnn_crosscheck.harness.datasets.spill import Numbered, Spill
from rnn_crosscheck.harness.errors import DataError, UsageError

Rows = Sequence[dict[str, Any]]

N = 120
ROWS: Rows = [
    {"review": f"{('dull', 'fine')[row % 2]} film {row}", "sentiment": ("neg", "pos")[row % 2]} for row in range(N)
]


def write_csv(path: Path, rows: Rows, delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: Rows) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


WRITERS: dict[str, Callable[[Path, Rows], Path]] = {
    ".csv": write_csv,
    ".tsv": lambda path, rows: write_csv(path, rows, "\t"),
    ".jsonl": write_jsonl,
    ".parquet": write_parquet,
}


def load(path: Path | None, columns: str = "") -> Dataset:
    cache = (path or Path()).parent / "cache"
    return datasets.load("table", data=path, columns=columns, cache=cache)


def content(data: Dataset) -> dict[str, tuple[str, str, int]]:
    return {
        example_id: (name, text, int(label))
        for name, split in data.splits.items()
        for example_id, text, label in zip(split.example_ids, split.texts, split.labels, strict=True)
    }


# --- what is read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", list(WRITERS))
def test_every_form_gives_the_same_dataset(tmp_path: Path, extension: str) -> None:
    data = load(WRITERS[extension](tmp_path / f"mine{extension}", ROWS))
    expected = {
        f"table-{row + 1:07d}": (
            split_of(hashlib.sha256(values["review"].encode()).digest()),
            values["review"],
            int(values["sentiment"] == "pos"),
        )
        for row, values in enumerate(ROWS)
    }
    assert content(data) == expected
    assert data.source == (
        f"120 rows of the table 'mine{extension}'; text from the column 'review' (guessed); label from 'sentiment' "
        "(guessed), 'neg' is 0 and 'pos' is 1; split by a hash of the text (60 % train, 10 % valid, 30 % test); "
        "example ids with the number of the row"
    )


def test_columns_are_named_and_said(tmp_path: Path) -> None:
    rows = [
        {
            "a": f"text {row}",
            "text": "not this",
            "b": row % 2,
            "c": ("Train", "dev", "TEST")[row % 3],
            "d": f"key {row}",
        }
        for row in range(30)
    ]
    data = load(write_csv(tmp_path / "mine.csv", rows), "text=a, label=b,split=c,id=d")
    assert content(data)["key 4"] == ("valid", "text 4", 0)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 10, "valid": 10, "test": 10}
    assert "text from the column 'a'; label from 'b', '0' is 0 and '1' is 1; split from 'c'; example ids from 'd'" in (
        data.source
    )


def test_an_empty_name_says_that_there_is_no_such_column(tmp_path: Path) -> None:
    rows = [{**row, "id": "same", "split": "fold 1"} for row in ROWS]
    path = write_csv(tmp_path / "mine.csv", rows)
    with pytest.raises(DataError, match="'split' has 'fold 1'; expected train, valid or test"):
        load(path)
    with pytest.raises(DataError, match=r"row 2: the id 'same' in 'id' is also that of row 1"):
        load(path, "split=")
    assert len(load(path, "split=,id=")) == N


@pytest.mark.parametrize(
    ("labels", "one"),
    [
        ((0, 1), 1),
        ((True, False), True),
        ((1.0, 0.0), 1.0),
        (("pos", "neg"), "pos"),
        (("Negative", "Positive"), "Positive"),
        (("yes", "no"), "yes"),
        (("bad", "good"), "good"),
        (("terrible", "good"), "good"),
        (("bad", "alright"), "alright"),
        (("spam", "ham"), "spam"),
        ((4, 0), 4),
        ((10, 9), 10),
        ((-1, 1), 1),
        ((1, 2), 2),
    ],
)
@pytest.mark.parametrize("extension", [".csv", ".jsonl", ".parquet"])
def test_labels_are_two_classes_of_which_one_is_positive(
    tmp_path: Path, labels: tuple[object, object], one: object, extension: str
) -> None:
    rows = [{"text": f"film {row}", "label": labels[row % 2]} for row in range(N)]
    data = load(WRITERS[extension](tmp_path / f"mine{extension}", rows))
    expected = {f"table-{row + 1:07d}": int(values["label"] == one) for row, values in enumerate(rows)}
    assert {example_id: label for example_id, (_, _, label) in content(data).items()} == expected


def test_a_table_that_is_sorted_by_label_gives_samples_of_both_classes(tmp_path: Path) -> None:
    rows = [
        {"text": f"film {row}", "label": int(row >= 200), "split": ("train", "test")[row % 2]} for row in range(400)
    ]
    data = load(write_csv(tmp_path / "mine.csv", rows))
    for split in data.splits.values():
        assert 0.3 < split.labels[:60].mean() < 0.7


def test_texts_that_stand_in_two_splits_are_counted(tmp_path: Path) -> None:
    rows = [{**row, "split": "train"} for row in ROWS] + [{**row, "split": "test"} for row in ROWS[:4]]
    data = load(write_csv(tmp_path / "mine.csv", rows))
    assert data.source.endswith("4 texts of the test split are in another split too")


def test_quotes_line_ends_a_bom_and_blank_lines_are_understood(tmp_path: Path) -> None:
    rows = "".join(f'"a ""fine"", film\r\nin two lines {row}",{row % 2}\r\n\r\n' for row in range(N))
    (tmp_path / "mine.csv").write_bytes(b"\xef\xbb\xbftext,label\r\n" + rows.encode())
    data = load(tmp_path / "mine.csv")
    assert content(data)["table-0000003"][1] == 'a "fine", film\r\nin two lines 2'


def test_a_second_load_is_from_the_cache_and_another_choice_of_columns_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path / "mine.csv", [{**row, "other": row["review"][::-1]} for row in ROWS])
    first = load(path)
    assert load(path, "text=other").fingerprint != first.fingerprint

    def never(*arguments: object) -> None:
        raise AssertionError("a cached table is not read again")

    monkeypatch.setattr(table, "read", never)
    assert load(path).path == first.path


def test_ids_of_json_may_be_numbers(tmp_path: Path) -> None:
    data = load(write_jsonl(tmp_path / "mine.jsonl", [{**row, "id": 7 * n} for n, row in enumerate(ROWS)]))
    assert content(data)["14"][1] == "dull film 2"


def test_blocks_of_any_size_give_the_same_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rnn_crosscheck.harness.datasets import dataset, text

    path = write_csv(tmp_path / "mine.csv", ROWS)
    whole = load(path)
    monkeypatch.setattr(text, "_BLOCK", 16)
    monkeypatch.setattr(text, "_INTEGERS", 7)
    monkeypatch.setattr(dataset, "_BATCH", 64)
    parts = datasets.load("table", data=path, cache=tmp_path / "other")
    assert parts.fingerprint == whole.fingerprint
    assert content(parts) == content(whole)


# --- what is refused ----------------------------------------------------------------------------------------

GOOD = "text,label,split,id\n" + "".join(
    f"fine film {row},{row % 2},{('train', 'test')[row // 2 % 2]},key{row}\n" for row in range(12)
)


def with_line(number: int, line: str, base: str = GOOD) -> bytes:
    """The good table with another line; the header is line 1."""
    lines = base.splitlines(keepends=True)
    lines[number - 1 : number] = [line]
    return "".join(lines).encode()


def without(column: int) -> bytes:
    return "\n".join(
        ",".join(value for place, value in enumerate(line.split(",")) if place != column) for line in GOOD.splitlines()
    ).encode()


DAMAGE: dict[str, tuple[bytes, str]] = {
    "empty file": (b"", r"mine\.csv is empty"),
    "only blank lines": (b"\n\n\n", r"mine\.csv is empty"),
    "only a bom": (b"\xef\xbb\xbf", r"mine\.csv is empty"),
    "header alone": (b"text,label\n", r"mine\.csv has no row of data"),
    "no text column": (without(0), r"no column that is called like text .*it has 'label', 'split', 'id'"),
    "no label column": (without(1), r"no column that is called like label .*--crosscheck-columns=label=NAME"),
    "two text columns": (
        with_line(1, "text,label,split,review\n"),
        r"several columns that may be text: 'text', 'review'",
    ),
    "column twice": (with_line(1, "text,label,split,text\n"), r"has the column 'text' twice"),
    "too few values": (
        with_line(4, "fine film,1\n"),
        r"row 3 \(line 4\): it has 2 values, but the header has 4 columns",
    ),
    "too many values": (with_line(4, "fine, film,1,train,a\n"), r"row 3 \(line 4\): it has 5 values"),
    "empty text": (with_line(4, ",1,train,a\n"), r"row 3 \(line 4\): the text in 'text' is empty"),
    "blank text": (with_line(4, '"  \t",1,train,a\n'), r"row 3 \(line 4\): the text in 'text' is empty"),
    "text without a word": (
        with_line(4, "?!,1,train,a\n"),
        r"row 3 \(line 4\): the text in 'text' has no word, only '\?!'",
    ),
    "empty label": (with_line(4, "film,,train,a\n"), r"row 3 \(line 4\): 'label' has '', which is no label"),
    "third label": (
        with_line(4, "film,2,train,a\n"),
        r"row 3 \(line 4\): .*third label; expected two classes, got '0', '1', '2'",
    ),
    "label not a number": (
        with_line(4, "film,nan,train,a\n"),
        r"row 3 \(line 4\): 'label' has 'nan', which is no label",
    ),
    "one class": (b"text,label\na,1\nb,1\n", r"all 2 rows have the label '1' in 'label', expected two classes"),
    "unknown split": (
        with_line(4, "film,0,fold3,a\n"),
        r"row 3 \(line 4\): 'split' has 'fold3'; expected train, valid or test",
    ),
    "empty split name": (
        with_line(4, "film,0,,a\n"),
        r"row 3 \(line 4\): 'split' has ''; expected train, valid or test",
    ),
    "no test split": (GOOD.replace("test", "train").encode(), r"split of the column 'split' leaves no row for 'test'"),
    "no train split": (GOOD.replace("train", "valid").encode(), r"leaves no row for 'train'"),
    "split of one class": (
        b"text,label,split\na,0,train\nb,1,train\nc,1,test\n",
        r"gives 'test' rows of one class alone",
    ),
    "too small for a hash": (b"text,label\na,0\nb,1\n", r"split by hash of 2 texts .*give it more rows, or a column"),
    "id twice": (with_line(9, "film,0,train,key2\n"), r"row 8: the id 'key2' in 'id' is also that of row 3"),
    "empty id": (with_line(4, "film,0,train,\n"), r"row 3 \(line 4\): an id is one line of text, but 'id' has ''"),
    "id of two lines": (with_line(4, 'film,0,train,"a\nb"\n'), r"row 3 \(line 4\): an id is one line of text"),
    "latin-1": (GOOD.replace("fine film 3", "caf\u00e9").encode("latin-1"), r"line 5: the byte 0xe9 at 3 isn't UTF-8"),
    "utf-16": (GOOD.encode("utf-16"), r"is encoded as UTF-16, expected UTF-8"),
    "nul byte": (GOOD.replace("film 3", "film\0 3").encode(), r"line 5: it has a NUL byte"),
    "binary": (bytes(range(256)) * 8, r"line 1: it has a NUL byte"),
    "quote never closed": (with_line(4, '"fine film,1,train,a\n'), r"line 4: a quote is opened that is never closed"),
    "quote closed early": (
        with_line(4, '"fine" film,1,train,a\n'),
        r"line 4: after a closing quote comes something else",
    ),
    "old line ends": (GOOD.replace("\n", "\r").encode(), r"carriage return alone"),
    "other delimiter": (GOOD.replace(",", ";").encode(), r"it has 'text;label;split;id'"),
    "cut off": (GOOD.encode()[:-12], r"row 12 \(line 13\): it has 2 values"),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_csv_is_one_sentence_and_leaves_nothing_behind(
    tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bad, sentence = DAMAGE[damage]
    path = tmp_path / "mine.csv"
    path.write_bytes(bad)
    assert_refused(path, sentence)


def assert_refused(path: Path, sentence: str, columns: str = "") -> None:
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(DataError, match=sentence) as caught:
        load(path, columns)
    said = str(caught.value)
    assert str(path) in said
    assert "\n" not in said
    assert said.endswith(".")
    assert len(said) < 600
    assert [one for one in sorted(path.parent.rglob("*")) if one not in before] in ([], [path.parent / "cache"])


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("", "is empty"),
        ("{}\n", "no column that is called like text"),
        ('{"text": "a", "label": 1}\n{"text": "b"}\n', r"row 2 \(line 2\): it has no 'label'"),
        (
            '{"text": "a", "label": 1}\n\n{"text": null, "label": 0}\n',
            r"row 2 \(line 3\): 'text' has nothing, expected a text",
        ),
        ('{"text": "a", "label": 1}\n{"text": 5, "label": 0}\n', r"row 2 \(line 2\): 'text' has 5, expected a text"),
        ('{"text": "a", "label": null}\n', r"'label' has nothing, which is no label"),
        ('{"text": "a", "label": [1]}\n', r"'label' has list, which is no label"),
        ('{"text": "a", "label": NaN}\n', r"'label' has nan, which is no label"),
        ('{"text": "a", "label": 1}\n{"text": "b"\n', r"line 2: it isn't a line of JSON: Expecting"),
        ('["a", 1]\n', "line 1: expected an object in braces, got list"),
        ('{"text": "a", "text": "b", "label": 1}\n', "line 1: it isn't a line of JSON: it has 'text' twice"),
        ('{"text": "\\ud800 a", "label": 1}\n', "isn't valid Unicode"),
        ('{"text": "a\\u0000b", "label": 1}\n', "has a NUL byte"),
        ("[" * 200_000 + "\n", "line 1: it isn't a line of JSON: it is nested too deeply"),
        ('{"text": "a", "label": ' + "1" * 5000 + "}\n", "line 1: it isn't a line of JSON: Exceeds the limit"),
    ],
)
def test_damaged_json_lines_are_refused(tmp_path: Path, lines: str, sentence: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(lines, encoding="utf-8")
    assert_refused(path, sentence)


@pytest.mark.parametrize("extension", [".csv", ".jsonl"])
def test_a_line_that_would_fill_the_memory_is_refused(
    tmp_path: Path, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "VALUE_LIMIT", 10_000)
    path = WRITERS[extension](tmp_path / f"mine{extension}", [*ROWS, {"review": "a " * 10_000, "sentiment": "pos"}])
    assert_refused(path, r"line \d+: it is longer than the 10,000 bytes allowed")


def test_a_value_of_many_lines_that_would_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "VALUE_LIMIT", 10_000)
    before = csv.field_size_limit()
    path = write_csv(tmp_path / "mine.csv", [*ROWS, {"review": "a\n" * 10_000, "sentiment": "pos"}])
    assert_refused(path, r"line 122: a value is longer than the 10,000 characters allowed")
    assert csv.field_size_limit() == before


PARQUET: dict[str, tuple[pa.Table, str]] = {
    "no rows": (pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.int8())}), "has no row of data"),
    "null text": (pa.table({"text": ["a", None], "label": [0, 1]}), "row 2: 'text' has nothing, expected a text"),
    "null label": (pa.table({"text": ["a", "b"], "label": [0, None]}), "row 2: 'label' has nothing, which is no label"),
    "texts are numbers": (pa.table({"text": [1, 2], "label": [0, 1]}), "column 'text' holds int64, expected text"),
    "texts are lists": (pa.table({"text": [["a"], ["b"]], "label": [0, 1]}), "column 'text' holds list"),
    "labels are lists": (pa.table({"text": ["a", "b"], "label": [[0], [1]]}), "column 'label' holds list"),
    "undecodable": (
        pa.table({"text": pa.array([b"good", b"caf\xe9"]).view(pa.string()), "label": [0, 1]}),
        r"row 2: the value of 'text' isn't UTF-8: b'caf\\xe9'",
    ),
    "no columns": (pa.table({"a": [1]}), "no column that is called like text"),
    "half a label": (pa.table({"text": ["a", "b", "c"], "label": [0, 1, 0.5]}), "row 3: .* third label"),
}


@pytest.mark.parametrize("damage", list(PARQUET))
def test_a_damaged_parquet_is_refused(tmp_path: Path, damage: str) -> None:
    bad, sentence = PARQUET[damage]
    pq.write_table(bad, tmp_path / "mine.parquet")
    assert_refused(tmp_path / "mine.parquet", sentence)


@pytest.mark.parametrize("kept", [3, 100, 0.5, -1])
def test_a_truncated_parquet_is_refused(tmp_path: Path, kept: float) -> None:
    path = write_parquet(tmp_path / "mine.parquet", ROWS)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept) if 0 < kept < 1 else int(kept)])
    assert_refused(path, r"is not a readable Parquet file")


def test_flipped_bits_in_a_parquet_are_refused_or_read_but_never_a_traceback(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "mine.parquet", ROWS)
    whole = path.read_bytes()
    refused = 0
    for place in range(4, len(whole), 41):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            load(path)
        except DataError:
            refused += 1
    assert refused > 10


@pytest.mark.slow
def test_a_parquet_that_unpacks_to_far_too_much_is_refused(tmp_path: Path) -> None:
    # One text of a megabyte is stored once for a thousand rows: the file says so itself only in its rows.
    bomb = pa.table({"text": pa.array(["a " * 500_000] * 1000).dictionary_encode(), "label": [0, 1] * 500})
    pq.write_table(bomb, tmp_path / "mine.parquet", compression="zstd", store_schema=False)
    assert (tmp_path / "mine.parquet").stat().st_size < 100_000
    assert_refused(tmp_path / "mine.parquet", r"row 17: the texts unpack to more than 16,777,216 bytes")


def test_a_parquet_value_that_is_too_long_is_refused(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"text": ["a " * (rows.VALUE_LIMIT // 2 + 1)], "label": [0]}),
        tmp_path / "mine.parquet",
        compression=None,
    )
    assert_refused(tmp_path / "mine.parquet", r"row 1: the value of 'text' has 16,777,218 bytes, more than")


def test_a_parquet_that_claims_absurd_sizes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a" * 100_000_000], "label": [0]}), tmp_path / "mine.parquet", compression="zstd")
    assert_refused(tmp_path / "mine.parquet", r"claims to unpack from [\d,]+ bytes to 100,")


def test_a_missing_file_a_folder_and_another_ending_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "mine.xlsx").write_bytes(b"x")
    (tmp_path / "mine").write_bytes(b"x")
    for name, sentence in {
        "none.csv": r"There is no file .*none\.csv",
        "folder.csv": "is not a file; a table is one file",
        "mine.xlsx": r"ends in \.xlsx, but a table ends in \.csv, \.tsv, \.jsonl, \.parquet",
        "mine": "ends in nothing, but",
    }.items():
        assert_refused(tmp_path / name, sentence)
    with pytest.raises(DataError, match=r"name it with --crosscheck-data=FILE, which ends in \.csv"):
        load(None)


def test_a_column_that_is_named_and_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "mine.csv", ROWS)
    assert_refused(path, r"has no column 'body' for text; it has 'review', 'sentiment'", "text=body")


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ("review", r"named as in --crosscheck-columns=text=review.*got 'review'"),
        ("words=review", "with the roles text, label, split, id"),
        ("text=a,text=b", "names the column for text twice"),
        ("text=", "has no name for text"),
        ("text=a,label=a", "gives the column 'a' two roles"),
        ("text=a,,label=b", "got ''"),
    ],
)
def test_columns_in_another_form_are_a_mistake_of_usage(tmp_path: Path, columns: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        load(write_csv(tmp_path / "mine.csv", ROWS), columns)


# --- strings on disk ----------------------------------------------------------------------------------------


def test_strings_on_disk_are_read_in_any_order_and_leave_no_file(tmp_path: Path) -> None:
    spill = Spill(tmp_path)
    for one in ("caf\u00e9", "", "\U0001f600 b"):
        spill.append(one.encode())
    assert len(spill) == 3
    assert spill.size == 11
    ordered = spill.ordered(np.array([2, 0, 1, 2]))
    assert list(ordered) == ["\U0001f600 b", "caf\u00e9", "", "\U0001f600 b"]
    assert ordered[-1] == "\U0001f600 b"
    assert ordered[1:3] == ["caf\u00e9", ""]
    assert not list(tmp_path.iterdir())


def test_names_of_rows_count_from_one() -> None:
    names = Numbered("table", np.array([4, 0]))
    assert list(names) == ["table-0000005", "table-0000001"]
    assert names[:1] == ["table-0000005"]


def test_the_first_value_that_repeats_is_found_with_both_places() -> None:
    assert first_repeat(["a", "b", "c"]) is None
    assert first_repeat([]) is None
    assert first_repeat(["a", "b", "c", "b", "a"]) == (1, 3)
