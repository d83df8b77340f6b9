"""What somebody who only wants the result writes in Keras: the notebook's protocol on IMDB, one model, one seed.

The yardstick for the harness' own cost, so it is written for no other end: nothing of the harness is used.
"""

from __future__ import annotations

import os
import time

from imdb import arguments, load, tell
from models import keras_layers

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--no-autotune", action="store_true", help="with datasets that don't tune themselves")
    options = parser.parse_args()

    import tensorflow as tf

    if options.threads:
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    import keras

    keras.utils.set_random_seed(0)
    if options.deterministic:
        tf.config.experimental.enable_op_determinism()
    train, test = load(options.data)
    x_train, x_test = (keras.utils.pad_sequences(part[0], maxlen=500) for part in (train, test))
    y_train, y_test = train[1], test[1]
    net = keras.Sequential([keras.Input((500,)), *keras_layers(options.model)])
    net.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    ready = time.perf_counter()
    if options.no_autotune:
        still = tf.data.Options()
        still.autotune.enabled = False
        cut = len(x_train) * 4 // 5
        data = tf.data.Dataset.from_tensor_slices((x_train, y_train))
        train_set = data.take(cut).shuffle(cut).batch(32).with_options(still)
        valid_set = data.skip(cut).batch(32).with_options(still)
        net.fit(train_set, validation_data=valid_set, epochs=options.epochs, verbose=0)
        trained = time.perf_counter()
        predicted = net.predict(tf.data.Dataset.from_tensor_slices(x_test).batch(512).with_options(still), verbose=0)
    else:
        net.fit(x_train, y_train, epochs=options.epochs, batch_size=32, validation_split=0.2, verbose=0)
        trained = time.perf_counter()
        predicted = net.predict(x_test, batch_size=512, verbose=0)
    accuracy = ((predicted[:, 0] >= 0.5) == (y_test == 1)).mean()
    tell(f"keras {options.model}", accuracy, ready=ready, trained=trained)


if __name__ == "__main__":
    main()
