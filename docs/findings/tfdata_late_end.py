"""Show that the end of a ``tf.data`` iterator can wait for the thread that tunes its dataset.

Iterates for a while over a dataset, lets go of the iterator, and prints how long that took: with the dataset's
autotuning (the default) and without. The thread that tunes wakes 10, 30, 70, 150, 310, 630, 1270, ... ms after
the iterator's start: where it missed that it is to end, that is when the iterator is gone. Only TensorFlow is needed.
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TIMES, SECONDS = 12, 0.4


def end(autotune: bool) -> float:
    """Use an iterator; the seconds that letting go of it took."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = autotune
    dataset = tf.data.Dataset.range(10**9).map(lambda i: i + 1, num_parallel_calls=tf.data.AUTOTUNE)
    begun = time.perf_counter()
    iterator = iter(dataset.prefetch(tf.data.AUTOTUNE).with_options(options))
    while time.perf_counter() - begun < SECONDS:
        next(iterator)
    used = time.perf_counter()
    del iterator
    return time.perf_counter() - used


def main() -> None:
    """Print what a number of iterators took, with and without autotuning."""
    import tensorflow as tf

    print(f"TensorFlow {tf.__version__}, {os.cpu_count()} cores")
    for autotune in (True, False):
        late = sorted(round(1e3 * seconds) for _ in range(TIMES) if (seconds := end(autotune)) > 0.05)
        print(f"autotuning {'on' if autotune else 'off'}: {len(late)} of {TIMES} iterators ended late, by {late} ms")


if __name__ == "__main__":
    main()
