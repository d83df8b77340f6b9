"""``pytest --benchmark`` as a user types it, in real processes, with backends that need no framework."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rnn_crosscheck.harness.folder import claim
from rnn_crosscheck.harness.results import (
    Manifest,
    OcclusionsRecord,
    RunResult,
    TransplantsRecord,
    read_record,
)
from rnn_crosscheck.harness.weights import read_weights

SMALL = (
    "data.train_examples=300",
    "data.valid_examples=100",
    "data.test_examples=200",
    "data.length=30",
    "training.epochs=2",
    "timing.starts=1",
    "timing.max_rounds=5",
    "timing.min_rounds=5",
)
FAKES = "tests.fakes:Steady,tests.fakes:Other"
#: for sessions whose report nobody reads
UNREPORTED = ("-p", "tests.unreported")


def arguments(backends: str = FAKES, *more: str, sets: tuple[str, ...] = SMALL) -> list[str]:
    overrides = [part for value in sets for part in ("--crosscheck-set", value)]
    # pytester's own tests must not see the options of this project's pyproject.toml.
    return ["--benchmark", "--crosscheck-backends", backends, "-p", "no:cacheprovider", *overrides, *more]


def results(folder: Path) -> dict[str, RunResult]:
    return {
        path.parent.name: read_record(path, RunResult) for path in sorted(folder.glob("comparison/runs/*/result.json"))
    }


def text(result: pytest.RunResult) -> str:
    return result.stdout.str() + result.stderr.str()


@pytest.mark.slow
def test_an_option_of_ours_without_a_comparison_is_refused(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_of_somebody_else(): pass")
    for given in (["--crosscheck-conformance", "pytorch"], ["--crosscheck-conformance=pytorch"]):
        result = pytester.runpytest_subprocess(*given)
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "--crosscheck-conformance has a meaning in a comparison only; add --crosscheck." in text(result)
    # What waits in the project's settings for a comparison keeps nobody from testing.
    pytester.makeini("[pytest]\naddopts = --crosscheck-models lstm\ncrosscheck_seeds = 3")
    assert pytester.runpytest_subprocess().ret == 0


@pytest.mark.slow
def test_one_command_compares_and_reports(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(*arguments(sets=(*SMALL, "seeds.native=1")), "-v")
    assert result.ret == 0, text(result)
    folder = pytester.path
    found = results(folder)
    assert len(found) == 2 * 2 * (1 + 1)
    assert {run.status for run in found.values()} == {"ok"}
    of_other = [run.environment for run in found.values() if run.spec.backend == "tests.fakes:Other"]
    assert {facts["iniconfig"] for facts in of_other} == {version("iniconfig")}
    for name, run in found.items():
        table = pq.read_table(folder / "comparison/runs" / name / "predictions.parquet")
        assert table.column_names == ["example_id", "label", "probability"]
        assert table.num_rows == 200
        assert run.scores is not None
        right = [
            (p >= 0.5) == (y == 1)
            for y, p in zip(*(table[c].to_pylist() for c in ("label", "probability")), strict=True)
        ]
        assert run.scores.accuracy == pytest.approx(sum(right) / 200)
    assert len({run.inputs_hash for run in found.values()}) == 1
    shown = text(result)
    assert "::test_training[native-tests.fakes.Steady-lstm-seed0]" in shown
    assert "::test_timing[tests.fakes.Other-rnn-train_step]" in shown
    result.assert_outcomes(passed=24)
    for name in ("report.md", "comparison.json", "manifest.json", "timings.json"):
        assert (folder / "comparison" / name).is_file()
    assert str(folder / "comparison" / "report.md") in shown
    verdict = shown.split("= verdict =")[1].split("\n=")[0]
    for asked in ("accuracy, native", "accuracy, matched", "step time, ratio"):
        assert asked in verdict


@pytest.mark.long
def test_finished_runs_are_not_run_again_until_something_changes(pytester: pytest.Pytester) -> None:
    once = (*arguments(), *UNREPORTED, "-k", "seed0 and rnn")
    assert pytester.runpytest_subprocess(*once).ret == 0
    before = {path: path.stat().st_mtime_ns for path in pytester.path.glob("comparison/runs/*/result.json")}
    assert len(before) == 4
    again = pytester.runpytest_subprocess(*once)
    assert again.ret == 0
    assert text(again).count("already on disk") == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before
    changed = pytester.runpytest_subprocess(*once, "--crosscheck-set", "training.learning_rate=2e-3")
    assert changed.ret == 0
    assert "already on disk" not in text(changed)
    # What was replaced isn't lost: asking for it again brings it back.
    back = pytester.runpytest_subprocess(*once)
    assert text(back).count("already on disk") == 4
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.long
def test_selection_works_as_in_pytest(pytester: pytest.Pytester) -> None:
    ids = pytester.runpytest_subprocess(*arguments(), "--collect-only", "-q").stdout.lines
    assert not (pytester.path / "comparison").exists()
    trainings = [line for line in ids if "test_training[" in line]
    assert len(trainings) == 16
    named = "test_training[matched-tests.fakes.Other-lstm-seed0]"
    for selected in (
        ["-k", "matched and Other and lstm"],
        [named],
        [f"::{named}"],
        [next(i for i in ids if named in i)],
    ):
        result = pytester.runpytest_subprocess(*arguments(), *UNREPORTED, *selected)
        assert result.ret == 0, text(result)
        result.assert_outcomes(passed=1, deselected=result.parseoutcomes().get("deselected", 0))
        assert list(results(pytester.path)) == ["matched-tests.fakes.Other-lstm-seed0"]
    by_marker = pytester.runpytest_subprocess(*arguments(), "-m", "matched", "--collect-only", "-q").stdout.lines
    assert len([line for line in by_marker if "test_" in line and "[" in line]) == 4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--crosscheck-protocol", "fast"], r"Unknown protocol 'fast'.*imdb, imdb-clipped, imdb-models, quick"),
        (
            ["--crosscheck-backends", "torch"],
            r"Unknown backend 'torch'.*keras-tensorflow, keras-torch, onnxruntime, pytorch",
        ),
        (["--crosscheck-models", "gpt"], r"Unknown model 'gpt'.*lstm, rnn"),
        (["--crosscheck-divisions", "naive"], r"Unknown division 'naive'.*matched, native"),
        (["--crosscheck-dataset", "mnist"], r"Unknown dataset 'mnist'.*reviews"),
        (["--crosscheck-device", "tpu"], r"Unknown device 'tpu'.*auto, cpu, cuda"),
        (["--crosscheck-seeds", "0"], r"seeds\.native"),
        (["--crosscheck-seeds", "a,b"], r"seeds"),
        (["--crosscheck-jobs", "-1"], r"workers\.jobs.*greater than or equal to 0"),
        (["--crosscheck-set", "training.epoch=1"], r"unknown key 'training\.epoch'.*epochs"),
        (["--crosscheck-set", "data.test_examples=1000000"], r"1000000|1,000,000"),
        (["--crosscheck-backends", "tests.fakes:Unfinished"], r"does not implement"),
        (["--crosscheck-diagnose", "speed"], r"Unknown diagnosis 'speed'.*accuracy.*order"),
        (["--crosscheck-diagnose", "order+accuracy"], r"Unknown diagnosis 'accuracy'; the valid ones are: biases"),
        (
            ["--crosscheck-backends", "tests.fakes:Steady", "--crosscheck-set", "training.factors.biases=two"],
            r"training\.factors\.biases is switched, but the matched models of tests\.fakes:Steady don't honour it",
        ),
        (["--crosscheck-set", "training.factors.biases=three"], r"training\.factors\.biases.*'one' or 'two'"),
        (["some_file.py"], r"--benchmark runs the comparison instead of test files, got 'some_file.py'"),
        (["-p", "no:benchmark"], r"needs the plugin pytest-benchmark"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_4(
    pytester: pytest.Pytester, options: list[str], sentence: str
) -> None:
    result = pytester.runpytest_inprocess("--benchmark", "-p", "no:cacheprovider", *options)
    shown = text(result)
    assert result.ret == 4, shown
    assert re.search(sentence, shown), shown
    assert "Traceback" not in shown
    assert not list(pytester.path.glob("comparison/runs/*"))


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (".", r"needs a new or an empty folder, or one that was written before; .* holds other files \(.*\)"),
        ("", r"--crosscheck-output needs the name of a folder, got an empty value\."),
        ("mine", r"'\S*mine' holds other files \(figures, manifest\.json, report\.md and 1 more\)"),
        ("mine/report.md", r"'\S*report\.md' is no folder"),
        ("link", r"'\S*link' holds other files"),
        ("dangling", r"'\S*dangling' is a link to nothing"),
    ],
)
def test_nothing_of_the_user_s_is_touched(pytester: pytest.Pytester, output: str, sentence: str) -> None:
    mine = pytester.path / "mine"
    (mine / "figures").mkdir(parents=True)
    for name in ("figures/mine.png", "report.md", "test.parquet"):
        (mine / name).write_text(f"my {name}")
    (mine / "manifest.json").write_text('{"name": "a web application", "icons": []}')
    (pytester.path / "link").symlink_to("mine")
    (pytester.path / "dangling").symlink_to("nowhere")

    def everything() -> dict[str, bytes]:
        there = [path for path in pytester.path.rglob("*") if path.name != ".benchmarks"]  # pytest-benchmark's own
        return {str(path): path.read_bytes() if path.is_file() else b"" for path in there}

    before = everything()
    result = pytester.runpytest_inprocess(*arguments(), "--crosscheck-output", output)
    assert result.ret == 4, text(result)
    assert re.search(sentence, text(result)), text(result)
    assert "Traceback" not in text(result)
    assert everything() == before


@pytest.mark.long
def test_an_empty_folder_is_taken_and_what_is_put_into_ours_is_left_alone(pytester: pytest.Pytester) -> None:
    folder = pytester.mkdir("comparison")
    # What a session leaves that is killed while it writes its first file.
    (folder / ".manifest.json-x1y2").write_text("{")
    one = (*arguments("tests.fakes:Steady", *RNN), "-k", "matched and training")
    assert pytester.runpytest_subprocess(*one).ret == 0
    mine = [folder / "notes.md", folder / "figures" / "mine.png", folder / "runs" / "mine.csv"]
    for path in mine:
        path.write_text("mine")
    assert pytester.runpytest_subprocess(*one).ret == 0
    assert [path.read_text() for path in mine] == ["mine"] * 3


@pytest.mark.long
def test_names_of_folders_select_nothing(pytester: pytest.Pytester) -> None:
    """The suite lies in folders whose names have `rnn` in them, and perhaps those of frameworks."""
    shown = pytester.runpytest_subprocess(*arguments(), "--collect-only", "-q", "-k", "rnn and not lstm").stdout.lines
    found = [line for line in shown if "::test_" in line]
    assert found
    assert all("-rnn" in line for line in found)
    for name in ("suite", "harness"):
        assert pytester.runpytest_subprocess(*arguments(), "--collect-only", "-q", "-k", name).ret == 5


@pytest.mark.long
def test_a_backend_that_is_not_installed_is_unavailable_with_the_command_and_the_others_go_on(
    pytester: pytest.Pytester,
) -> None:
    result = pytester.runpytest_subprocess(*arguments("tests.fakes:Absent,tests.fakes:Steady"), "-k", "seed0")
    assert result.ret == 0, text(result)
    result.assert_outcomes(passed=4, skipped=4, deselected=24)
    why = "tests.fakes:Absent needs a-framework-that-nobody-has, which is not installed: pip install 'rnn-crosscheck["
    assert f"left out: {why}" in text(result)
    statuses = {name: run.status for name, run in results(pytester.path).items()}
    assert sorted(statuses.values()) == ["ok"] * 4 + ["unavailable"] * 4
    report = (pytester.path / "comparison/details/runs.md").read_text()
    assert "pip install 'rnn-crosscheck[nobody]'" in report.replace("\\", "")  # a renderer drops the escapes


@pytest.mark.long
def test_a_killed_worker_costs_its_own_run_and_is_the_only_one_run_next_time(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = (*arguments("tests.fakes:Steady,tests.fakes:Dying"), "-k", "rnn and matched")
    first = pytester.runpytest_subprocess(*options)
    assert first.ret == 1
    first.assert_outcomes(passed=1, failed=1, deselected=first.parseoutcomes()["deselected"])
    assert "killed by SIGKILL" in text(first)
    assert "about to die" in text(first)  # the end of the worker's log
    assert "not used at all" not in text(first)
    assert "Traceback" not in text(first)
    dead = results(pytester.path)["matched-tests.fakes.Dying-rnn-seed0"]
    assert dead.status == "failed"
    assert dead.failure is not None
    assert dead.failure.signal == "SIGKILL"
    assert "SIGKILL" in (pytester.path / "comparison/details/runs.md").read_text()
    monkeypatch.setenv("CROSSCHECK_TEST_LIVE", "1")
    second = pytester.runpytest_subprocess(*options, *UNREPORTED)
    assert second.ret == 0
    assert text(second).count(": started") == 1
    assert "matched-tests.fakes.Dying-rnn-seed0: started" in text(second)


@pytest.mark.long
@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("Raising", "RuntimeError: the gradient exploded"),
        ("Hanging", "said nothing for 8 s"),
        ("Wide", r"predict must return float32 \(100,\), got float32 \(100, 1\)"),
        ("Unsure", r"predict must return probabilities in \[0, 1\], got values from nan"),
    ],
)
def test_a_backend_that_fails_leaves_a_record_with_the_reason(
    pytester: pytest.Pytester, backend: str, reason: str
) -> None:
    result = pytester.runpytest_subprocess(
        *arguments(f"tests.fakes:{backend}", sets=(*SMALL, "workers.stall_seconds=8")),
        *UNREPORTED,
        *RNN,
        "-k",
        "matched and training",
    )
    assert result.ret == 1
    assert re.search(reason, text(result)), text(result)
    (run,) = results(pytester.path).values()
    assert run.failure is not None
    assert re.search(reason, run.failure.reason)


@pytest.mark.slow
def test_a_report_is_there_before_the_end_and_survives_a_crash(pytester: pytest.Pytester) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.soon",
        *arguments("tests.fakes:Steady,tests.fakes:Slow", *RNN),
    ]
    process = subprocess.Popen(
        command, cwd=pytester.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    assert process.stdout is not None
    shown = []
    for line in process.stdout:
        shown.append(line)
        if "A report of what there is" in line:
            break
    process.kill()
    process.wait()
    found = results(pytester.path)
    cells = {(run.spec.division, run.spec.model.name, run.spec.backend) for run in found.values()}
    assert len(cells) == 4, "".join(shown)
    report = (pytester.path / "comparison/report.md").read_text()
    assert "**Unfinished**, still without" in report
    assert "## Accuracy, %" in report


RNN = ("--crosscheck-models", "rnn", "--crosscheck-seeds", "1")


def transplants(folder: Path) -> dict[str, TransplantsRecord]:
    paths = (folder / "comparison" / "transplants").glob("*.json")
    return {path.stem: read_record(path, TransplantsRecord) for path in paths}


@pytest.mark.long
def test_trained_weights_predict_the_same_in_every_backend_and_words_are_left_out(pytester: pytest.Pytester) -> None:
    options = (*arguments(FAKES, *RNN, *UNREPORTED), "-k", "training or trained", "-rs")
    first = pytester.runpytest_subprocess(*options)
    assert first.ret == 0, text(first)
    first.assert_outcomes(passed=8, deselected=first.parseoutcomes()["deselected"])
    folder = pytester.path / "comparison"
    keys = read_record(folder / "manifest.json", Manifest).keys
    found = transplants(pytester.path)
    assert set(found) == {"tests.fakes.Steady", "tests.fakes.Other"}
    for target, record in found.items():
        assert record.backend == target.replace("s.S", "s:S").replace("s.O", "s:O")
        assert record.keys == keys
        assert record.left_out == {}
        assert {transplant.source for transplant in record.transplants} == set(keys)
        for transplant in record.transplants:
            source = read_record(folder / "runs" / transplant.source / "result.json", RunResult).spec
            assert (transplant.backend, transplant.division) == (source.backend, source.division)
            assert (transplant.model, transplant.seed, transplant.examples) == ("rnn", 0, 200)
            assert 0 <= transplant.mean_difference <= transplant.max_difference < 1e-6
            assert transplant.changed == 0
    for path in (folder / "occlusions").glob("*.json"):
        record = read_record(path, OcclusionsRecord)
        assert record.left_out == {}
        assert record.keys == {run_id: key for run_id, key in keys.items() if path.stem in run_id}
        assert set(record.runs) == set(record.keys)
        check_occlusions(folder, path, record)
    assert len(list((folder / "occlusions").iterdir())) == 2 * 3

    files = [path for kind in ("transplants", "occlusions") for path in (folder / kind).iterdir()]
    before = {path: path.stat().st_mtime_ns for path in files}
    again = pytester.runpytest_subprocess(*options)
    assert text(again).count("already on disk") == 4 + 2 + 2, text(again)
    assert {path: path.stat().st_mtime_ns for path in files} == before

    lost, damaged = (folder / "runs" / f"{kind}-tests.fakes.Steady-rnn-seed0" / "weights.npz" for kind in DIVISIONS)
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:1000])
    later = pytester.runpytest_subprocess(*options, "--crosscheck-set", "timing.max_rounds=6")
    assert later.ret == 0, text(later)
    assert f"{lost.parent.name} is made anew: There is no {lost}" in text(later)
    assert f"{damaged.parent.name} is made anew: {damaged} is damaged" in text(later)
    for record in transplants(pytester.path).values():
        assert (len(record.transplants), record.left_out, record.keys) == (4, {}, keys)


DIVISIONS = ("native", "matched")


def check_occlusions(folder: Path, path: Path, record: OcclusionsRecord) -> None:
    """Hold the tables against the runs' own predictions and the texts."""
    probabilities = pq.read_table(path.with_suffix(".parquet")).to_pylist()
    words = pq.read_table(path.with_suffix(".words.parquet")).to_pylist()
    texts = {row["example_id"]: row for row in pq.read_table(folder / "test.parquet").to_pylist()}
    assert {row["example_id"] for row in words} == {
        example for examples in record.runs.values() for example in examples
    }
    for run_id, examples in record.runs.items():
        assert examples
        stored = pq.read_table(folder / "runs" / run_id / "predictions.parquet").to_pylist()
        predicted = {row["example_id"]: row["probability"] for row in stored}
        for example in examples:
            rows = [row for row in probabilities if (row["run_id"], row["example_id"]) == (run_id, example)]
            spelled = [row for row in words if row["example_id"] == example]
            kept = min(texts[example]["length"], 30) - (texts[example]["length"] <= 30)
            assert [row["position"] for row in spelled] == list(range(kept))
            assert [row["word"] for row in spelled] == re.sub(
                r'[!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~\t\n ]+', " ", texts[example]["text"].lower()
            ).strip(" ").split(" ")[-kept:]
            share = sum(row["oov"] for row in spelled) / min(texts[example]["length"], 30)
            assert share == pytest.approx(texts[example]["oov"])
            places = [(0, -1), *((1, at) for at in range(kept)), *((5, at) for at in range(0, kept, 5))]
            assert [(row["window"], row["position"]) for row in rows] == places
            assert rows[0]["probability"] == pytest.approx(predicted[example], abs=1e-6)
            assert len({row["probability"] for row in rows}) > 1


