import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rnn_crosscheck.harness.results import TimingRecord
from rnn_crosscheck.harness.timing.ratios import FEWEST, a_against_a, against_baseline, ratio, typical

times = st.lists(st.floats(1e-3, 1e3), min_size=FEWEST, max_size=60).map(np.array)


@settings(deadline=None)  # SciPy is imported in the first one
@given(times, st.floats(0.01, 100))
def test_what_the_machine_does_to_a_whole_round_cancels(machine: NDArray[np.float64], factor: float) -> None:
    found = ratio(factor * machine, machine)
    assert found[:3] == pytest.approx((factor,) * 3)
    assert found.reach == pytest.approx(0, abs=1e-6)


@settings(deadline=None)
@given(times, st.integers(0, 2**32 - 1))
def test_the_other_way_round_is_the_inverse(baseline: NDArray[np.float64], seed: int) -> None:
    measured = baseline * np.random.default_rng(seed).lognormal(0, 0.3, len(baseline))
    there, back = ratio(measured, baseline), ratio(baseline, measured)
    assert back[:3] == pytest.approx((1 / there.value, 1 / there.high, 1 / there.low))
    assert back.p == pytest.approx(there.p, abs=1e-9)
    assert there.low <= there.value <= there.high


@settings(deadline=None)
@given(times, st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
def test_units_don_t_matter(baseline: NDArray[np.float64], unit: float, seed: int) -> None:
    measured = baseline * np.random.default_rng(seed).lognormal(0, 0.3, len(baseline))
    assert ratio(unit * measured, unit * baseline)[:3] == pytest.approx(ratio(measured, baseline)[:3])
    assert typical(unit * measured) == pytest.approx(unit * typical(measured))


def test_a_few_disturbed_rounds_leave_the_ratio_where_it_is() -> None:
    generator = np.random.default_rng(0)
    quiet = generator.lognormal(0, 0.02, (2, 40))
    disturbed = quiet.copy()
    disturbed[0, :6] *= 5
    calm, shaken = ratio(*quiet), ratio(*disturbed)
    assert shaken.value == pytest.approx(calm.value, rel=0.01)
    assert shaken.high < 1.05
    mean = float(np.exp(np.log(disturbed[0] / disturbed[1]).mean()))
    assert mean > 1.2  # what an untrimmed mean would say


@pytest.mark.parametrize(
    ("noise", "least"),
    [("normal", 0.93), ("heavy", 0.93), ("bursts", 0.90)],
)
def test_the_interval_covers_the_truth_as_often_as_it_says(noise: str, least: float) -> None:
    generator = np.random.default_rng(1)
    covered = []
    for _ in range(1000):
        drawn = generator.normal(0, 0.05, 40) if noise != "heavy" else 0.03 * generator.standard_t(2, 40)
        if noise == "bursts":  # a disturbance that lasts for some rounds
            for place in range(1, 40):
                drawn[place] = 0.5 * drawn[place - 1] + 0.87 * drawn[place]
        found = ratio(1.3 * np.exp(drawn), np.ones(40))
        covered.append(found.low <= 1.3 <= found.high)
        assert (found.p < 0.05) == (not found.low <= 1 <= found.high)
    assert least <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("rounds", range(FEWEST))
def test_too_few_rounds_have_no_interval(rounds: int) -> None:
    found = ratio([2.0] * rounds, [1.0] * rounds)
    assert np.isnan([found.low, found.high]).all()
    assert np.isnan(found.value) == (rounds == 0)
    assert not found.reach <= 0.02


def test_other_rounds_and_times_that_can_t_be_are_refused() -> None:
    with pytest.raises(ValueError, match="2 of them against 3"):
        ratio([1, 2], [1, 2, 3])
    for bad in (0, -1, np.nan):
        with pytest.raises(ValueError, match="above 0"):
            ratio([1, bad], [1, 1])


def record(backend: str, rounds: tuple[int, ...], **changes: object) -> TimingRecord:
    known = {
        "backend": backend,
        "model": "rnn",
        "operation": "train_step",
        "examples": 32,
        "rounds_ns": rounds,
        "first_call_ns": 1,
        "baseline": False,
        "stopped": "limit",
        "threads": 1,
        "peak_memory_bytes": 1,
    }
    return TimingRecord.model_validate(known | changes)


def test_records_are_held_against_the_baseline_of_their_own_point() -> None:
    own = record("a", (10,) * 5, baseline=True)
    other = record("a", (1000,) * 5, baseline=True, batch_size=512)
    measured = record("b", (20,) * 5)
    found = against_baseline([other, own, measured], measured)
    assert found is not None
    assert found.value == pytest.approx(2)
    assert against_baseline([other, measured], measured) is None
    assert against_baseline([own], record("b", (20,) * 4)) is None
    assert against_baseline([own], record("b", (20,) * 5, starts=(2, 3))) is None


def drawn(generator: np.random.Generator, starts: int, apart: float) -> list[TimingRecord]:
    """The baseline with its second worker and two others 1.3 times as slow, each process off by `apart` for good."""
    rounds = 20
    machine = generator.lognormal(0, 0.2, starts * rounds)

    def worker(factor: float) -> tuple[int, ...]:
        process = np.repeat(generator.lognormal(0, apart, starts), rounds)
        return tuple(int(x) for x in 1e8 * factor * machine * process * generator.lognormal(0, 0.01, starts * rounds))

    sizes = (rounds,) * starts
    return [
        record("a", worker(1), again_ns=worker(1), baseline=True, starts=sizes),
        record("b", worker(1.3), starts=sizes),
        record("c", worker(1.3), starts=sizes),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("apart", [0.0, 0.005, 0.02])
def test_intervals_over_starts_cover_the_truth_where_processes_differ_for_good(apart: float) -> None:
    generator = np.random.default_rng(2)
    covered: dict[str, list[bool]] = {"other": [], "again": [], "one start": []}
    for _ in range(300):
        records = drawn(generator, 3, apart)
        other, again = against_baseline(records, records[1]), a_against_a(records, records[0])
        assert other is not None
        assert again is not None
        covered["other"].append(other.low <= 1.3 <= other.high)
        covered["again"].append(again.low <= 1 <= again.high)
        single = ratio(records[1].rounds_ns[:20], records[0].rounds_ns[:20])
        covered["one start"].append(single.low <= 1.3 <= single.high)
    # Where processes don't differ, the starts are too few to be sure of that.
    most = 1.0 if apart == 0 else 0.99
    assert 0.92 <= np.mean(covered["other"]) <= most
    assert 0.92 <= np.mean(covered["again"]) <= most
    if apart == 0.02:
        # What rounds alone would claim.
        assert np.mean(covered["one start"]) < 0.4
