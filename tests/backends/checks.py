"""What is asked of a real framework, in a process of its own.

``python -m tests.backends.checks BACKEND WHAT FILE [SEED]`` writes one npz file with what came out, which
`test_frameworks` judges. Two frameworks never share a process, and none is ever imported by pytest's.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rnn_crosscheck.harness.backend import Backend, Model
from rnn_crosscheck.harness.batches import Batches, epoch_order
from rnn_crosscheck.harness.errors import CrosscheckError
from rnn_crosscheck.harness.protocol import Cell, Division, ModelSpec, TrainingSpec, switched
from rnn_crosscheck.harness.registry import find
from rnn_crosscheck.harness.weights import initial_weights

CELLS: tuple[Cell, ...] = ("rnn", "lstm")
DIVISIONS: tuple[Division, ...] = ("native", "matched")
VOCABULARY, LENGTH, UNITS, BATCH = 200, 12, 5, 16
#: three whole batches and one of seven
EXAMPLES = 3 * BATCH + 7
#: not the default epsilon and rate, so that a backend that ignores them is caught
TRAINING = TrainingSpec(batch_size=BATCH, learning_rate=2e-3, beta_1=0.8, beta_2=0.99, epsilon=1e-5)
FRAMEWORKS = ("tensorflow", "keras", "torch", "jax")

Arrays = dict[str, Any]


def small(cell: Cell) -> ModelSpec:
    activation = "relu" if cell == "rnn" else "tanh"
    return ModelSpec(
        name=cell, cell=cell, units=UNITS, activation=activation, embedding=8, vocabulary=VOCABULARY, length=LENGTH
    )


def imdb(cell: Cell) -> ModelSpec:
    units, activation = (16, "relu") if cell == "rnn" else (100, "tanh")
    return ModelSpec(name=cell, cell=cell, units=units, activation=activation, vocabulary=5000, length=500)


class Examples:
    """Random reviews in which a few tokens are frequent, as the pad token is in real ones."""

    def __init__(self, n: int = EXAMPLES, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.tokens = np.minimum(rng.zipf(1.4, (n, LENGTH)) - 1, VOCABULARY - 1).astype(np.int32)
        self.tokens[:, :3] = 0
        self.labels = (rng.random(n) < 0.5).astype(np.int8)

    def padded(self, rows: NDArray[np.int64], length: int, vocabulary: int) -> NDArray[np.int32]:
        return self.tokens[rows]

    def batch(self, start: int, size: int = BATCH) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Read-only, so that a backend that writes to its input fails."""
        tokens, labels = self.tokens[start : start + size].copy(), self.labels[start : start + size].astype(np.float32)
        tokens.flags.writeable = labels.flags.writeable = False
        return tokens, labels


def epoch(examples: Examples, number: int, done: list[int], *, shuffle: bool) -> Batches:
    n = len(examples.labels)
    return Batches(
        examples,
        np.arange(n),
        order=epoch_order(0, number, n) if shuffle else None,
        batch_size=BATCH,
        length=LENGTH,
        vocabulary=VOCABULARY,
        on_batch=done.append,
    )


def create(backend: Backend, division: Division, spec: ModelSpec, seed: int = 0) -> Model:
    weights = initial_weights(spec, seed) if division == "matched" else None
    return backend.create(spec, TRAINING, weights=weights, seed=seed, device="cpu")


def put(found: Arrays, prefix: str, weights: Mapping[str, Any]) -> None:
    found.update({f"{prefix}/{name}": np.array(values) for name, values in weights.items()})


def contract(backend: Backend) -> Arrays:
    """What holds in both divisions."""
    found: Arrays = {"devices": list(backend.devices()), "before": backend.environment()}
    examples = Examples()
    for division in DIVISIONS:
        for cell in CELLS:
            key = f"{division}/{cell}"
            model = create(backend, division, small(cell))
            put(found, f"{key}/initial", model.get_weights())

            given = initial_weights(small(cell), 5)
            model.set_weights(given)
            put(found, f"{key}/given", given)
            put(found, f"{key}/returned", model.get_weights())

            # Predictions: one by one, together, in more than one chunk; none.
            tokens = np.resize(examples.tokens, (600, LENGTH))
            together = model.predict(tokens)
            found[f"{key}/together"] = together
            found[f"{key}/single"] = np.array([model.predict(tokens[i : i + 1]) for i in range(20)])
            found[f"{key}/some"] = model.predict(tokens[:33])
            found[f"{key}/none"] = model.predict(tokens[:0])
            model.gradients(*examples.batch(0))
            put(found, f"{key}/unmoved", model.get_weights())

            # A step's loss is this batch's before the update, whatever came before.
            losses, expected = [], []
            for start in (0, BATCH, 3 * BATCH, 0):
                batch_tokens, labels = examples.batch(start)
                p = model.predict(batch_tokens).astype(np.float64)
                expected.append(-np.where(labels == 1, np.log(p), np.log1p(-p)).mean())
                losses.append(model.train_step(batch_tokens, labels))
            done: list[int] = []
            stats = model.fit_epoch(epoch(examples, 1, done, shuffle=division == "matched"))
            batch_tokens, labels = examples.batch(5)
            p = model.predict(batch_tokens).astype(np.float64)
            expected.append(-np.where(labels == 1, np.log(p), np.log1p(-p)).mean())
            losses.append(model.train_step(batch_tokens, labels))
            found[f"{key}/losses"], found[f"{key}/expected_losses"] = losses, expected
            found[f"{key}/float"] = type(losses[0]).__name__
            found[f"{key}/done"] = done
            found[f"{key}/stats"] = [stats.loss, stats.accuracy]

            full = create(backend, division, imdb(cell))
            found[f"{key}/layers"] = [
                (layer.name, layer.output_shape, layer.parameters, layer.trainable) for layer in full.layers()
            ]
            if division == "native":
                put(found, f"{key}/full", full.get_weights())
            found[f"{key}/errors"] = refusals(model)
    try:
        backend.create(small("rnn"), TRAINING, weights=None, seed=0, device="tpu")
    except CrosscheckError as error:
        found["device_error"] = str(error)
    found["environment"], found["full"] = backend.environment(), in_full()
    found["orders/first"], found["orders/second"] = orders(backend), orders(backend)
    return found


