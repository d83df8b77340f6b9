"""Starts Python in a process of its own, as a user in some folder does."""

import os
import subprocess
import sys
from pathlib import Path


def python(*arguments: str, folder: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "COLUMNS": "150"},
    )
