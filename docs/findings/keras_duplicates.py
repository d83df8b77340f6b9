"""Show what Keras' optimizers do with a token that stands several times in one batch.

The gradient of an embedding's row is the sum of the gradients of all the places where its token stands. On
TensorFlow, Keras keeps these parts apart (``tf.IndexedSlices``), and an optimizer that squares the gradient squares
the parts. The script compares Keras as it is with Keras whose gradients are summed before the optimizer sees them
("dense"), and both with NumPy, on the backend that ``KERAS_BACKEND`` names (TensorFlow by default).
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import optimizers

Batch = tuple[np.ndarray, np.ndarray]

RATE = 0.1
TOKENS, WIDTH = 6, 3

#: tokens of three batches of one row each, and the gradient at each place, width 1
TOY: list[Batch] = [
    (np.array([[0, 0, 0, 0, 0, 1, 1, 2]]), np.array([[1, 1, 1, 1, 1, 1, -0.9, 0.5]])),
    (np.array([[0, 0, 0, 0, 3, 2, 2, 2]]), np.array([[1, 1, 1, -0.5, 0.4, 0.5, 0.5, 0.5]])),
    (np.array([[0, 0, 0, 0, 0, 0, 2, 3]]), np.array([[1, 0.5, 1, 1, 1, 1, 0.5, -0.2]])),
]


def numpy_adam(batches: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Second moment and change of the weights by Adam's formula, each (TOKENS,)."""
    weights, m, v = np.zeros(TOKENS), np.zeros(TOKENS), np.zeros(TOKENS)
    for step, (tokens, parts) in enumerate(batches, 1):
        gradient = np.zeros(TOKENS)
        np.add.at(gradient, tokens, parts)
        m += (1 - 0.9) * (gradient - m)
        v += (1 - 0.999) * (gradient**2 - v)
        weights -= RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-7)
    return v, weights


def dense(optimizer: type) -> type:
    """Subclass of an optimizer that sums the parts of each gradient first."""

    class Dense(optimizer):
        def apply(self, grads: list[Any], trainable_variables: list[Any] | None = None) -> None:
            if keras.backend.backend() == "tensorflow":
                import tensorflow as tf

                grads = [tf.convert_to_tensor(gradient) for gradient in grads]
            super().apply(grads, trainable_variables)

    return Dense


def train(optimizer: optimizers.Optimizer, batches: list[Batch], width: int = WIDTH, **options: bool) -> np.ndarray:
    """Change of the embedding since the start, after each batch, (batches, TOKENS, width).

    The loss is the sum of the outputs, each times its target: so the targets are the gradients of the parts.
    """
    model = keras.Sequential(
        [keras.Input((None,), dtype="int32"), keras.layers.Embedding(TOKENS, width, embeddings_initializer="ones")]
    )
    model.compile(optimizer, loss=lambda targets, outputs: keras.ops.sum(targets * outputs), **options)
    start, found = model.get_weights()[0], []
    for tokens, parts in batches:
        model.train_on_batch(tokens.astype("int32"), parts.reshape(*tokens.shape, width).astype("float32"))
        found.append(model.get_weights()[0] - start)
    return np.array(found)


def second_moment(optimizer: optimizers.Optimizer) -> np.ndarray:
    """Adam's second moment of the only variable, (TOKENS, width)."""
    return next(np.asarray(v.numpy()) for v in optimizer.variables if "velocity" in v.path)


def show_adam(updates: int) -> None:
    """Print second moments and movements after some updates in a compiled graph, and whether they equal NumPy's."""
    batches = TOY[:updates]
    expected = numpy_adam(batches)
    found = {}
    for name, optimizer in (("as it is", optimizers.Adam(RATE)), ("dense", dense(optimizers.Adam)(RATE))):
        moved = train(optimizer, batches, width=1, run_eagerly=False, jit_compile=False)[-1]
        found[name] = second_moment(optimizer)[:, 0], moved[:, 0]
    print(f"\nAdam, {updates} update{'s' * (updates > 1)}")
    print("                 second moment                    moved, in learning rates")
    print("token  times     as it is     dense     NumPy     as it is     dense     NumPy")
    for token in range(4):
        times = "+".join(str((tokens == token).sum()) for tokens, _ in batches)
        columns = (found["as it is"], found["dense"], expected)
        moments = "".join(f"{v[token]:>10.2e}" for v, _ in columns)
        moves = "".join(f"{moved[token] / RATE:>10.3f}" for _, moved in columns)
        print(f"{token:>5}  {times:<8} {moments}   {moves}")
    for name, pair in found.items():
        equal = all(np.allclose(a, b, rtol=1e-4, atol=1e-9) for a, b in zip(pair, expected, strict=True))
        print(f"verdict: Adam {name} after {updates}: {'equals' if equal else 'differs from'} NumPy")


def random_batches(repeated: bool) -> list[Batch]:
    """Three batches: of ten places that four tokens share, or of three different tokens, so that three are left out."""
    rng = np.random.default_rng(0)
    tokens = [rng.integers(0, 4, (2, 5)) if repeated else rng.permutation(TOKENS)[None, :3] for _ in range(3)]
    return [(t, rng.normal(size=(*t.shape, WIDTH))) for t in tokens]