def precision(backend: Backend) -> dict[str, Any]:
    """Say what `in_full` does once a matched model was created."""
    create(backend, "matched", small("lstm"))
    return {"full": in_full()}


def in_full() -> dict[str, bool]:
    """Whether products have all bits of float32 on a GPU as well, for every framework that is imported."""
    found = {}
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        found["tensorflow"] = not tf.config.experimental.tensor_float_32_execution_enabled()
    if "torch" in sys.modules:
        import torch

        found["torch"] = not (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)
    if "jax" in sys.modules:
        import jax

        found["jax"] = jax.config.jax_default_matmul_precision == "highest"
    return found


def feed(backend: Backend) -> dict[str, Any]:
    """Whether the dataset that a native Keras model on TensorFlow hands to `fit` tunes itself."""
    model: Any = create(backend, "native", small("rnn"))
    fit, fed = model._net.fit, []

    def watched(*, x: Any, **options: Any) -> Any:
        fed.append(x)
        return fit(x=x, **options)

    model._net.fit = watched
    model.fit_epoch(epoch(Examples(), 1, [], shuffle=False))
    (dataset,) = fed
    return {"tunes itself": bool(dataset.options().autotune.enabled)}


def kernels(backend: Backend) -> dict[str, bool]:
    """Whether PyTorch runs oneDNN's LSTM, seen by its profiler."""
    import torch

    found = {}
    for cell in CELLS:
        model = create(backend, "native", small(cell))
        with torch.profiler.profile() as profile:
            model.train_step(*Examples().batch(0))
        found[cell] = any("mkldnn_rnn_layer" in event.key for event in profile.key_averages())
    return found


def refusals(model: Model) -> list[str]:
    tokens, labels = Examples().batch(0)
    wrong: tuple[tuple[Any, ...], ...] = (
        (model.train_step, tokens.astype(np.int64), labels),
        (model.train_step, tokens[:, 1:], labels),
        (model.train_step, tokens, labels[1:]),
        (model.train_step, tokens, labels.astype(np.int8)),
        (model.train_step, tokens[:0], labels[:0]),
        (model.gradients, tokens, labels[:, None]),
        (model.predict, tokens[0]),
        (model.predict, tokens.tolist()),
        (model.set_weights, {}),
    )
    found = []
    for method, *arguments in wrong:
        try:
            method(*arguments)
        except CrosscheckError as error:
            found.append(str(error))
        else:
            found.append("accepted")
    return found


def matched(backend: Backend) -> Arrays:
    """The same weights and batches for every backend: gradients, one step, twenty steps, an epoch."""
    found: Arrays = {}
    for cell in CELLS:
        examples = Examples(n=20 * BATCH - 9)  # the twentieth batch is smaller
        model = create(backend, "matched", small(cell))
        put(found, f"{cell}/0", model.get_weights())
        losses = []
        for step in range(20):
            tokens, labels = examples.batch(step * BATCH)
            put(found, f"{cell}/gradients{step}", model.gradients(tokens, labels))
            losses.append(model.train_step(tokens, labels))
            put(found, f"{cell}/{step + 1}", model.get_weights())
        found[f"{cell}/losses"] = losses
        found[f"{cell}/predicted"] = model.predict(examples.tokens)

        again = create(backend, "matched", small(cell))
        stats = again.fit_epoch(epoch(examples, 1, [], shuffle=False))
        put(found, f"{cell}/epoch", again.get_weights())
        found[f"{cell}/stats"] = [stats.loss, stats.accuracy]
        found[f"{cell}/weighted"] = np.average(losses, weights=[BATCH] * 19 + [BATCH - 9])
    return found


