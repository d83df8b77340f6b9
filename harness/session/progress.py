"""What a person sees while runs are under way: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import queue
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from statistics import fmean
from typing import Any
from typing import Protocol as Interface

import pytest

from rnn_crosscheck.harness.execution.executor import Planned, Progress

#: events that are said once, with a name and a reason
_SAID = {"anew": "{} is made anew: {}", "unfit": "{} gets no {}"}


class Writer(Interface):
    """What is needed of pytest's terminal writer."""

    def line(self, s: str = "") -> None:
        """Write a whole line."""
        ...


class Display(Interface):
    """Shows progress; told of every event, and when somebody begins and ends waiting."""

    def begin(self) -> None:
        """Somebody waits now: the terminal is ours."""
        ...

    def show(self, progress: Progress) -> None:
        """Take one event."""
        ...

    def message(self, text: str) -> None:
        """Say something once."""
        ...

    def end(self) -> None:
        """Nobody waits any more: leave the terminal as it was."""
        ...


def describe_end(progress: Progress, seconds: float) -> str:
    """One sentence for a run that ended."""
    content = progress.content
    if content.get("stored"):
        return f"{progress.run_id}: already on disk"
    if content["status"] != "ok":
        return f"{progress.run_id}: {content['status']}: {content['reason']}"
    accuracy = "" if content["accuracy"] is None else f"test accuracy {content['accuracy']:.1%}, "
    return f"{progress.run_id}: {accuracy}{seconds:.0f} s"


class Nodes:
    """Which nodes of a cluster have runs, and how long all of them still take; says nothing of one machine alone."""

    def __init__(self) -> None:
        #: run or check under way -> its node, and since when
        self._under_way: dict[str, tuple[str, float]] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def take(self, progress: Progress) -> None:
        """Take one event."""
        if progress.event == "start" and "node" in progress.content:
            self._under_way[progress.run_id] = progress.content["node"], progress.at
        elif progress.event == "end" and progress.run_id in self._under_way:
            node, since = self._under_way.pop(progress.run_id)
            self._seconds[node].append(progress.at - since)

    def describe(self, left: int) -> str:
        """Say how many runs each node has, and how long it takes for `left` of them, by what each node has shown."""
        busy = Counter(node for node, _ in self._under_way.values())
        shown = ", ".join(f"{count} on {node}" for node, count in sorted(busy.items()))
        rate = sum(count / fmean(self._seconds[node]) for node, count in busy.items() if self._seconds[node])
        return f" ({shown}{f'; about {left / rate / 60:.0f} min left' if rate else ''})" if shown else ""


class PlainDisplay:
    """One line when a run starts, after each epoch, and when it ends."""

    def __init__(self, write: Writer, runs: Mapping[str, Planned]) -> None:
        self._write = write
        self._runs = runs
        self._since: dict[str, float] = {}
        self._nodes = Nodes()
        self._ended = 0
        self._fresh = True

    def begin(self) -> None:
        """Start on a line of our own, after pytest's dots."""
        self._fresh = False

    def show(self, progress: Progress) -> None:
        """Write a line if the event is worth one."""
        now = progress.at
        self._nodes.take(progress)
        if progress.event == "start":
            self._since[progress.run_id] = now
            node = f" on {progress.content['node']}" if "node" in progress.content else ""
            self.message(f"{progress.run_id}: started{node}")
        elif progress.event == "epoch":
            self.message(
                f"{progress.run_id}: {_epoch_line(progress, self._runs[progress.run_id], self._left(progress))}"
            )
        elif progress.event == "end":
            self._ended += 1
            line = describe_end(progress, now - self._since.get(progress.run_id, now))
            there = self._nodes.describe(len(self._runs) - self._ended)
            self.message(f"[{self._ended}/{len(self._runs)}] {line}{there}")

    def message(self, text: str) -> None:
        """Write one line."""
        if not self._fresh:
            self._write.line()
            self._fresh = True
        self._write.line(text)

    def end(self) -> None:
        """Nothing to undo."""

    def _left(self, progress: Progress) -> float:
        """Seconds that the run still needs, if its next epochs take as long as those so far."""
        epochs = self._runs[progress.run_id].spec.training.epochs
        passed = progress.at - self._since.get(progress.run_id, progress.at)
        done = int(progress.content["epoch"])
        return passed / done * (epochs - done)


def _epoch_line(progress: Progress, run: Planned, left: float) -> str:
    content = progress.content
    rest = f", about {left:.0f} s left" if left >= 1 else ""
    return (
        f"epoch {content['epoch']}/{run.spec.training.epochs}: loss {content['train_loss']:.4f}, "
        f"validation accuracy {content['valid_accuracy']:.1%}, {content['seconds']:.1f} s{rest}"
    )