@pytest.mark.long
def test_weights_that_predict_something_else_elsewhere_fail_in_a_sentence(pytester: pytest.Pytester) -> None:
    backends = "tests.fakes:Steady,tests.fakes:Biased,tests.fakes:Plain"
    result = pytester.runpytest_subprocess(
        *arguments(backends, *RNN, *UNREPORTED), "-k", "(native and training) or transplant"
    )
    assert result.ret == 1
    # Nothing can be loaded into Plain, but what it was trained to can be loaded into the others.
    assert len(transplants(pytester.path)) == 2
    sources = {run.source for run in transplants(pytester.path)["tests.fakes.Steady"].transplants}
    assert sources == {f"native-tests.fakes.{name}-rnn-seed0" for name in ("Steady", "Biased", "Plain")}
    result.assert_outcomes(passed=3, failed=2, deselected=result.parseoutcomes()["deselected"])
    shown = " ".join(text(result).split())
    for target, source in (("Steady", "Biased"), ("Biased", "Steady")):
        assert (
            f"tests.fakes:{target}: with the trained weights of native-tests.fakes.{source}-rnn-seed0 a probability "
            "differs by 0.001 from what that run predicted, expected at most 0.0001." in shown
        )
    assert "Traceback" not in shown
    for run_id in sources:
        assert read_weights(pytester.path / "comparison" / "runs" / run_id / "weights.npz")


