from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rnn_crosscheck.reports.read.comparison import Predicted
from tests import browser as browsers
from tests.browser import Browser


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="session")
def _started(downloads: Path) -> Iterator[Browser]:
    if lacking := browsers.missing():
        pytest.skip(f"the page is looked at in a real browser, and there is no {lacking}")
    with browsers.started(downloads) as browser:
        yield browser


@pytest.fixture
def browser(_started: Browser) -> Iterator[Browser]:
    """A browser that nothing has complained in when the test ends."""
    _started.resize()
    _started.complaints()
    yield _started
    assert _started.complaints() == []


def predicted(
    runs: Mapping[tuple[str, str, str, int], Sequence[float]],
    labels: Sequence[int],
    texts: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
) -> Predicted:
    """Make up predictions: (division, backend, model, seed) -> probabilities."""
    n = len(labels)
    index = pd.Index(ids or [f"example-{number}" for number in range(n)], dtype=object)
    test = pd.DataFrame(
        {
            "label": np.array(labels, np.int8),
            "text": list(texts or [f"Text number {number}." for number in range(n)]),
            "length": np.arange(n) + 3,
            "oov": np.arange(n) / (2 * n),
            "truncated": [number % 3 == 0 for number in range(n)],
        },
        index=index,
    )
    names = ["-".join(map(str, run)) for run in runs]
    table = pd.DataFrame(list(runs), columns=["division", "backend", "model", "seed"], index=names)
    values = {name: np.array(each, np.float32) for name, each in zip(names, runs.values(), strict=True)}
    return Predicted(test, table.assign(status="ok"), pd.DataFrame(values, index=index))
