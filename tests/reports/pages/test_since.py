from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rnn_crosscheck.__main__ import main
from rnn_crosscheck.harness.folder import write_json
from rnn_crosscheck.harness.results import Manifest, RunResult, TimingResults, read_record
from rnn_crosscheck.harness.session.gates import parse_gates
from rnn_crosscheck.reports.analysis.changes import Changes, changes
from rnn_crosscheck.reports.analysis.findings import Findings, find
from rnn_crosscheck.reports.analysis.gates import Judged, judge
from rnn_crosscheck.reports.analysis.statistics import independent_ratio, welch, wilson
from rnn_crosscheck.reports.build import build
from rnn_crosscheck.reports.pages import since as what_changed
from rnn_crosscheck.reports.pages.since import in_short
from rnn_crosscheck.reports.read.comparison import Comparison, load
from tests.reports.folders import EXAMPLES, labels, probabilities, protocol, write_comparison, write_example_run
from tests.reports.rendering import all_pages, page, tables_of

SEEDS = {"native": (0, 1, 2), "matched": (0,)}
SMALL: dict[str, Any] = {"models": ("rnn",), "seeds": {"native": (0, 1, 2)}}
ALL = parse_gates("accuracy-drop:1pt,step-slowdown:10%,disagreement:5%")


def compared(now: Comparison, before: Comparison) -> Changes:
    return changes(now, before, "../old")


def worsen(folder: Path, wrong: int, backend: str = "pytorch", model: str = "rnn", key: str = "another key") -> None:
    """Have a backend's native runs get `wrong` examples wrong that they got right, under another key."""
    manifest = read_record(folder / "manifest.json", Manifest)
    keys = dict(manifest.keys)
    for run_id in manifest.runs:
        if not run_id.startswith(f"native-{backend}-{model}"):
            continue
        spec = read_record(folder / "runs" / run_id / "result.json", RunResult).spec
        values = probabilities("native", backend, model, spec.seed).copy()
        right = np.flatnonzero((values >= 0.5) == (labels() == 1))[:wrong]
        values[right] = 1 - values[right]
        result = write_example_run(folder, spec, probabilities=values)
        environment = {**result.environment, "framework": f"{backend} 1.3.0"}
        changed = result.model_copy(update={"key": key, "environment": environment})
        write_json(folder / "runs" / run_id / "result.json", changed)
        keys[run_id] = key
    write_json(folder / "manifest.json", manifest.model_copy(update={"keys": keys}))


def timed(comparison: Comparison, factors: Mapping[str, float], **changes: Any) -> Comparison:
    """Have backends take so many times as long."""
    records = tuple(
        record.model_copy(
            update={
                "rounds_ns": tuple(int(factors.get(record.backend, 1) * ns) for ns in record.rounds_ns),
                "again_ns": tuple(int(factors.get(record.backend, 1) * ns) for ns in record.again_ns),
                **changes,
            }
        )
        for record in comparison.timings.records
    )
    return replace(comparison, timings=TimingResults(records=records))


def on(comparison: Comparison, **machine: str) -> Comparison:
    manifest = comparison.manifest
    return replace(comparison, manifest=manifest.model_copy(update={"machine": {**manifest.machine, **machine}}))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison(tmp_path_factory.mktemp("since") / "old", seeds=SEEDS)


@pytest.fixture(scope="module")
def new(old: Path) -> Path:
    """Another version of pytorch made its rnn worse; the protocol is another, and so is the processor."""
    folder = old.parent / "new"
    of = protocol(description="", training=protocol().training.model_copy(update={"clipnorm": 1.0}))
    write_comparison(folder, seeds=SEEDS, of=of, failed=["native-pytorch-lstm-seed1"])
    worsen(folder, 15)
    manifest = read_record(folder / "manifest.json", Manifest)
    machine = {**manifest.machine, "python": "3.12.0"}
    write_json(folder / "manifest.json", manifest.model_copy(update={"machine": machine, "baseline": "../old"}))
    return folder


@pytest.fixture(scope="module")
def before(old: Path) -> Comparison:
    return load(old)


@pytest.fixture(scope="module")
def now(new: Path) -> Comparison:
    return load(new)


@pytest.fixture(scope="module")
def since(now: Comparison, before: Comparison) -> Changes:
    return compared(now, before)


def cell(frame: pd.DataFrame, **wanted: str) -> pd.Series:
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    assert len(frame) == 1
    return frame.iloc[0]


# --- figures ------------------------------------------------------------------------------------------------


