"""The timed cells of a comparison: measured all at once, kept on disk, looked up by the tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from rnn_crosscheck.harness.errors import ResultsError
from rnn_crosscheck.harness.execution.chosen import BackendInfo
from rnn_crosscheck.harness.execution.plan import Asked
from rnn_crosscheck.harness.folder import write_json
from rnn_crosscheck.harness.protocol import Setting
from rnn_crosscheck.harness.results import TimingRecord, TimingResults, read_record
from rnn_crosscheck.harness.timing.ratios import Ratio, against_baseline
from rnn_crosscheck.harness.timing.stopwatch import (
    Point,
    Stopwatch,
    can_be_timed,
    merged,
    timing_key,
    timing_spec,
    why_not,
)


@dataclass(frozen=True)
class Timed:
    """One cell of the timing table: what is measured, in one setting of one backend."""

    backend: str
    setting: Setting
    point: Point

    @property
    def name(self) -> str:
        """As in node ids: ``pytorch-lstm-train_step``, ``pytorch-tuned-lstm-train_step``."""
        setting = "" if self.setting == "default" else f"-{self.setting}"
        return f"{self.backend.replace(':', '.')}{setting}-{self.point.name}"


def timed_backends(backends: Sequence[BackendInfo]) -> list[BackendInfo]:
    """Choose the backends that can be timed, the baseline first, which trains if one of them does."""
    timed = [info for info in backends if not info.missing and can_be_timed(info, "predict_batch")]
    return sorted(timed, key=lambda info: not info.trains)


def timing_keys(asked: Asked) -> dict[str, str]:
    """Name what a timing must have been taken of to belong to a comparison: backend/model -> key."""
    timed = timed_backends(asked.backends)
    return {
        f"{info.name}/{model}": timing_key(timing_spec(asked, info, model), info, timed[0].name)
        for info, model in product(timed, asked.models)
    }


class Timings:
    """What was measured in a session.

    Parameters
    ----------
    asked
        What is compared.
    cells
        What is to be measured: each operation in all backends and settings, whichever were selected.
    dataset
        Folder of the encoded dataset.
    folder
        Of the comparison.
    """

    def __init__(self, asked: Asked, cells: Sequence[Timed], dataset: Path, folder: Path) -> None:
        self._asked = asked
        self._points = tuple(dict.fromkeys(cell.point for cell in cells))
        self._dataset = dataset
        self._folder = folder
        self._found: dict[Point, tuple[TimingRecord, ...]] = {}
        self._failures: dict[str, str] = {}
        self._stopwatch: Stopwatch | None = None

    def has(self, point: Point) -> bool:
        """Whether a point was measured."""
        return point in self._found

    def of(self, cell: Timed) -> tuple[TimingRecord, Ratio | None] | str:
        """Give the rounds of a measured cell and its ratio to the baseline, or say why there are none.

        The baseline's count for nothing without the noise that its second worker tells of.
        """
        records = [record for found in self._found.values() for record in found]
        for record in self._found[cell.point]:
            if (record.backend, record.setting) == (cell.backend, cell.setting):
                if record.baseline and not record.again_ns:
                    why = why_not(self._failures, cell.backend, cell.setting, cell.point.model, again=True)
                    return f"The second worker, which tells the noise of the machine: {why}"
                return record, against_baseline(records, record)
        return why_not(self._failures, cell.backend, cell.setting, cell.point.model)

    def measure(self, tell: Callable[[str], None]) -> None:
        """Measure all points, and write what was found into ``timings.json``."""
        timed = replace(self._asked, backends=tuple(timed_backends(self._asked.backends)))
        self._stopwatch = Stopwatch(timed, dataset=self._dataset, logs=self._folder / "logs")
        self._found |= self._stopwatch.measure(self._points, tell, self._keep)
        self._failures |= self._stopwatch.failures

    def _keep(self, found: Mapping[Point, tuple[TimingRecord, ...]]) -> None:
        """Write what was found so far: an interruption costs the start that it falls into."""
        path = self._folder / "timings.json"
        failures = self._failures | (self._stopwatch.failures if self._stopwatch else {})
        kept = self._earlier(path)
        for point, records in found.items():
            kept = merged(kept, point, records, failures)
        write_json(path, kept)

    def _earlier(self, path: Path) -> TimingResults:
        """Read the timings on disk that belong to this comparison."""
        try:
            earlier = read_record(path, TimingResults)
        except ResultsError:
            return TimingResults()
        valid = set(timing_keys(self._asked).values())
        return TimingResults(records=tuple(record for record in earlier.records if record.key in valid))

    def close(self) -> None:
        """Stop the workers, if any is measured."""
        if self._stopwatch is not None:
            self._stopwatch.close()
