"""The tests that a comparison and a check of conformance consist of; pytest collects them from here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def nameless_folders(items: Iterable[pytest.Item]) -> Iterator[None]:
    """Let ``-k`` see the tests alone: it looks at the names of all folders above them too.

    One of ours has ``rnn`` in it, and a user's environment may lie in ``pytorch/``.
    """
    above = {id(node): node for item in items for node in item.listchain()[1:-1]}.values()
    names = [node.name for node in above]
    for node in above:
        node.name = ""
    try:
        yield
    finally:
        for node, name in zip(above, names, strict=True):
            node.name = name