def test_a_comparison_with_itself_has_not_changed(before: Comparison) -> None:
    same = compared(before, before)
    assert same.conditions.empty
    assert same.refused == ""
    assert (same.accuracy["difference"] == 0).all()
    assert (same.accuracy["alike"] == same.accuracy["shared"]).all()
    assert (same.disagreement["disagreement"] == 0).all()
    assert same.timings["ratio"].tolist() == pytest.approx([1] * 24)
    others = same.timings[same.timings["base"] != ""]
    assert len(others) == 18
    assert others["change"].tolist() == pytest.approx([1] * 18)
    assert (others["change_low"] < 1).all()
    assert (others["change_high"] > 1).all()
    gates = parse_gates("accuracy-drop:0pt,step-slowdown:0%,disagreement:0%")
    assert judge(same, gates).breaches == ()
    assert "**" not in in_short(same)[0]
    assert "not one prediction of a seed in both is another" in in_short(same)[0]


def test_the_other_way_round_every_sign_is_turned(now: Comparison, before: Comparison, since: Changes) -> None:
    back = compared(before, now)
    one, two = since.accuracy, back.accuracy
    assert one["difference"].to_numpy() == pytest.approx(-two["difference"].to_numpy(), nan_ok=True)
    assert one["low"].to_numpy() == pytest.approx(-two["high"].to_numpy(), nan_ok=True)
    shown = ["division", "model", "backend", "disagreement", "low", "high"]
    pd.testing.assert_frame_equal(since.disagreement[shown], back.disagreement[shown])
    assert since.timings["ratio"].to_numpy() == pytest.approx(1 / back.timings["ratio"].to_numpy())
    assert since.timings["low"].to_numpy() == pytest.approx(1 / back.timings["high"].to_numpy())
    assert since.timings["change_low"].to_numpy() == pytest.approx(
        1 / back.timings["change_high"].to_numpy(), nan_ok=True
    )


def test_the_interval_of_accuracy_is_welch_s_over_seeds(now: Comparison, before: Comparison, since: Changes) -> None:
    row = cell(since.accuracy, division="native", model="rnn", backend="pytorch")
    sides = [
        [side.results[f"native-pytorch-rnn-seed{seed}"].scores.accuracy for seed in range(3)]  # type: ignore[union-attr]
        for side in (now, before)
    ]
    assert row["difference"] == pytest.approx(np.mean(sides[0]) - np.mean(sides[1])) == pytest.approx(-0.25)
    assert (row["low"], row["high"]) == pytest.approx(welch(*sides))
    assert (row["alike"], row["shared"]) == (0, 3)


def test_a_failed_run_leaves_the_others_of_its_cell(since: Changes) -> None:
    row = cell(since.accuracy, division="native", model="lstm", backend="pytorch")
    assert (row["seeds"], row["seeds_before"], row["alike"], row["shared"]) == (2, 3, 2, 2)
    row = cell(since.disagreement, division="native", model="lstm", backend="pytorch")
    assert (row["seeds"], row["disagreement"]) == (2, 0)


def test_disagreement_is_a_share_of_examples_with_an_interval(since: Changes) -> None:
    row = cell(since.disagreement, division="native", model="rnn", backend="pytorch")
    assert row["disagreement"] == pytest.approx(15 / EXAMPLES)
    assert row["low"] < row["disagreement"] < row["high"]
    assert row["over"] == "runs and examples"
    single = cell(since.disagreement, division="matched", model="rnn", backend="pytorch")
    assert (single["seeds"], single["over"]) == (1, "examples")
    assert (single["low"], single["high"]) == pytest.approx(tuple(float(edge) for edge in wilson(0, EXAMPLES)))


def test_accuracy_never_moves_by_more_than_predictions_do(since: Changes) -> None:
    both = since.accuracy.merge(since.disagreement, on=["division", "model", "backend"])
    whole = both[(both["shared"] == both["seeds_x"]) & (both["shared"] == both["seeds_before"])]
    assert len(whole) == 7
    assert (whole["difference"].abs() <= whole["disagreement"] + 1e-12).all()


def test_predictions_are_joined_by_id_wherever_they_lie(now: Comparison, before: Comparison, since: Changes) -> None:
    order = np.random.default_rng(1).permutation(EXAMPLES)
    shuffled = replace(before, test=before.test.iloc[order], probabilities=before.probabilities.iloc[order])
    again = compared(now, shuffled)
    pd.testing.assert_frame_equal(again.disagreement, since.disagreement)
    pd.testing.assert_frame_equal(again.accuracy, since.accuracy)


