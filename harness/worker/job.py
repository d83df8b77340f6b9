"""A job of a worker, and what the modes do alike: open its data, set up its backend, create models and predict."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.backend import Backend, Model
from rnn_crosscheck.harness.datasets.dataset import Dataset
from rnn_crosscheck.harness.datasets.selection import Block, Selection, apply
from rnn_crosscheck.harness.errors import ContractError, DataError
from rnn_crosscheck.harness.parity.trace import starting_weights
from rnn_crosscheck.harness.protocol import DataSpec, RunSpec, Setting
from rnn_crosscheck.harness.weights import Weights, initial_weights

#: examples that are padded and predicted at once
CHUNK = 2048

#: what the backend of this process was set up for: threads, seed, setting
_SET_UP: set[tuple[int, int, Setting]] = set()


@dataclass(frozen=True)
class Job:
    """One task of a request, and what it is answered with."""

    request: Mapping[str, Any]  # what the parent asks for, as plain values
    backend: Backend
    emit: Callable[..., None]  # tells the parent of an event: its name, and its content by keyword
    started: float  # when the process began, by `time.perf_counter`

    @property
    def folder(self) -> Path:
        """Folder laid out like a comparison's."""
        return Path(self.request["folder"])

    @property
    def place(self) -> Path:
        """Where what comes of the task belongs: the folder of a run, or the record of a check."""
        return self.folder / str(self.request["path"])

    def tell(self, stage: str) -> None:
        """Say what is being done: the sign of life."""
        self.emit("progress", stage=stage)

    def open(self) -> tuple[RunSpec, Dataset, Selection]:
        """Read what the request is about, and open its data."""
        spec = RunSpec.model_validate_json(json.dumps(self.request["spec"]))
        dataset = Dataset.open(Path(self.request["dataset"]))
        if dataset.fingerprint != spec.dataset_fingerprint:
            raise DataError(
                f"{spec.run_id} asks for the dataset with fingerprint {spec.dataset_fingerprint}, "
                f"but {self.request['dataset']} holds {dataset.fingerprint}."
            )
        return spec, dataset, apply(dataset, spec.data)

    def setup(self, spec: RunSpec) -> None:
        """Prepare the backend for a run: deterministic, but for tuned settings, which have no other kernels."""
        asked = (spec.threads, spec.seed, spec.setting)
        if asked not in _SET_UP:  # once a process, however many tasks there are
            _SET_UP.add(asked)
            threads, seed, setting = asked
            self.backend.setup(threads=threads, seed=seed, setting=setting, deterministic=setting == "default")

    def create(self, spec: RunSpec, weights: Weights | None = None) -> Model:
        """Create a run's model with given weights; without, with canonical ones if matched, its own if native."""
        if weights is None and spec.division == "matched":
            weights = starting_weights(spec, initial_weights(spec.model, spec.seed, spec.training.factors))
        model = self.backend.create(spec.model, spec.training, weights=weights, seed=spec.seed, device=spec.device)
        if not isinstance(model, Model):
            raise ContractError(
                f"Backend {self.backend.name!r}: create must return a rnn_crosscheck.harness.backend.Model, got "
                f"{type(model).__name__}."
            )
        return model

    def predict(self, model: Model, block: Block, data: DataSpec) -> NDArray[np.float32]:
        """Probabilities of a whole block, (n,), padded and predicted a chunk at a time; see `predict_chunks`."""
        starts = range(0, len(block.rows), CHUNK)
        chunks = (block.split.padded(block.rows[at : at + CHUNK], data.length, data.vocabulary) for at in starts)
        return self.predict_chunks(model, chunks)

    def predict_chunks(self, model: Model, chunks: Iterable[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Probabilities (n,) for tokens that come as chunks (m, length); raises `ContractError` when they are none."""
        parts = []
        where = f"Backend {self.backend.name!r}: predict"
        for tokens in chunks:
            values = model.predict(tokens)
            if not isinstance(values, np.ndarray) or values.shape != (len(tokens),) or values.dtype != np.float32:
                got = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
                raise ContractError(f"{where} must return float32 ({len(tokens)},), got {got}.")
            if not (np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()):
                raise ContractError(
                    f"{where} must return probabilities in [0, 1], got values from {values.min()} to {values.max()}."
                )
            parts.append(values)
            self.tell("predict")
        return np.concatenate(parts) if parts else np.empty(0, np.float32)