class RichDisplay:
    """A bar for the comparison and one for each run under way: epoch, batch, loss, time left.

    Parameters
    ----------
    write
        Writes text, escape sequences included, to the real terminal.
    width
        Columns of the terminal.
    runs
        Planned runs and checks by name; more of them may come in.
    """

    def __init__(self, write: Callable[[str], None], width: int, runs: Mapping[str, Planned]) -> None:
        from rich import progress, table
        from rich.console import Console

        self._runs = runs
        self._nodes = Nodes()
        self._since: dict[str, float] = {}
        self._tasks: dict[str, Any] = {}
        self._columns = (
            progress.TextColumn("{task.description}", table_column=table.Column(no_wrap=True)),
            progress.BarColumn(bar_width=16),
            progress.TextColumn("{task.fields[detail]}"),
            progress.TimeRemainingColumn(),
        )
        self._bars = progress.Progress(
            *self._columns,
            console=Console(file=_File(write), force_terminal=True, width=width),  # type: ignore[arg-type]
            transient=True,
        )
        self._all = self._bars.add_task("comparison", total=len(runs), detail="")

    def begin(self) -> None:
        """Draw the bars."""
        self._bars.start()

    def show(self, progress: Progress) -> None:
        """Move the bars."""
        run_id, content = progress.run_id, progress.content
        self._nodes.take(progress)
        left = int(len(self._runs) - self._bars.tasks[0].completed)
        self._bars.update(self._all, total=len(self._runs), detail=self._nodes.describe(left).strip())
        epochs = self._runs[run_id].spec.training.epochs
        if progress.event == "start":
            self._since[run_id] = progress.at
            if run_id in self._tasks:  # its node has gone, and it begins anew elsewhere
                self._bars.remove_task(self._tasks.pop(run_id))
            self._tasks[run_id] = self._bars.add_task(run_id, total=epochs, detail="starting")
        elif progress.event == "progress" and run_id in self._tasks:
            detail = content["stage"]
            if detail == "train":
                part = content["batch"] / content["batches"]
                detail = f"epoch {content['epoch']}/{epochs} {content['batch']}/{content['batches']}"
                self._bars.update(self._tasks[run_id], completed=content["epoch"] - 1 + part)
            previous = self._bars.tasks[self._bars.task_ids.index(self._tasks[run_id])].fields.get("loss", "")
            self._bars.update(self._tasks[run_id], detail=f"{detail}{previous}")
        elif progress.event == "epoch" and run_id in self._tasks:
            loss = f", loss {content['train_loss']:.3f}, valid {content['valid_accuracy']:.1%}"
            self._bars.update(self._tasks[run_id], completed=content["epoch"], loss=loss)
        elif progress.event == "end":
            if run_id in self._tasks:
                self._bars.remove_task(self._tasks.pop(run_id))
            self._bars.advance(self._all)
            seconds = progress.at - self._since.get(run_id, progress.at)
            self._bars.console.print(describe_end(progress, seconds), highlight=False, markup=False)

    def message(self, text: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(text, highlight=False, markup=False)

    def end(self) -> None:
        """Wipe the bars."""
        self._bars.stop()


class Screen:
    """The terminal of a session: shows what happens while somebody waits, and is pytest's again in between."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        #: what the display knows of, by name; what is planned later comes in later
        self._names: dict[str, Planned] = {}
        self._display: Display | None = None

    def expect(self, planned: Mapping[str, Planned]) -> None:
        """Count these in."""
        self._names |= planned

    def watch(
        self, happening: queue.Queue[Progress], futures: Sequence[Future[Any]], *, meanwhile: Callable[[], str]
    ) -> None:
        """Show what happens until all of `futures` are done, and now and then what is done `meanwhile`."""
        with self.shown() as display:
            while True:
                # Not `wait`: interrupted inside, it would leave the futures locked, and shutting down would hang.
                done = all(future.done() for future in futures)
                if said := meanwhile():
                    display.message(said)
                try:
                    while True:
                        progress = happening.get(timeout=0 if done else 0.2)
                        if progress.event in _SAID:
                            display.message(_SAID[progress.event].format(progress.run_id, progress.content["reason"]))
                        else:
                            display.show(progress)
                except queue.Empty:
                    if done:
                        return

    @contextmanager
    def shown(self) -> Iterator[Display]:
        """Have the terminal to ourselves for a while."""
        if self._display is None:
            self._display = self._new_display()
        capture = self._config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            self._display.begin()
            try:
                yield self._display
            finally:
                self._display.end()

    def _new_display(self) -> Display:
        writer = self._config.get_terminal_writer()
        if writer.hasmarkup:
            return RichDisplay(lambda text: writer.write(text, flush=True), writer.fullwidth, self._names)
        return PlainDisplay(writer, self._names)


class _File:
    """A text file over a function that writes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def write(self, text: str) -> int:
        self._write(text)
        return len(text)

    def flush(self) -> None:
        """Every write is flushed."""

    def isatty(self) -> bool:
        return True