def test_other_inputs_are_refused_with_both_hashes_and_the_rest_is_there(now: Comparison, before: Comparison) -> None:
    other = replace(before, facts=before.facts.model_copy(update={"inputs_hash": "decaf" * 8}))
    changed = compared(now, other)
    said = "hash c0ffeec0ffeec0ff now, decafdecafdecafd before"
    assert said in changed.refused
    assert said in page(what_changed.PAGE, now, find(now, changed))
    assert changed.disagreement.empty
    assert changed.accuracy["difference"].notna().any()
    assert changed.timings["ratio"].notna().all()
    # The same reviews, encoded otherwise: accuracy is still over the same examples.
    assert changed.same_examples
    judged = judge(changed, ALL)
    assert [sentence.split(":")[0] for sentence in judged.breaches] == ["accuracy-drop"]
    assert any("disagreement:5% could not be judged: The test inputs are others" in said for said in judged.unjudged)
    assert "predictions can't be held against each other" in in_short(changed)[0]


def test_other_examples_can_t_be_judged(now: Comparison, before: Comparison) -> None:
    names = {"example-003": "example-999"}
    other = replace(before, test=before.test.rename(names), probabilities=before.probabilities.rename(names))
    changed = compared(now, other)
    assert "hash of ids and labels" in changed.refused
    assert not changed.same_examples
    judged = judge(changed, ALL)
    assert judged.breaches == ()
    assert any("the test examples are others than before" in said for said in judged.unjudged)


def test_runs_without_a_seed_in_common_have_no_disagreement(tmp_path: Path) -> None:
    one = load(write_comparison(tmp_path / "one", **SMALL))
    two = load(write_comparison(tmp_path / "two", models=("rnn",), seeds={"native": (7, 8)}))
    changed = compared(one, two)
    assert (changed.disagreement["seeds"] == 0).all()
    assert changed.disagreement["disagreement"].isna().all()
    assert changed.accuracy["low"].notna().all()
    said = " ".join(judge(changed, ALL).unjudged)
    assert "disagreement:5% could not be judged for native rnn of keras-tensorflow; native rnn of pytorch: " in said
    assert "no seed is in both comparisons" in said


def test_nothing_in_common_is_one_sentence(tmp_path: Path) -> None:
    one = load(write_comparison(tmp_path / "one", backends=("a",), **SMALL))
    two = load(write_comparison(tmp_path / "two", backends=("b",), **SMALL))
    changed = compared(one, two)
    assert changed.nothing
    said = page(what_changed.PAGE, one, find(one, changed))
    assert "nothing can be compared" in said
    assert tables_of(said) == []
    assert in_short(changed) == []


# --- times --------------------------------------------------------------------------------------------------


def test_a_slower_machine_cancels_in_the_ratio_to_the_baseline(before: Comparison) -> None:
    slow = timed(before, {"keras-tensorflow": 1.5, "pytorch": 1.5})
    changed = compared(slow, before)
    assert changed.timings["ratio"].tolist() == pytest.approx([1.5] * 24, rel=1e-6)
    assert changed.timings["change"].dropna().tolist() == pytest.approx([1] * 18, rel=1e-6)
    gates = parse_gates("step-slowdown:10%")
    # The baseline itself has nothing but its time, which counts on the same machine alone.
    breaches = judge(changed, gates).breaches
    assert len(breaches) == 2
    assert all("of keras-tensorflow: a training step takes 1.50 times as long as before" in said for said in breaches)
    elsewhere = judge(compared(on(slow, cpu="Another"), before), gates)
    assert elsewhere.breaches == ()
    assert "times of different machines say nothing" in elsewhere.unjudged[0]
    assert elsewhere.held == ("step-slowdown:10%: no interval clears the bound (6 judged).",)
    # Another Python is no other machine.
    assert len(judge(compared(on(slow, python="3.13.0"), before), gates).breaches) == 2


def test_a_slower_backend_is_told_from_a_slower_machine(before: Comparison) -> None:
    slow = on(timed(before, {"keras-tensorflow": 2.0, "pytorch": 2.6}), cpu="Another")
    judged = judge(compared(slow, before), parse_gates("step-slowdown:10%"))
    assert len(judged.breaches) == 4  # default and tuned
    assert (
        "rnn of pytorch: a training step relative to keras-tensorflow's takes 1.30 times as long" in judged.breaches[0]
    )
    assert judge(compared(slow, before), parse_gates("step-slowdown:29%")).breaches == ()
    assert "**a training step takes 1.30 times as long**" in in_short(compared(slow, before))[0]
    assert judge(compared(before, slow), parse_gates("step-slowdown:0%")).breaches == ()