@pytest.mark.slow
def test_without_trained_weights_there_is_nothing_to_check(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess(
        *arguments("tests.fakes:Absent,tests.fakes:Steady", *RNN, *UNREPORTED), "-k", "trained", "-rs"
    )
    result.assert_outcomes(skipped=4, deselected=result.parseoutcomes()["deselected"])
    shown = text(result)
    assert "pip install 'rnn-crosscheck[nobody]'" in shown
    assert "No run has ended with a result" in shown
    assert "No run of this backend has an example to be read" in shown
    assert not (pytester.path / "comparison" / "transplants").exists()


@pytest.mark.slow
def test_ini_values_stand_for_options(pytester: pytest.Pytester) -> None:
    lines = "".join(f"    {value}\n" for value in SMALL)
    pytester.makeini(
        "[pytest]\ncrosscheck_backends = tests.fakes:Steady\ncrosscheck_models = rnn\ncrosscheck_seeds = 3,4\n"
        f"crosscheck_output = there\ncrosscheck_set =\n{lines}"
    )
    result = pytester.runpytest_subprocess("--benchmark", *UNREPORTED, "-k", "native and seed4")
    assert result.ret == 0, text(result)
    manifest = read_record(pytester.path / "there" / "manifest.json", Manifest)
    assert sorted(manifest.runs) == sorted(
        f"{division}-tests.fakes.Steady-rnn-seed{seed}" for division in ("native", "matched") for seed in (3, 4)
    )


@pytest.mark.slow
def test_without_the_flag_nothing_is_collected_or_imported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_heavy_is_there():
            heavy = {"tensorflow", "keras", "torch", "pandas", "pyarrow", "numpy", "pydantic"}
            assert heavy & set(sys.modules) == set()
            ours = sorted(name for name in sys.modules if name.startswith("rnn_crosscheck"))
            assert ours == ["rnn_crosscheck", "rnn_crosscheck.plugin"]
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1)


