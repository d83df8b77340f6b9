"""What the page to browse examples costs, in headless Chromium: size, time until it can be used, a filter, memory.

python -m benchmarks.page                                # made-up predictions on the packaged reviews
python -m benchmarks.page --picture comparison page.png  # a picture of a comparison's page

The time runs from asking for the page to the first view. A filter is timed from the change of a field until the list
is laid out for the next frame, and until the scatter is drawn as well. Memory is what the tab's own process holds,
without what it shares.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from rnn_crosscheck.harness.datasets.reviews import read, source_file
from rnn_crosscheck.reports.analysis.disagreement import groups, pairs
from rnn_crosscheck.reports.pages import browse
from rnn_crosscheck.reports.read.comparison import Predicted
from tests import browser as browsers
from tests.browser import Browser

#: examples, runs, and what they may cost: MB, seconds
CASES = ((5_000, 28, 4.0, 1.5), (25_000, 48, 8.0, 4.0))
FILTER_MS, MEMORY_MB = 100, 300

#: changes a field and gives the milliseconds until the list is laid out for the next frame, and until all is drawn
FILTER = """
const [name, value, done] = arguments;
const begun = performance.now();
const field = document.querySelector(`[name=${name}]`);
field.value = value;
field.dispatchEvent(new Event(field.matches("select") ? "change" : "input", { bubbles: true }));
requestAnimationFrame(() => {
  document.body.offsetHeight;
  const list = performance.now() - begun;
  setTimeout(() => done([list, performance.now() - begun]));
});
"""


def made_up(examples: int, runs: int, texts: list[str]) -> Predicted:
    """Make up predictions of two backends and two models, an equal number of seeds each."""
    generator = np.random.default_rng(0)
    labels = (np.arange(examples) % 2).astype(np.int8)
    shared = generator.normal(size=examples)
    names, rows, values = [], [], []
    for seed in range(runs // 4):
        for backend in ("keras-tensorflow", "pytorch"):
            for model in ("rnn", "lstm"):
                logits = (2.0 * labels - 1) + shared + 0.7 * generator.normal(size=examples)
                names.append(f"native-{backend}-{model}-seed{seed}")
                rows.append(("native", backend, model, seed, "ok"))
                values.append((1 / (1 + np.exp(-logits))).astype(np.float32))
    test = pd.DataFrame(
        {
            "label": labels,
            "text": texts,
            "length": [text.count(" ") + 2 for text in texts],
            "oov": generator.beta(2, 20, examples),
            "truncated": [text.count(" ") > 500 for text in texts],
        },
        index=pd.Index([f"reviews-{number:05d}" for number in range(examples)], dtype=object),
    )
    table = pd.DataFrame(rows, columns=["division", "backend", "model", "seed", "status"], index=names)
    return Predicted(test, table, pd.DataFrame(dict(zip(names, values, strict=True)), index=test.index))


def measure(browser: Browser, page: Path) -> tuple[float, float, float, float]:
    """Give seconds until the page can be used, milliseconds of the slowest filter (list, all), and MB of the tab."""
    begun = time.perf_counter()
    browser.open(page)
    opened = time.perf_counter() - begun
    time.sleep(1)  # nobody filters sooner
    changes = (("text", "the"), ("text", "no such"), ("text", ""), ("label", "1"), ("order", "id"), ("least", "10"))
    lists, wholes = zip(*(browser.driver.execute_async_script(FILTER, *change) for change in changes), strict=True)
    return opened, max(lists), max(wholes), memory(browser)


def memory(browser: Browser) -> float:
    """Give what the largest process of this browser that shows a page holds, in MB: that of the tab."""
    parents, sizes = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            said = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            if b"--type=renderer" in (folder / "cmdline").read_bytes():
                sizes[int(folder.name)] = int(said["RssAnon"].split()[0]) / 1e3
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(said["PPid"])

    def ours(process: int) -> bool:
        return process == browser.driver.service.process.pid or (process in parents and ours(parents[process]))

    return max(size for process, size in sizes.items() if ours(process))


def picture(comparison: Path, path: Path) -> None:
    """Write a picture of a comparison's page: what a reader sees first of its stable splits."""
    with browsers.started() as browser:
        browser.resize(1280, 900, scale=1)
        browser.open(comparison / browse.PAGE, {"kind": "stable split"})
        browser.driver.execute_async_script(FILTER, "text", "")  # the scatter comes a moment after the list
        browser.picture(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="times that each is measured; the fastest counts")
    parser.add_argument(
        "--picture", nargs=2, type=Path, metavar=("DIR", "PNG"), help="write a picture, measure nothing"
    )
    options = parser.parse_args()
    if lacking := browsers.missing():
        raise SystemExit(f"There is no {lacking}.")
    if options.picture:
        return picture(*options.picture)
    texts = list(read(source_file()).texts)
    with tempfile.TemporaryDirectory() as scratch:
        for examples, runs, most_mb, most_seconds in CASES:
            of = made_up(examples, runs, texts[:examples])
            folder = Path(scratch) / str(examples)
            begun = time.perf_counter()
            browse.write(folder, "made up", of, groups(pairs(of)), [])
            written = time.perf_counter() - begun
            found = []
            for _ in range(options.rounds):
                with browsers.started() as browser:
                    found.append(measure(browser, folder / browse.PAGE))
            opened, slowest, drawn, held = (min(column) for column in zip(*found, strict=True))
            size = (folder / browse.PAGE).stat().st_size / 1e6
            beside = folder / browse.TEXTS
            print(
                f"{examples:,} examples x {runs} runs, written in {written:.1f} s: {size:.1f} MB (at most {most_mb:g})"
                f", beside it {beside.stat().st_size / 1e6 if beside.exists() else 0:.1f} MB; usable after "
                f"{opened:.2f} s (at most {most_seconds:g}); slowest filter {slowest:.0f} ms (at most {FILTER_MS}), "
                f"with the scatter {drawn:.0f} ms; "
                f"the tab holds {held:.0f} MB (at most {MEMORY_MB})"
            )


if __name__ == "__main__":
    main()