def test_other_work_is_no_slowdown(before: Comparison) -> None:
    judged = judge(compared(timed(before, {"pytorch": 2}, examples=64), before), parse_gates("step-slowdown:10%"))
    assert judged.breaches == ()
    assert "the timed calls are other work (examples a call 64, before 32)" in judged.unjudged[0]


def test_a_change_within_the_noise_is_no_slowdown(before: Comparison) -> None:
    gates = parse_gates("step-slowdown:1%")
    slow = timed(before, {"pytorch": 1.1})
    assert len(judge(compared(slow, before), gates).breaches) == 4  # default and tuned
    assert "**1.10 [" in page(what_changed.PAGE, slow, find(slow, compared(slow, before)))

    def restless(comparison: Comparison) -> Comparison:
        records = tuple(
            record.model_copy(update={"again_ns": tuple(int(1.2 * ns) for ns in record.again_ns)})
            for record in comparison.timings.records
        )
        return replace(comparison, timings=TimingResults(records=records))

    for changed in (compared(restless(slow), before), compared(slow, restless(before))):
        assert judge(changed, gates).breaches == ()
        assert "**" not in page(what_changed.PAGE, slow, find(slow, changed))
        assert "became clearly slower or faster" in in_short(changed)[0]


def test_ratios_to_another_baseline_leave_the_clock(tmp_path: Path) -> None:
    one = load(write_comparison(tmp_path / "one", backends=("a", "b", "c"), **SMALL))
    two = load(write_comparison(tmp_path / "two", backends=("b", "a", "c"), **SMALL))
    changed = compared(one, two)
    assert (changed.timings["base"] == "").all()
    assert changed.timings["change"].isna().all()
    assert changed.timings["ratio"].notna().all()


def test_nothing_timed_can_t_be_judged(before: Comparison) -> None:
    untimed = replace(before, timings=TimingResults())
    gates = parse_gates("step-slowdown:10%")
    assert judge(compared(untimed, untimed), gates).unjudged == (
        "step-slowdown:10% could not be judged: no training step was timed.",
    )
    assert "it was not timed now" in judge(compared(untimed, before), gates).unjudged[0]
    assert "it was not timed before" in judge(compared(before, untimed), gates).unjudged[0]


def test_more_seeds_and_fewer_models_are_no_other_protocol(now: Comparison, before: Comparison) -> None:
    of = protocol(seeds=protocol().seeds.model_copy(update={"native": (0, 1, 2, 3)}), models=protocol().models[:1])
    more = replace(before, manifest=before.manifest.model_copy(update={"protocol": of}), timings=TimingResults())
    changed = compared(more, before)
    assert changed.protocol["what"].tolist() == ["seeds.native"]
    assert not changed.other_protocol
    assert judge(changed, ALL).caveats == ()
    said = page(what_changed.PAGE, now, find(now, changed))
    assert "seeds.native is 0, 1, 2, 3, before 0, 1. That is how much was measured, not what." in said
    assert "under another protocol" not in in_short(changed)[0]


rounds = st.lists(st.integers(1_000, 10**9), min_size=2, max_size=12)


@pytest.mark.filterwarnings("ignore:Precision loss")
@given(rounds, rounds)
def test_the_interval_of_independent_times_is_yuen_s_on_logarithms(first: list[int], second: list[int]) -> None:
    low, high = independent_ratio(first, second)
    back = independent_ratio(second, first)
    assert (low, high) == pytest.approx((1 / back[1], 1 / back[0]), rel=1e-9, nan_ok=True)
    means, parts, freedoms = [], [], []
    for times in (np.sort(np.log(first)), np.sort(np.log(second))):
        cut = len(times) // 5
        kept = times[cut : len(times) - cut]
        deviations = np.clip(times, kept[0], kept[-1]) - np.clip(times, kept[0], kept[-1]).mean()
        means.append(kept.mean())
        parts.append((deviations**2).sum() / (len(kept) * (len(kept) - 1)))
        freedoms.append(len(kept) - 1)
    if sum(parts) < 1e-24:
        return
    freedom = sum(parts) ** 2 / sum(part**2 / n for part, n in zip(parts, freedoms, strict=True))
    half = stats.t.ppf(0.975, freedom) * sum(parts) ** 0.5
    middle = means[0] - means[1]
    assert (np.log(low), np.log(high)) == pytest.approx((middle - half, middle + half), rel=1e-6, abs=1e-9)