@pytest.mark.slow
def test_a_damaged_run_is_trained_again_and_a_line_says_so(pytester: pytest.Pytester) -> None:
    command = [*arguments("tests.fakes:Steady", *RNN, *UNREPORTED), "-k", "training"]
    assert pytester.runpytest_subprocess(*command).ret == 0
    table = pytester.path / "comparison/runs/matched-tests.fakes.Steady-rnn-seed0/predictions.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[:100])
    again = pytester.runpytest_subprocess(*command)
    assert again.ret == 0
    again.stdout.re_match_lines([r"matched-\S+-rnn-seed0 is made anew: \S+predictions\.parquet is damaged: .*"])
    assert table.read_bytes() == whole
    again.stdout.no_re_match_line(r"native-\S+: started")


@pytest.mark.slow
def test_a_second_comparison_in_a_folder_says_whose_it_is_and_changes_nothing(pytester: pytest.Pytester) -> None:
    lock = claim(pytester.path / "comparison", "--crosscheck-output")
    result = pytester.runpytest_subprocess(*arguments("tests.fakes:Steady", *RNN))
    lock.release()
    assert result.ret == 4
    assert f"under way in {pytester.path / 'comparison'}: process {os.getpid()}, since " in text(result)
    assert sorted(path.name for path in (pytester.path / "comparison").iterdir()) == [".lock", ".lock.txt"]