#: what is switched -> values of the training spec; each is held against the reference
SWITCHED: Mapping[str, Mapping[str, Any]] = {
    "nothing": {},
    "clipped": {"clipnorm": 0.05},
    "epsilon after": {"factors.epsilon_place": "after"},
    "duplicates apart": {"factors.duplicates": "apart"},
    "duplicates apart, clipped": {"factors.duplicates": "apart", "clipnorm": 0.05},
    "two biases": {"factors.biases": "two"},
    "two biases, clipped": {"factors.biases": "two", "clipnorm": 0.05},
    "probabilities": {"factors.loss_form": "probabilities"},
    "pad row frozen": {"factors.pad_row": "frozen"},
}


def factors(backend: Backend) -> Arrays:
    """Three steps with each factor switched; states, logits and what an observed step tells."""
    found: Arrays = {}
    for cell in CELLS:
        examples = Examples()
        for what, values in SWITCHED.items():
            training = switched(TRAINING, values)
            weights = initial_weights(small(cell), 0, training.factors)
            if what == "probabilities":  # so sure that clipping has something to clip
                weights["dense_bias"] += 20
            model = backend.create(small(cell), training, weights=weights, seed=0, device="cpu")
            key = f"{cell}/{what}"
            shown = model.forward(examples.tokens)
            found[f"{key}/states"], found[f"{key}/logits"] = shown.states, shown.logits
            steps = [model.observed_step(*examples.batch(start)) for start in (0, BATCH)]
            model.train_step(*examples.batch(2 * BATCH))
            found[f"{key}/steps"] = [(step.loss, step.gradient_norm, step.right) for step in steps]
            put(found, f"{key}/3", model.get_weights())
    native = backend.create(
        small("lstm"), TRAINING.model_copy(update={"clipnorm": 1e-6}), weights=None, seed=0, device="cpu"
    )
    put(found, "native/before", native.get_weights())
    native.train_step(*Examples().batch(0))
    put(found, "native/after", native.get_weights())
    return found


def repeat(backend: Backend, seed: int) -> Arrays:
    """Train two epochs in both divisions: what must be the same bits in two processes with one seed."""
    found: Arrays = {}
    for division in DIVISIONS:
        for cell in CELLS:
            examples = Examples()
            model = create(backend, division, small(cell), seed)
            for number in (1, 2):
                model.fit_epoch(epoch(examples, number, [], shuffle=division == "matched"))
                found[f"{division}/{cell}/{number}"] = model.predict(examples.tokens)
    # Pieces as large as real ones, which malloc treats otherwise than small ones.
    tokens = np.random.default_rng(0).integers(0, 5000, (32, 500)).astype(np.int32)
    for cell in CELLS:
        model = create(backend, "native", imdb(cell), seed)
        for _ in range(3):
            model.train_step(tokens, (np.arange(32) % 2).astype(np.float32))
        found[f"large/{cell}"] = model.predict(tokens)
    return found


def orders(backend: Backend) -> NDArray[np.int64]:
    """Order in which a native model sees its examples in three epochs, (epoch, example)."""
    examples = Examples()
    examples.tokens[:, 0] = np.arange(EXAMPLES)  # tells which example it is
    model: Any = create(backend, "native", small("rnn"))
    seen: list[int] = []
    if hasattr(model, "_net"):  # Keras
        model._net.run_eagerly = True
        owner, method, tokens_of = model._net, "train_step", lambda data: data[0]
    else:
        owner, method, tokens_of = model, "update", lambda tokens, labels: tokens
    original = getattr(owner, method)

    def watched(*data: Any) -> Any:
        seen.extend(int(token) for token in np.asarray(tokens_of(*data))[:, 0])
        return original(*data)

    setattr(owner, method, watched)
    for number in (1, 2, 3):
        model.fit_epoch(epoch(examples, number, [], shuffle=False))
    return np.array(seen).reshape(3, EXAMPLES)


def main() -> None:
    name, what, path, *rest = sys.argv[1:]
    backend = find(name).load()()
    imported_by_listing = [framework for framework in FRAMEWORKS if framework in sys.modules]
    seed = int(rest[0]) if rest else 0
    backend.setup(threads=1, seed=seed, setting="default", deterministic=True)
    questions: Mapping[str, Callable[[Backend], Arrays]] = {
        "contract": contract,
        "matched": matched,
        "factors": factors,
        "repeat": lambda backend: repeat(backend, seed),
        "kernels": kernels,
        "feed": feed,
        "precision": precision,
    }
    found = questions[what](backend)
    found["imported_by_listing"] = imported_by_listing
    found["imported"] = [framework for framework in FRAMEWORKS if framework in sys.modules]
    plain = {key: value for key, value in found.items() if not isinstance(value, np.ndarray)}
    arrays = {key: value for key, value in found.items() if isinstance(value, np.ndarray)}
    np.savez(path, json=np.array(json.dumps(plain)), **arrays)


if __name__ == "__main__":
    main()