def test_times_without_any_spread_have_no_interval() -> None:
    assert np.isnan(independent_ratio([5, 5, 5], [7, 7, 7])).all()
    assert np.isnan(independent_ratio([5], [7, 8, 9])).all()


# --- gates --------------------------------------------------------------------------------------------------


def test_a_worse_backend_breaks_its_gates_with_one_sentence_each(since: Changes) -> None:
    judged = judge(since, ALL)
    row = cell(since.accuracy, division="native", model="rnn", backend="pytorch")
    assert judged.breaches[0] == (
        f"accuracy-drop:1pt: native rnn of pytorch: accuracy fell by 25.0 points, from {100 * row['before']:.1f} to "
        f"{100 * row['now']:.1f} % (95 % interval {-100 * row['high']:.1f} to {-100 * row['low']:.1f}, 3 seeds now, "
        "3 before)."
    )
    assert judged.breaches[1].startswith("disagreement:5%: native rnn of pytorch: 25.0 % of the predictions are others")
    assert len(judged.breaches) == 2
    assert judged.caveats == ("The protocols differ (training.clipnorm): a change may come from that.",)
    assert "**accuracy fell by 25.0 points** (rnn of pytorch, native" in in_short(since)[0]


@pytest.mark.parametrize(("bound", "broken"), [(-1e-4, 1), (1e-4, 0)])
def test_a_gate_looks_at_the_edge_of_the_interval_and_not_at_the_mean(
    since: Changes, bound: float, broken: int
) -> None:
    drop = cell(since.accuracy, division="native", model="rnn", backend="pytorch")
    edge = parse_gates(f"accuracy-drop:{-100 * drop['high'] + 100 * bound:.6f}pt")
    assert len(judge(since, edge).breaches) == broken
    others = cell(since.disagreement, division="native", model="rnn", backend="pytorch")
    edge = parse_gates(f"disagreement:{100 * others['low'] + 100 * bound:.6f}%")
    assert len(judge(since, edge).breaches) == broken


def test_one_seed_is_never_a_drop(tmp_path: Path) -> None:
    one = {"models": ("rnn",), "seeds": {"native": (0,)}}
    before = load(write_comparison(tmp_path / "old", **one))  # type: ignore[arg-type]
    worse = write_comparison(tmp_path / "new", **one)  # type: ignore[arg-type]
    worsen(worse, 20)
    changed = compared(load(worse), before)
    judged = judge(changed, parse_gates("accuracy-drop:1pt"))
    assert judged == Judged(
        unjudged=(
            "accuracy-drop:1pt could not be judged for native rnn of keras-tensorflow; native rnn of pytorch: with one "
            "seed there is no interval over seeds.",
        )
    )
    assert "with too few seeds for an interval" in in_short(changed)[0]
    # What these two trained models say is known, whatever other seeds would: the interval is over examples.
    (breach,) = judge(changed, parse_gates("disagreement:5%")).breaches
    assert "over examples, one seed" in breach


def test_seeds_that_don_t_spread_need_no_interval_where_nothing_fell(before: Comparison) -> None:
    def flat(value: float) -> Changes:
        rows = compared(before, before).accuracy.iloc[:1].assign(difference=value, low=np.nan, high=np.nan)
        return replace(compared(before, before), accuracy=rows)

    gates = parse_gates("accuracy-drop:1pt")
    assert judge(flat(0.0), gates).held == ("accuracy-drop:1pt: no interval clears the bound (1 judged).",)
    assert "the seeds don't spread" in judge(flat(-0.2), gates).unjudged[0]


def test_a_cell_without_result_is_named(tmp_path: Path, before: Comparison) -> None:
    lost = [f"matched-pytorch-rnn-seed{seed}" for seed in SEEDS["matched"]]
    changed = compared(load(write_comparison(tmp_path, seeds=SEEDS, failed=lost)), before)
    row = cell(changed.accuracy, division="matched", model="rnn", backend="pytorch")
    assert (row["seeds"], row["seeds_before"]) == (0, 1)
    said = judge(changed, parse_gates("accuracy-drop:1pt")).unjudged
    assert "accuracy-drop:1pt could not be judged for matched rnn of pytorch: there is no result now." in said
    now = load(tmp_path)
    assert "nan" not in page(what_changed.PAGE, now, find(now, changed))


