"""Show whether Keras' ``fit(shuffle=True)`` gives every epoch an order of its own once a seed is set.

Prints the order in which a three-epoch ``fit`` hands out twelve examples, without and with
``keras.utils.set_random_seed``, on the backend that ``KERAS_BACKEND`` names (TensorFlow by default).
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

EXAMPLES, EPOCHS = 12, 3


class Recorder(keras.Model):
    """Learns nothing; notes which examples it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def call(self, inputs):  # noqa: ANN001, ANN201, D102
        return inputs

    def train_step(self, *arguments):  # noqa: ANN002, ANN201, D102
        data = arguments[-1]
        self.seen += [int(value) for value in np.asarray(data[0]).ravel()]
        return {"loss": keras.ops.zeros(())}


def orders(seed: int | None) -> list[list[int]]:
    """Orders of the epochs of one ``fit``."""
    if seed is not None:
        keras.utils.set_random_seed(seed)
    model = Recorder()
    model.compile(run_eagerly=True)
    values = np.arange(EXAMPLES, dtype="float32")[:, None]
    model.fit(values, values, batch_size=4, epochs=EPOCHS, shuffle=True, verbose=0)
    return [model.seen[i * EXAMPLES : (i + 1) * EXAMPLES] for i in range(EPOCHS)]


def main() -> None:
    """Print the orders with and without a seed."""
    print(f"Keras {keras.__version__} on {keras.backend.backend()}")
    for seed in (None, 0):
        found = orders(seed)
        print(f"seed {seed}: {'every epoch alike' if len({tuple(o) for o in found}) == 1 else 'epochs differ'}")
        for number, order in enumerate(found, 1):
            print(f"  epoch {number}: {order}")


if __name__ == "__main__":
    main()
