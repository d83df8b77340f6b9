"""Datasets by name. A loader is imported when its dataset is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rnn_crosscheck.harness.errors import UsageError, unknown

if TYPE_CHECKING:
    from rnn_crosscheck.harness.datasets.dataset import Dataset

#: name -> module:function; the function takes the user's file or folder and the cache folder, None for neither
_LOADERS = {
    "aclimdb": "rnn_crosscheck.harness.datasets.aclimdb:load",
    "imdb": "rnn_crosscheck.harness.datasets.imdb:load",
    "reviews": "rnn_crosscheck.harness.datasets.reviews:load",
    "table": "rnn_crosscheck.harness.datasets.table:load",
}
#: those whose function takes the names of columns as well
_WITH_COLUMNS = frozenset({"table"})


def names() -> tuple[str, ...]:
    """Names of the datasets that can be loaded."""
    return tuple(sorted(_LOADERS))


def load(name: str, *, data: Path | None = None, columns: str = "", cache: Path | None = None) -> Dataset:
    """Load a dataset, encoded, from the cache or from its source.

    Parameters
    ----------
    name
        One of `names`.
    data
        File or folder of the user's, for a loader that reads one.
    columns
        Which columns are what, as ``text=review,label=sentiment``, for a loader that reads a table.
    cache
        Folder of the cache; None for ``$CROSSCHECK_CACHE``, else the platform's place for caches.

    Raises
    ------
    UsageError
        There is no such dataset, it doesn't take `data` or `columns`, or `columns` has another form.
    DataError
        The source is missing or isn't what it should be.
    """
    if name not in _LOADERS:
        raise unknown("dataset", name, _LOADERS)
    module, _, function = _LOADERS[name].partition(":")
    loader: Callable[..., Dataset] = getattr(importlib.import_module(module), function)
    if name in _WITH_COLUMNS:
        from rnn_crosscheck.harness.datasets.columns import parse

        return loader(data, cache, parse(columns))
    if columns:
        raise UsageError(f"The dataset {name!r} has no columns to name; got {columns!r}.")
    return loader(data, cache)