# --- the report ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def findings(now: Comparison, since: Changes) -> Findings:
    return find(now, since)


def test_the_section_is_as_kept(now: Comparison, findings: Findings, golden: Callable[[str, str], None]) -> None:
    golden("since.md", page(what_changed.PAGE, now, findings))


def test_the_page_tells_what_differs_first(now: Comparison, findings: Findings) -> None:
    source = page(what_changed.PAGE, now, findings)
    assert "**The protocols differ**: training.clipnorm is 1.0, before 0.0." in source
    assert ["pytorch", "framework", "pytorch 1.2.3", "pytorch 1.3.0 / pytorch 1.2.3"] in tables_of(source)[0].rows
    assert ["machine", "python", "3.11.0", "3.12.0"] in tables_of(source)[0].rows
    for found in tables_of(source):
        assert len({len(row) for row in found.rows}) == 1
    assert "- [What changed since](details/since.md): Since the earlier comparison" in all_pages(now, findings)


def test_a_report_without_an_earlier_comparison_says_nothing_of_one(before: Comparison) -> None:
    assert "earlier comparison" not in all_pages(before)


def test_many_differences_of_the_protocol_are_a_table(now: Comparison, before: Comparison) -> None:
    training = protocol().training.model_copy(
        update={"epochs": 9, "batch_size": 8, "beta_1": 0.5, "beta_2": 0.5, "epsilon": 1e-3, "learning_rate": 1.0}
    )
    manifest = before.manifest.model_copy(update={"protocol": protocol(training=training)})
    changed = compared(now, replace(before, manifest=manifest))
    said = page(what_changed.PAGE, now, find(now, changed))
    assert "**The protocols differ** in 7 values, listed below. A change may come from that." in said
    assert ["protocol", "training.beta_1", "0.5", "0.9"] in tables_of(said)[0].rows


def test_a_model_that_is_clear_in_no_way_is_not_bold(before: Comparison) -> None:
    assert "**" not in page(what_changed.PAGE, before, find(before, compared(before, before)))


@pytest.mark.slow
def test_the_place_of_the_earlier_comparison_is_remembered(new: Path) -> None:
    built = build(new)
    content = json.loads((new / "comparison.json").read_text())
    assert content["since"]["place"] == "../old"
    assert content["since"]["problem"] is None
    rows = {(row["division"], row["model"], row["backend"]): row for row in content["since"]["accuracy"]}
    assert rows["native", "rnn", "pytorch"]["difference"] == pytest.approx(-0.25)
    assert rows["matched", "rnn", "pytorch"]["low"] is None
    assert [title for title, _ in built.summary] == ["verdict", "accuracy since ../old"]
    assert "| rnn     | native     | pytorch " in (new / "details" / "since.md").read_text()


@pytest.mark.slow
def test_an_earlier_comparison_that_is_gone_or_damaged_is_one_line(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "new", **SMALL)
    manifest = read_record(folder / "manifest.json", Manifest)
    write_json(folder / "manifest.json", manifest.model_copy(update={"baseline": "../old"}))
    built = build(folder)
    said = "Nothing can be said about the earlier comparison `../old`: Its folder isn't there any more."
    assert f"[What changed since](details/since.md): {said}" in built.report.read_text()
    assert built.since is not None
    assert judge(built.since, ALL).unjudged[0] == (
        "accuracy-drop:1pt could not be judged: Its folder isn't there any more."
    )
    write_comparison(tmp_path / "old", **SMALL)
    (tmp_path / "old" / "test.parquet").write_bytes(b"PAR1")
    source = build(folder).report.read_text()
    assert "`../old`: ../old/test.parquet is damaged" in source
    assert str(tmp_path) not in source


@pytest.mark.slow
def test_the_command_compares_with_any_earlier_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, earlier = (write_comparison(tmp_path / name, **SMALL) for name in ("new", "old"))
    assert main(["report", str(folder), "--baseline", str(earlier)]) == 0
    assert "Compared with `../old`" in (folder / "details" / "since.md").read_text()
    assert main(["report", str(folder)]) == 0
    assert "What changed since" not in (folder / "report.md").read_text()
    assert not (folder / "details" / "since.md").exists()
    capsys.readouterr()
    for arguments, sentence in (
        (["report", str(folder), "--baseline", str(folder)], "is the comparison itself"),
        (["report", str(folder), "--baseline", str(tmp_path / "nowhere")], "There is no "),
    ):
        assert main(arguments) == 4
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1
