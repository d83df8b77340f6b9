"""Predictions of models trained anywhere, read from JSON, CSV or Parquet and checked to be about the same examples.

A file holds columns of one length: the label (``actual_pred`` or ``label``, 0 or 1), one or more columns of
probabilities of the positive class (``<model>_prob`` or ``probability``), and, if there are any, ``example_id`` and
``text``. Other columns are not looked at. Each column of probabilities is a model of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.reports.read.comparison import Predicted

LABELS = ("actual_pred", "label")
SUFFIX, BARE = "_prob", "probability"
ID, TEXT = "example_id", "text"

#: a file that claims more rows is refused before they are unpacked: Parquet can claim any number in a few bytes
MOST_ROWS = 20_000_000


@dataclass(frozen=True)
class PredictionFile:
    """One file as it was read.

    Attributes
    ----------
    path
        As the user gave it.
    labels
        int8 (examples,)
    probabilities
        Column name to float64 (examples,).
    ids, texts
        One string an example; None where the file has no such column.
    """

    path: Path
    labels: NDArray[np.int8]
    probabilities: Mapping[str, NDArray[np.float64]]
    ids: list[str] | None
    texts: list[str] | None


@dataclass(frozen=True)
class Predictions(Predicted):
    """Models from files, over the same examples.

    Attributes
    ----------
    files
        As the user gave them.
    joined
        A sentence about how the files were put together; empty for a single file.
    has_text
        Whether `test` holds texts.
    """

    files: tuple[Path, ...]
    joined: str
    has_text: bool


def read_predictions(paths: Sequence[Path]) -> Predictions:
    """Read files of predictions and put them together.

    By example id when every file has ids. Without, by position, and only when the files hold the same labels in the
    same order (and the same texts, where two files have them).

    Raises
    ------
    ResultsError
        A file is missing, damaged or lacks a column, a value is no label or no probability, or the files are not
        about the same examples; the sentence names the file, the column and the row, or both files.
    """
    files = [_read(path) for path in paths]
    first, *others = files
    by_id = all(file.ids is not None for file in files)
    files = [first, *(_in_order_of(first, other) if by_id else _same_order(first, other) for other in others)]
    if not others:
        joined = ""
    elif by_id:
        joined = "The files are joined by example id; all hold the same ids, with the same labels."
    else:
        lacking = [file.path.name for file in files if file.ids is None]
        same_texts = sum(file.texts is not None for file in files) > 1
        joined = (
            f"The files are joined by position, since {', '.join(lacking)} came without example ids: they agree in "
            f"length and, example by example, in {'labels and texts' if same_texts else 'labels'}, but nothing "
            "proves that the order is the same."
        )
    ids = next((file.ids for file in files if file.ids is not None), None)
    texts = next((file.texts for file in files if file.texts is not None), None)
    names = _names(files)
    index = pd.Index(ids or [f"row {number}" for number in range(len(first.labels))], name=ID, dtype=object)
    test = pd.DataFrame(
        {"label": first.labels, "text": texts or [""] * len(index), "length": np.nan, "truncated": False}, index=index
    )
    columns = [(file, column) for file in files for column in file.probabilities]
    runs = pd.DataFrame(
        # Models that share everything but their name are pairs "across models".
        {"backend": "", "model": names, "division": "", "seed": 0, "status": "ok",
         "column": [column for _, column in columns], "file": [file.path.name for file, _ in columns]},
        index=pd.Index(names, name="run_id", dtype=object),
    )  # fmt: skip
    values = [file.probabilities[column] for file, column in columns]
    probabilities = pd.DataFrame(dict(zip(names, values, strict=True)), index=index)
    return Predictions(test, runs, probabilities, tuple(paths), joined, texts is not None)


# --- one file -----------------------------------------------------------------------------------------------


def _read(path: Path) -> PredictionFile:
    readers = {".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ResultsError(f"{path} should be a file of predictions that ends in {', '.join(readers)}.")
    try:
        columns = reader(path)
    except FileNotFoundError:
        raise ResultsError(f"There is no file {path}.") from None
    except OSError as error:
        raise ResultsError(f"{path} can't be read: {_first_line(error)}.") from None
    labels = [name for name in LABELS if name in columns]
    probabilities = [name for name in columns if name == BARE or (name.endswith(SUFFIX) and name != SUFFIX)]
    if len(labels) != 1 or not probabilities:
        raise ResultsError(
            f"{path} should hold one column of labels ({' or '.join(LABELS)}) and at least one of probabilities (a "
            f"name that ends in {SUFFIX}, or {BARE}); it holds: {_shortened(columns) or 'none'}."
        )
    sizes = {name: len(columns[name]) for name in (*labels, *probabilities, ID, TEXT) if name in columns}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ResultsError(f"The columns of {path} should have one length; they have: {said}.")
    if not sizes[labels[0]]:
        raise ResultsError(f"{path} holds no examples.")
    return PredictionFile(
        path=path,
        labels=_numbers(path, labels[0], columns[labels[0]]).astype(np.int8),
        probabilities={name: _numbers(path, name, columns[name]) for name in probabilities},
        ids=_ids(path, columns[ID]) if ID in columns else None,
        texts=_strings(path, TEXT, columns[TEXT]) if TEXT in columns else None,
    )


def _read_json(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_no_name_twice)
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path} is not UTF-8: byte {error.start} can't be read.") from None
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path} is no JSON that can be read: {_first_line(error)}.") from None
    if not isinstance(content, dict):
        raise ResultsError(f'{path} should hold columns, as in {{"actual_pred": [...]}}, not {_kind(content)}.')
    for name in _wanted(content):
        if not isinstance(content[name], list):
            raise ResultsError(f"The column {_shown(name)} of {path} should be a list, not {_kind(content[name])}.")
    return {name: value if isinstance(value, list) else [] for name, value in content.items()}


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if repeated := _repeated(name for name, _ in pairs):
        raise ValueError(f"the name {_shown(repeated[0])} comes twice")
    return dict(pairs)


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, times in Counter(names).items() if times > 1]


def _read_csv(path: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    from pyarrow import csv

    # One block, or a row longer than a block would be refused; no value is taken for a null or a number before it
    # is checked here.
    read = csv.ReadOptions(block_size=min(max(path.stat().st_size, 1) + 1, 2**31 - 1))
    parse = csv.ParseOptions(newlines_in_values=True)
    if path.read_bytes().count(b'"') % 2:  # as of a file that was cut off; Arrow would take the rest for one value
        raise ResultsError(f"{path} is no CSV in UTF-8 that can be read: a quotation mark is never closed.")
    try:
        with csv.open_csv(path, read, parse) as opened:
            names = opened.schema.names
        _distinct(path, names)
        convert = csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, include_columns=_wanted(names)
        )
        table = csv.read_csv(path, read, parse, convert)
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ResultsError(f"{path} is no CSV in UTF-8 that can be read: {_first_line(error)}.") from None
    return {name: [] for name in names} | {name: table[name].to_pylist() for name in table.column_names}


def _read_parquet(path: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names = list(file.schema_arrow.names)
        _distinct(path, names)
        if file.metadata.num_rows > MOST_ROWS:
            raise ResultsError(f"{path} claims {file.metadata.num_rows:,} rows; at most {MOST_ROWS:,} are read.")
        table = file.read(columns=_wanted(names))
        read = {name: table[name].to_pylist() for name in table.column_names}
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise ResultsError(f"{path} is no Parquet file that can be read: {_first_line(error)}.") from None
    return {name: [] for name in names} | read


def _wanted(names: Iterable[str]) -> list[str]:
    return [name for name in names if name in (*LABELS, BARE, ID, TEXT) or name.endswith(SUFFIX)]


def _distinct(path: Path, names: Sequence[str]) -> None:
    if repeated := _repeated(names):
        raise ResultsError(f"{path} holds the column {_shown(repeated[0])} more than once.")


# --- one column ---------------------------------------------------------------------------------------------


def _numbers(path: Path, name: str, values: Sequence[Any]) -> NDArray[np.float64]:
    """Read labels or probabilities, also where a CSV gave text; what is none is refused."""
    numbers = np.array([_number(value) for value in values], np.float64)
    rule, fine = "probabilities lie from 0 to 1", (numbers >= 0) & (numbers <= 1)
    if name in LABELS:
        rule, fine = "labels are 0 or 1", np.isin(numbers, (0.0, 1.0))
    wrong = ~fine
    if wrong.any():
        row = int(wrong.argmax())
        raise ResultsError(
            f"{path}: {rule}, but the column {_shown(name)} holds {_shown(values[row])} in row {row + 1} "
            f"({int(wrong.sum()):,} of {len(wrong):,} rows are wrong)."
        )
    return numbers


def _number(value: Any) -> float:  # noqa: ANN401 - whatever a file holds
    """Read a number; NaN stands for what is none."""
    if not isinstance(value, int | float | str):
        return np.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return np.nan


def _ids(path: Path, values: Sequence[Any]) -> list[str]:
    ids = _strings(path, ID, values)
    if repeated := _repeated(ids):
        raise ResultsError(f"{path} holds the example id {_shown(repeated[0])} more than once.")
    return ids


def _strings(path: Path, name: str, values: Sequence[Any]) -> list[str]:
    for row, value in enumerate(values):
        # An id can be a number; a text can't, and neither can be missing.
        if not isinstance(value, str) and (name != ID or isinstance(value, bool) or not isinstance(value, int)):
            raise ResultsError(f"{path}: the column {name} should hold text, but row {row + 1} is {_shown(value)}.")
    return [str(value) for value in values]


# --- several files ------------------------------------------------------------------------------------------


def _in_order_of(first: PredictionFile, other: PredictionFile) -> PredictionFile:
    """Bring a file's examples into another's order, by their ids."""
    assert first.ids is not None
    assert other.ids is not None
    place = {example_id: row for row, example_id in enumerate(other.ids)}
    missing = [example_id for example_id in first.ids if example_id not in place]
    if missing or len(first.ids) != len(other.ids):
        foreign = set(other.ids) - set(first.ids)
        raise ResultsError(
            f"{first.path} and {other.path} should hold the same examples: of the {len(first.ids):,} ids of the first "
            f"{len(missing):,} are missing in the second, which holds {len(other.ids):,}, {len(foreign):,} of them "
            "unknown to the first."
        )
    order = np.array([place[example_id] for example_id in first.ids])
    turned = replace(
        other,
        labels=other.labels[order],
        probabilities={name: values[order] for name, values in other.probabilities.items()},
        ids=first.ids,
        texts=None if other.texts is None else [other.texts[row] for row in order],
    )
    _agree(first, turned, f"example {_shown(first.ids[_first_difference(first, turned)])}")
    return turned


def _same_order(first: PredictionFile, other: PredictionFile) -> PredictionFile:
    """Check that two files can be joined by position."""
    if len(first.labels) != len(other.labels):
        raise ResultsError(
            f"{first.path} holds {len(first.labels):,} examples and {other.path} {len(other.labels):,}; without "
            f"example ids in both ({ID}), files are joined only when they hold the same examples in the same order."
        )
    _agree(first, other, f"row {_first_difference(first, other) + 1}")
    return other


def _differences(first: PredictionFile, other: PredictionFile) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    labels = np.asarray(first.labels != other.labels)
    texts = np.zeros(len(labels), np.bool_)
    if first.texts is not None and other.texts is not None:
        texts = np.array([one != two for one, two in zip(first.texts, other.texts, strict=True)], np.bool_)
    return labels, texts


def _first_difference(first: PredictionFile, other: PredictionFile) -> int:
    labels, texts = _differences(first, other)
    return int((labels if labels.any() else texts).argmax())


def _agree(first: PredictionFile, other: PredictionFile, where: str) -> None:
    for what, wrong in zip(("label", "text"), _differences(first, other), strict=True):
        if wrong.any():
            raise ResultsError(
                f"{first.path} and {other.path} are not about the same examples: {int(wrong.sum()):,} of "
                f"{len(wrong):,} have another {what} in the second, first {where}."
            )


def _names(files: Sequence[PredictionFile]) -> list[str]:
    """Name each model after its column, or after its file where the column says nothing or several say the same."""
    plain = [
        (file, _of_file(file.path) if column == BARE else column.removesuffix(SUFFIX))
        for file in files
        for column in file.probabilities
    ]
    times = Counter(name for _, name in plain)
    names: list[str] = []
    for file, name in plain:
        full = name if times[name] == 1 else f"{_of_file(file.path)}: {name}"
        number, chosen = 2, full
        while chosen in names:
            number, chosen = number + 1, f"{full} ({number})"
        names.append(chosen)
    return names


def _of_file(path: Path) -> str:
    # Files of a comparison are all called the same, and their folders after the runs.
    return path.parent.name if path.stem == "predictions" and path.parent.name else path.stem


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever a file holds
    if isinstance(value, list | dict):  # of any depth and size
        return _kind(value)
    said = repr(value)
    return said if len(said) <= 60 else said[:57] + "..."


def _shortened(names: Mapping[str, Any]) -> str:
    shown = [_shown(name) for name in list(names)[:8]]
    return ", ".join([*shown, f"{len(names) - 8} more"] if len(names) > 8 else shown)


def _kind(value: Any) -> str:  # noqa: ANN401 - whatever a file holds
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
