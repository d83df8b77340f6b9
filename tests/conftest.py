"""What all tests share."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Encode into a cache of this session, never into the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CROSSCHECK_CACHE", str(tmp_path_factory.mktemp("cache")))
        # Processes started by the tests find `tests.fakes`.
        patch.setenv("PYTHONPATH", str(ROOT))
        yield
