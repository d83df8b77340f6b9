"""What a person sees while runs are under way: bars in a terminal, plain lines elsewhere."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from typing import Any
from typing import Protocol as Interface

import pytest

from rnn_crosscheck.harness.execution.executor import Progress
from rnn_crosscheck.harness.execution.plan import PlannedCheck, PlannedRun

#: whatever is waited for; each has a spec
Planned = PlannedRun | PlannedCheck


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
    result = content.get("result")
    if content.get("stored"):
        return f"{progress.run_id}: already on disk"
    if content["status"] != "ok":
        reason = result.failure.reason if result is not None and result.failure else content.get("reason", "")
        return f"{progress.run_id}: {content['status']}: {reason}"
    accuracy = f"test accuracy {result.scores.accuracy:.1%}, " if result is not None and result.scores else ""
    return f"{progress.run_id}: {accuracy}{seconds:.0f} s"


class PlainDisplay:
    """One line when a run starts, after each epoch, and when it ends."""

    def __init__(self, write: Writer, runs: Mapping[str, Planned]) -> None:
        self._write = write
        self._runs = runs
        self._since: dict[str, float] = {}
        self._ended = 0
        self._fresh = True

    def begin(self) -> None:
        """Start on a line of our own, after pytest's dots."""
        self._fresh = False

    def show(self, progress: Progress) -> None:
        """Write a line if the event is worth one."""
        now = progress.at
        if progress.event == "start":
            self._since[progress.run_id] = now
            self.message(f"{progress.run_id}: started")
        elif progress.event == "epoch":
            self.message(
                f"{progress.run_id}: {_epoch_line(progress, self._runs[progress.run_id], self._left(progress))}"
            )
        elif progress.event == "end":
            self._ended += 1
            line = describe_end(progress, now - self._since.get(progress.run_id, now))
            self.message(f"[{self._ended}/{len(self._runs)}] {line}")

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
        self._bars.update(self._all, total=len(self._runs))
        epochs = self._runs[run_id].spec.training.epochs
        if progress.event == "start":
            self._since[run_id] = progress.at
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
                        if progress.event == "anew":
                            display.message(f"{progress.run_id} is made anew: {progress.content['reason']}")
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
