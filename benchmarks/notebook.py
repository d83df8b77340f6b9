"""What the comparison costs beside plain scripts: the notebook's protocol on full IMDB, four runs.

Runs the scripts in `benchmarks/plain/` one after the other as they are (all cores), then the same four runs as a
comparison with its report (native, one seed, one thread a run, as many side by side as there are cores), or the
other way round. The comparison encodes the texts' ids once, predicts the test set once, and shows accuracy,
agreement and examples. Prints seconds and the ratio. Wanted on 2 cores: at most 0.6. Takes a quarter of an hour;
needs the folder with imdb.npz.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

SCRIPTS = [(script, model) for model in ("rnn", "lstm") for script in ("keras_imdb.py", "pytorch_imdb.py")]


def plain(data: Path) -> float:
    """Run the four scripts one after the other; returns seconds."""
    began = time.monotonic()
    for script, model in SCRIPTS:
        path = Path(__file__).parent / "plain" / script
        answer = subprocess.run(
            [sys.executable, str(path), model, "--data", str(data)], capture_output=True, text=True, check=False
        )
        if answer.returncode:
            sys.exit(answer.stdout + answer.stderr)
        print("  " + answer.stdout.strip(), flush=True)
    return time.monotonic() - began


def comparison(data: Path) -> float:
    """Run the comparison with an empty cache; returns seconds."""
    with TemporaryDirectory() as name:
        command = [sys.executable, "-m", "pytest", "--benchmark", "-q", "-p", "no:cacheprovider", "-k", "test_training"]
        command += ["--crosscheck-protocol", "imdb", f"--crosscheck-data={data.absolute()}", "--crosscheck-seeds", "1"]
        command += ["--crosscheck-divisions", "native"]
        began = time.monotonic()
        answer = subprocess.run(
            command,
            cwd=name,
            env={**os.environ, "CROSSCHECK_CACHE": f"{name}/cache"},
            capture_output=True,
            text=True,
            check=False,
        )
        taken = time.monotonic() - began
        if answer.returncode or not (Path(name) / "comparison/report.md").is_file():
            sys.exit(answer.stdout + answer.stderr)
        for line in answer.stdout.splitlines():
            if line.startswith("[") or "test accuracy" in line:
                print("  " + line, flush=True)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("CROSSCHECK_DATA"), help="folder with imdb.npz")
    parser.add_argument("--comparison-first", action="store_true")
    options = parser.parse_args()
    if options.data is None:
        parser.error("give --data, or set CROSSCHECK_DATA")
    kinds = {"plain scripts": plain, "comparison": comparison}
    taken = {}
    for kind in list(kinds)[:: -1 if options.comparison_first else 1]:
        print(f"{kind}:", flush=True)
        taken[kind] = kinds[kind](options.data)
        print(f"{kind}: {taken[kind]:.0f} s", flush=True)
    print(f"comparison / plain scripts: {taken['comparison'] / taken['plain scripts']:.3f}")


if __name__ == "__main__":
    main()
