"""The reviews, read and encoded once a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rnn_crosscheck.harness import datasets
from rnn_crosscheck.harness.datasets import dataset as module
from rnn_crosscheck.harness.datasets import reviews as loader
from rnn_crosscheck.harness.datasets.corpus import Corpus
from rnn_crosscheck.harness.datasets.dataset import Dataset
from tests.harness.datasets import naive


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return loader.read(loader.source_file())


@pytest.fixture(scope="session")
def reviews_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def reviews(reviews_cache: Path) -> Dataset:
    return datasets.load("reviews", cache=reviews_cache)


@pytest.fixture
def build(tmp_path: Path) -> Callable[[Corpus], Dataset]:
    """Encode a corpus into a folder and open it."""

    def build(corpus: Corpus) -> Dataset:
        folder = tmp_path / f"dataset-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        module.write(corpus, folder)
        return Dataset.open(folder)

    return build


@pytest.fixture
def tiny(build: Callable[[Corpus], Dataset]) -> Dataset:
    return build(naive.corpus())