def absent_steps(batches: list[Batch], moved: np.ndarray) -> np.ndarray:
    """List the steps of the rows whose token isn't in the batch, (number of them, WIDTH)."""
    steps = np.diff(moved, axis=0, prepend=np.zeros_like(moved[:1]))
    return np.concatenate([step[~np.isin(np.arange(TOKENS), t)] for step, (t, _) in zip(steps, batches, strict=True)])


def show_optimizer(name: str, make: Callable[[Callable[[type], type]], optimizers.Optimizer], **options: bool) -> None:
    """Print how far an optimizer as it is ends from its dense self."""
    options = {"run_eagerly": True, "jit_compile": False} | options
    largest, found = [], []
    for repeated in (True, False):
        batches = random_batches(repeated)
        try:
            as_it_is = train(make(lambda optimizer: optimizer), batches, **options)
        except TypeError as error:
            print(f"{name:<42} {str(error).splitlines()[0]}")
            return
        summed = train(make(dense), batches, **options)
        largest.append(np.abs(summed).max())
        found.append(np.abs(as_it_is - summed).max() / largest[-1])
    absent = absent_steps(batches, as_it_is) - absent_steps(batches, summed)
    found.append(np.abs(absent).max() / largest[-1])
    # Not nearer: on PyTorch, Keras updates a subclass in other, equal steps, which round differently.
    verdict = "differs" if max(found) > 1e-4 else "same"
    print(f"{name:<42}" + "".join(f"{value:>12.1e}" for value in found) + f"   {verdict}")


def show_optimizers() -> None:
    """Print the table of optimizers, and of Adam's options."""
    print("\nAs it is against dense, three updates: largest difference over largest movement")
    print(f"{'optimizer':<42}{'repeated':>12}{'each once':>12}{'not in batch':>13}  verdict")
    plain: dict[str, tuple[str, dict[str, Any]]] = {
        "SGD": ("SGD", {}),
        "SGD, momentum": ("SGD", {"momentum": 0.9}),
        "SGD, Nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
        "Lion": ("Lion", {}),
        "RMSprop": ("RMSprop", {}),
        "RMSprop, momentum, centered": ("RMSprop", {"momentum": 0.9, "centered": True}),
        "Adagrad": ("Adagrad", {}),
        "Adadelta": ("Adadelta", {}),
        "Adafactor": ("Adafactor", {}),
        "Adam": ("Adam", {}),
        "Adam, amsgrad": ("Adam", {"amsgrad": True}),
        "AdamW": ("AdamW", {}),
        "Nadam": ("Nadam", {}),
        "Adamax": ("Adamax", {}),
        "Ftrl": ("Ftrl", {}),
        "Lamb": ("Lamb", {}),
        "Muon (an embedding is left to its Adam)": ("Muon", {}),
        "ScheduleFreeAdamW": ("ScheduleFreeAdamW", {}),
        "Adam, clipnorm=1000": ("Adam", {"clipnorm": 1e3}),
        "Adam, clipvalue=1000": ("Adam", {"clipvalue": 1e3}),
        "Adam, global_clipnorm=1000": ("Adam", {"global_clipnorm": 1e3}),
        "Adam, gradient_accumulation_steps=2": ("Adam", {"gradient_accumulation_steps": 2}),
        "Adam, loss_scale_factor=8": ("Adam", {"loss_scale_factor": 8.0}),
    }
    for name, (kind, options) in plain.items():
        if hasattr(optimizers, kind):
            # Bound now: the loop goes on.
            show_optimizer(name, lambda wrap, k=kind, o=options: wrap(getattr(optimizers, k))(RATE, **o))
    scaled = optimizers.LossScaleOptimizer
    show_optimizer("Adam in LossScaleOptimizer", lambda wrap: scaled(wrap(optimizers.Adam)(RATE)))
    if keras.backend.backend() == "tensorflow":
        show_optimizer("Adam, XLA", lambda wrap: wrap(optimizers.Adam)(RATE), run_eagerly=False, jit_compile=True)


def show_clipping() -> None:
    """Print the step that SGD with rate 1 makes on the first toy batch under each way of clipping."""
    tokens, parts = TOY[0]
    gradient = np.zeros(TOKENS)
    np.add.at(gradient, tokens, parts)
    norm = np.linalg.norm(gradient)
    print("\nClipping: norm of one step of SGD, learning rate 1")
    print(f"gradient {np.round(gradient, 3)}, norm {norm:.3f}; norm of its unsummed parts {np.linalg.norm(parts):.3f}")
    print(f"{'clipping':<20}{'as it is':>12}{'dense':>12}{'NumPy':>12}")
    expected = {("clipvalue", 1.0): np.linalg.norm(np.clip(gradient, -1, 1))}
    expected |= {(kind, limit): min(norm, limit) for kind in ("clipnorm", "global_clipnorm") for limit in (1.0, 4.0)}
    for (kind, limit), value in expected.items():
        found = [
            np.linalg.norm(train(optimizer(1.0, **{kind: limit}), TOY[:1], width=1, run_eagerly=True)[-1])
            for optimizer in (optimizers.SGD, dense(optimizers.SGD))
        ]
        print(f"{f'{kind}={limit:g}':<20}" + "".join(f"{v:>12.3f}" for v in (*found, value)))


def main() -> None:
    """Print all of it."""
    backend = keras.backend.backend()
    print(f"Keras {keras.__version__} on {backend}")
    show_adam(1)
    show_adam(3)
    show_optimizers()
    show_clipping()


if __name__ == "__main__":
    main()
