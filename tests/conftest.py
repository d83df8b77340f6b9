"""What all tests share."""

import io
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

with suppress(ModuleNotFoundError):  # `make benchmark` reads this file and installs only what it compares
    from hypothesis import settings

    # How long an example takes depends on what else the machine does.
    settings.register_profile("crosscheck", deadline=None)
    settings.load_profile("crosscheck")

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]


#: files whose tests wait for frameworks to start; with several processes, these have to begin first
_LONG = (
    "test_end_to_end.py",
    "test_findings.py",
    "test_frameworks.py",
    "test_session.py",
    "test_ending.py",
    "test_guest.py",
    "test_toolchain.py",
    "test_in_browser.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest in front; the order within a file stays. What is long is slow, too."""
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Encode into a cache of this session, never into the user's."""
    # A pytest that runs inside of a test forgets what it has imported. Were that pandas' part for Parquet, importing it
    # again would fail, since pyarrow takes its types only once.
    pd.DataFrame({"a": [1]}).to_parquet(io.BytesIO())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSCHECK_CACHE", str(tmp_path_factory.mktemp("cache")))
        # Processes started by the tests find `tests.fakes`.
        patch.setenv("PYTHONPATH", str(ROOT))
        # Importing hypothesis takes longer than the rest of a small session.
        patch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:cacheprovider")
        # What they start is a session of its own: pytest-benchmark would take it for part of a distributed one.
        for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID"):
            patch.delenv(name, raising=False)
        yield
