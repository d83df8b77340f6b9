"""Measure what Keras' unsummed embedding gradients change in trained models, over several seeds.

Trains the models of the protocol ``quick`` with ``compile`` and ``fit`` from the same initial weights, in the same
order of examples, three times for each seed: with Adam as it is on TensorFlow; with the gradients summed before Adam
sees them ("dense"); and dense again with one initial weight moved to the next float32 ("twin"). The twin shows what
rounding alone does. Ten seeds take about twenty minutes on one core.
"""

import argparse
import os
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from dataclasses import dataclass

import keras
import numpy as np
from keras_duplicates import dense
from scipy import stats

from rnn_crosscheck.harness.datasets import reviews, selection
from rnn_crosscheck.harness.datasets.text import PAD
from rnn_crosscheck.harness.protocol import ModelSpec, Protocol, load_protocol

VARIANTS = ("as it is", "dense", "twin")
FREQUENT = 20


@dataclass(frozen=True)
class Data:
    """Padded token ids, int32 (n, time), and labels, float32 (n,)."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    def counts(self, vocabulary: int) -> np.ndarray:
        """Count how often each token stands in the training data, (vocabulary,)."""
        return np.bincount(self.x_train.ravel(), minlength=vocabulary)

    def rows(self, vocabulary: int) -> dict[str, np.ndarray]:
        """Group token ids by how often they stand in the training data."""
        order = np.argsort(-self.counts(vocabulary), kind="stable")
        words = order[order != PAD]
        return {
            "pad": np.array([PAD]),
            f"{FREQUENT} most frequent": words[:FREQUENT],
            "rarer half": words[len(words) // 2 :],
        }


@dataclass(frozen=True)
class Run:
    """One trained model: accuracy on the test data after each epoch, answers, and mean norm of moves by rows."""

    accuracies: list[float]
    answers: np.ndarray
    moved: dict[str, float]


def load(protocol: Protocol) -> Data:
    """Take the protocol's examples."""
    spec = protocol.data
    chosen = selection.apply(reviews.load(), spec)
    arrays = []
    for block in (chosen.train, chosen.test):
        arrays += [block.padded(spec.length, spec.vocabulary), block.labels.astype(np.float32)]
    return Data(*arrays)


def train(protocol: Protocol, model: ModelSpec, data: Data, seed: int, variant: str) -> Run:
    """Train one model; the same seed gives the same initial weights and the same orders."""
    keras.utils.set_random_seed(seed)
    layers, training = keras.layers, protocol.training
    cell = layers.LSTM(model.units) if model.cell == "lstm" else layers.SimpleRNN(model.units, model.activation)
    net = keras.Sequential(
        [
            keras.Input((model.length,), dtype="int32"),
            layers.Embedding(model.vocabulary, model.embedding),
            cell,
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    weights = net.get_weights()
    if variant == "twin":
        weights[1][0, 0] = np.nextafter(weights[1][0, 0], np.float32(1))
        net.set_weights(weights)
    adam = keras.optimizers.Adam if variant == "as it is" else dense(keras.optimizers.Adam)
    net.compile(adam(training.learning_rate), "binary_crossentropy")
    orders, accuracies = np.random.default_rng(seed), []
    for _ in range(training.epochs):
        order = orders.permutation(len(data.x_train))
        options = {"batch_size": training.batch_size, "shuffle": False, "verbose": 0}
        net.fit(data.x_train[order], data.y_train[order], epochs=1, **options)
        answers = net.predict(data.x_test, batch_size=500, verbose=0)[:, 0] > 0.5
        accuracies.append(100 * float((answers == data.y_test).mean()))
    norms = np.linalg.norm(net.get_weights()[0] - weights[0], axis=1)
    return Run(
        accuracies, answers, {name: float(norms[rows].mean()) for name, rows in data.rows(model.vocabulary).items()}
    )


def interval(values: list[float]) -> str:
    """Write mean, standard deviation and 95 % t interval of the mean."""
    mean, sd = np.mean(values), np.std(values, ddof=1)
    half = stats.t.ppf(0.975, len(values) - 1) * sd / np.sqrt(len(values))
    return f"{mean:7.3f} (sd {sd:.3f}, n {len(values)}) [{mean - half:.3f}, {mean + half:.3f}]"


def disagreement(a: Run, b: Run) -> float:
    """Share of test examples that two models answer differently, %."""
    return 100 * float((a.answers != b.answers).mean())


def report(name: str, runs: dict[str, list[Run]]) -> None:
    """Print means over the seeds, and paired differences."""
    as_it_is, summed, twins = (runs[variant] for variant in VARIANTS)
    epochs = len(summed[0].accuracies)
    print(f"\n{name}: test accuracy, %")
    for variant, found in runs.items():
        print(f"  {variant:<28}{interval([run.accuracies[-1] for run in found])}")
    for label, found in (("as it is - dense", as_it_is), ("twin - dense", twins)):
        for epoch in range(epochs):
            paired = [a.accuracies[epoch] - b.accuracies[epoch] for a, b in zip(found, summed, strict=True)]
            print(f"  {f'{label}, epoch {epoch + 1}':<28}{interval(paired)}")
    print(f"{name}: test examples answered differently, %")
    for label, found in (("as it is, dense", as_it_is), ("twin, dense", twins)):
        pairs = [disagreement(a, b) for a, b in zip(found, summed, strict=True)]
        print(f"  {label:<28}{interval(pairs)}")
    between = [disagreement(a, b) for i, a in enumerate(summed) for b in summed[i + 1 :]]
    # Pairs of seeds share seeds, so no interval.
    print(f"  {'dense, two seeds':<28}{np.mean(between):7.3f} (mean of {len(between)} pairs)")
    print(f"{name}: mean norm of the move of an embedding's row; ratio as it is / dense")
    for rows in summed[0].moved:
        columns = "".join(f"{f'{v}: {np.mean([run.moved[rows] for run in runs[v]]):.4f}':<20}" for v in VARIANTS[:2])
        ratios = [a.moved[rows] / b.moved[rows] for a, b in zip(as_it_is, summed, strict=True)]
        print(f"  {rows:<20}{columns}{interval(ratios)}")


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--model", action="append", help="of the protocol's models, those with this name")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="data.length=500, for example")
    arguments = parser.parse_args()
    protocol = load_protocol("quick", arguments.set)
    data, batch = load(protocol), protocol.training.batch_size
    vocabulary, length = protocol.data.vocabulary, protocol.data.length
    print(f"Keras {keras.__version__} on {keras.backend.backend()}; length {length}, {arguments.seeds} seeds")
    counts = data.counts(vocabulary) * batch / len(data.x_train)
    means = [f"{name} {counts[rows].mean():.2f}" for name, rows in data.rows(vocabulary).items()]
    print("times in a batch, mean: " + ", ".join(means))
    for name in arguments.model or [architecture.name for architecture in protocol.models]:
        model, runs = protocol.model(name), {variant: [] for variant in VARIANTS}
        for seed in range(arguments.seeds):
            for variant in VARIANTS:
                start = time.perf_counter()
                run = train(protocol, model, data, seed, variant)
                keras.backend.clear_session()
                runs[variant].append(run)
                shown = " ".join(f"{value:.2f}" for value in run.accuracies)
                moved = " ".join(f"{value:.4f}" for value in run.moved.values())
                seconds = time.perf_counter() - start
                print(f"{name:<5} seed {seed:<3} {variant:<9} {shown}   moved {moved}   {seconds:.0f} s", flush=True)
        report(name, runs)


if __name__ == "__main__":
    main()
