"""The answer in three to six sentences, made from the figures, each with its number and its uncertainty."""

from __future__ import annotations

from typing import Any

import pandas as pd

from rnn_crosscheck.reports.analysis.accuracy import sure
from rnn_crosscheck.reports.analysis.divergence import ENOUGH_TWINS, HORIZON, SLACK
from rnn_crosscheck.reports.analysis.findings import Findings, Why
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.analysis.stages import STAGE_WORDS
from rnn_crosscheck.reports.pages.markdown import escape
from rnn_crosscheck.reports.pages.since import in_short
from rnn_crosscheck.reports.writing import count, listing, percent, scientific, significant

#: what is held equal in each division, in a reader's words
DIVISION_WORDS = {
    "native": "With each framework's own defaults (*native*)",
    "matched": "With equal initial weights, batches and arithmetic (*matched*)",
}

OPERATIONS = {
    "train_step": "a training step",
    "predict_batch": "predicting a batch",
    "predict_one": "predicting one example",
}

#: with fewer seeds, an interval over them is not worth much
ENOUGH_SEEDS = 5

#: comparisons spelled out in one sentence; the table has the rest
_SPELLED_OUT = 4

#: sentences of the answer (verdicts and what changed come on top, if there are any), and lost runs that it names
_MOST_BULLETS, _NAMED_LOSSES = 6, 2


def answer(findings: Findings) -> list[str]:
    """Write the sentences, worst news first, as Markdown."""
    lost = _without_result(findings.runs)
    if findings.accuracy.empty:
        found = [*_stages(findings.why), *_speed(findings)]
        about = " about accuracy and predictions" if found else ""
        # Who chose what isn't trained, `-k parity` or `-k timing`, has lost nothing.
        chosen = bool(found) and (findings.runs["status"] == "not run").all()
        return [*([] if chosen else lost), *found, f"No run has a result, so nothing can be concluded{about}."]
    since = in_short(findings.since) if findings.since else []
    news = [*_backends(findings), *_models(findings), *_speed(findings), *_disagreement(findings)]
    why = _why(findings.why)
    limits = _limits(findings.accuracy)
    if len(lost) + len(news) + 1 > _MOST_BULLETS:
        # What is missing and what can't be concluded are both about how far to trust the rest.
        return [" ".join([*lost, limits]), *since, *news, *why]
    return [*lost, *since, *news, *why, limits]


def _without_result(runs: pd.DataFrame) -> list[str]:
    lost = runs[runs["status"] != "ok"]
    if lost.empty:
        return []
    kinds = listing([f"{len(group)} {status}" for status, group in grouped(lost, "status")])
    names = [escape(str(name)) for name in lost.index[:_NAMED_LOSSES]]
    if len(lost) > len(names):
        names.append(f"{len(lost) - len(names)} more")
    have = "has" if len(lost) == 1 else "have"
    return [
        f"**{len(lost)} of {len(runs)} runs {have} no result** ({kinds}): {listing(names)}; "
        "see [Every run](#every-run)."
    ]


def _backends(findings: Findings) -> list[str]:
    if findings.accuracy["backend"].nunique() == 1:
        mean = listing([f"{percent(row.mean)} % ({row.model}, {row.division})" for row in each(findings.accuracy)])
        name = escape(findings.accuracy["backend"].iloc[0])
        return [f"Only {name} has results, so backends can't be compared; its test accuracy is {mean}."]
    said = []
    for division, rows in grouped(findings.backends, "division"):
        said.append(f"{DIVISION_WORDS[str(division)]}{_differences(rows, 'model')}")
    return said


def _models(findings: Findings) -> list[str]:
    if findings.models.empty:
        return []
    # Models are told apart under one division: the one that users of the frameworks get, if it is there.
    division = findings.models["division"].iloc[0]
    rows = findings.models[findings.models["division"] == division]
    said = f"Between the models (*{division}*){_differences(rows, 'backend', 'the ')}"
    grown = findings.growth[(findings.growth["division"] == division) & (findings.growth["scheme"] == "fifths")]
    known = grown[grown["low"].notna()]
    if known.empty:
        return [said]
    first = known.iloc[0]
    clear = int((known["low"] > 0).sum())
    return [
        f"{said} The {escape(first['a'])}'s lead on long examples is clearly larger than on short ones in {clear} of "
        f"{len(known)} backend{'' if len(known) == 1 else 's'} ([By length](#by-length))."
    ]


def remembering(findings: Findings) -> list[str]:
    """Say what the figures carry of the claim that an lstm remembers longer: a sentence a division and backend."""
    leads = findings.leads[findings.leads["scheme"] == "fifths"]
    grown = findings.growth[findings.growth["scheme"] == "fifths"]
    said = []
    for row in each(grown):
        mine = leads
        for column in ("division", "backend", "a", "b"):
            mine = mine[mine[column] == getattr(row, column)]
        first, last = (_lead(bucket) for bucket in each(mine.iloc[[0, -1]]))
        a, b = escape(row.a), escape(row.b)
        where = f"{escape(row.backend)}, {row.division}"
        from_to = f"the {a}'s lead over the {b} is {first} on the shortest fifth and {last} on the longest"
        if pd.isna(row.low):
            few = min(row.seeds_a, row.seeds_b) == 1
            why = "with one seed, nothing can be said about whether it grows" if few else "there is no interval"
            said.append(f"{where}: {from_to}; {why}.")
            continue
        change = f"{'+' if row.difference > 0 else ''}{percent(row.difference)} points"
        span = f"95 % interval {percent(row.low)} to {percent(row.high)}, {_seeds(row.seeds_a, row.seeds_b)}"
        if row.low > 0:
            verdict = "it grows with the length, as the claim would have it"
        elif row.high < 0:
            verdict = "it shrinks with the length, against the claim"
        else:
            verdict = "the interval includes 0, so these seeds neither show that it grows nor that it doesn't"
        said.append(f"{where}: {from_to}. Change: {change} ({span}); {verdict}.")
    return said


def _lead(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    span = "" if pd.isna(row.low) or row.over == "examples" else f" [{percent(row.low)}, {percent(row.high)}]"
    return f"{percent(row.difference)}{span} points"


def _largest(rows: pd.DataFrame) -> list[pd.Series]:
    """Take as many comparisons as one sentence bears, the largest differences, in the table's order."""
    chosen = rows["difference"].abs().sort_values(ascending=False, kind="stable").index[:_SPELLED_OUT]
    return [row for index, row in rows.iterrows() if index in chosen]


def _rest(rows: pd.DataFrame) -> str:
    if len(rows) <= _SPELLED_OUT:
        return ""
    clear = sum(sure(row) for _, row in rows.iterrows())
    return f" These are the largest of {len(rows)} differences, {clear} of which have an interval that excludes 0."


def _differences(rows: pd.DataFrame, shared: str, article: str = "") -> str:
    """Say the largest differences of a table; what they have in common is said once, in front."""
    kinds = set(zip(rows["seeds_a"], rows["seeds_b"], rows["over"], strict=True))
    common = ""
    if len(kinds) == 1:
        seeds_a, seeds_b, over = next(iter(kinds))
        single = over == "examples"
        common = " with one seed" if single else f", 95 % intervals over {_seeds(seeds_a, seeds_b)}"
    phrases = [f"{escape(row[shared])}: {_difference(row, article, spelled=not common)}" for row in _largest(rows)]
    remark = " One seed says nothing about other seeds." if (rows["over"] == "examples").any() else ""
    return f"{common}. {'; '.join(phrases)}.{_rest(rows)}{remark}"


def _difference(row: pd.Series, article: str, spelled: bool) -> str:
    """Say by how much one of two was more accurate, and how sure that is; never that two are alike.

    Parameters
    ----------
    spelled
        Whether to say what the interval is, and over how many seeds.
    """
    sign = 1 if row["difference"] >= 0 else -1
    ahead, behind = (row["a"], row["b"]) if sign == 1 else (row["b"], row["a"])
    ahead, behind = article + escape(ahead), article + escape(behind)
    low, high = sorted((sign * row["low"], sign * row["high"]))
    points, span = percent(abs(row["difference"])), f"{percent(low)} to {percent(high)}"
    stood = f"{ahead} stood {points} points above {behind}"
    if points == percent(0):
        stood = f"{ahead} and {behind} stood less than 0.05 points apart"
    seeds = _seeds(row["seeds_a"], row["seeds_b"])
    if row["over"] == "examples":
        return f"{stood} with one seed" if spelled else stood
    if pd.isna(row["low"]):
        return f"{stood} ({seeds}, which don't spread: there is no interval)"
    within = f"95 % interval {span}, {seeds}" if spelled else span
    if sure(row):
        return f"**{ahead} was {points} points more accurate** than {behind} ({within})"
    return f"{stood}, but the interval includes 0 ({within})"


def _seeds(a: int, b: int) -> str:
    return f"{a} seeds each" if a == b else f"{a} and {b} seeds"


def _speed(findings: Findings) -> list[str]:
    timed = findings.timings
    rows = timed[~timed["baseline"] & timed["ratio"].notna()]
    if rows.empty:
        return []
    operation = rows["operation"].iloc[0]
    base = escape(timed.loc[timed["baseline"], "backend"].iloc[0])
    rows = rows[rows["operation"] == operation]
    default, tuned = rows[rows["setting"] == "default"], rows[rows["setting"] != "default"]
    said = []
    if len(default):
        phrases = [
            f"{escape(backend)} took {listing([_ratio(row) for row in each(mine)])} of {base}'s time"
            for backend, mine in grouped(default.head(_SPELLED_OUT), "backend")
        ]
        rest = "" if len(default) <= _SPELLED_OUT else " The table under [Speed](#speed) has the rest."
        said.append(
            f"Speed, measured in turn, with 95 % intervals: for {OPERATIONS[operation]}, {'; '.join(phrases)}.{rest}"
        )
    if len(tuned):
        phrases = [
            f"{escape(backend)} {listing([_ratio(row) for row in each(mine)])}"
            for backend, mine in grouped(tuned.head(_SPELLED_OUT), "backend")
        ]
        said.append(f"Tuned, in times of what {base} takes by default: {'; '.join(phrases)}.")
    return [" ".join(said)]


def _ratio(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Give a ratio with its interval, and say when it is no difference."""
    span = f"{significant(row.low)} to {significant(row.high)}"
    noise = "" if row.clear else ", not clear of the noise of this machine"
    return f"**{significant(row.ratio)}** ({escape(row.model)}, {span}{noise})"


def _disagreement(findings: Findings) -> list[str]:
    groups = findings.groups
    if groups.empty:
        return []
    # Kinds come in the order of what is asked: backends, else models, else seeds.
    across = groups[groups["kind"] == groups["kind"].iloc[0]]
    shown = across.nlargest(_SPELLED_OUT, "disagreement").sort_index()
    total = findings.pairs[["both_right", "only_a", "only_b", "both_wrong"]].iloc[0].sum()
    rest = f" (the largest {len(shown)} of {len(across)} groups)" if len(across) > len(shown) else ""
    sides = {row.Index: _sides_of(row) for row in shown.itertuples()}
    phrases = [
        f"{who} disagree on {listing([_share(row) for row in each(mine)])}"
        for who, mine in grouped(shown.assign(who=pd.Series(sides)), "who")
    ]
    said = f"Of the {count(total)} test examples, {'; '.join(phrases)}{rest}."
    if shown["kind"].iloc[0] == "seeds":
        said += " That is chance, and what any disagreement of two backends is to be held against."
    elif shown["floor"].notna().any():
        said += " Floor: what two seeds of one backend disagree on, mean of both backends."
    return [said]


def _sides_of(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Name the two sides of a group of pairs."""
    if row.kind == "seeds":
        return f"two seeds of {escape(row.backend_a)}"
    sides = (row.backend_a, row.backend_b) if row.kind == "backends" else (row.model_a, row.model_b)
    return listing([escape(side) for side in sides])


def _share(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Give what a group of pairs disagrees on, beside its floor."""
    shared = row.backend_a if row.kind == "models" else row.model_a
    floor = "one seed, so no floor" if pd.isna(row.floor) else f"floor {percent(row.floor)} %"
    beside = "" if row.kind == "seeds" else f"; {floor}"
    return f"{percent(row.disagreement)} % ({escape(shared)}, {row.division}{beside})"


def _limits(summaries: pd.DataFrame) -> str:
    """Say what can't be concluded."""
    least = {str(division): int(n) for division, n in summaries.groupby("division", sort=False)["seeds"].min().items()}
    single = [division for division, seeds in least.items() if seeds == 1]
    few = [f"{division}: {seeds}" for division, seeds in least.items() if 1 < seeds < ENOUGH_SEEDS]
    said = []
    if len(single) == len(least):
        said.append(
            "**With one seed nothing can be concluded** about which is more accurate: another seed could turn "
            "every order round."
        )
    elif single:
        said.append(f"**With one seed nothing can be concluded** about the {listing(single)} division.")
    if few:
        said.append(
            f"An interval over fewer than {ENOUGH_SEEDS} seeds ({', '.join(few)}) is not worth much: look at the "
            "single runs."
        )
    said.append(
        "An interval that includes 0 is no evidence that two are alike, and all this holds for this protocol only."
    )
    return " ".join(said)


def _why(why: Why) -> list[str]:
    """Say the verdicts on the matched pairs in one sentence, and the first of the known causes in another."""
    if why.verdicts.empty:
        return []
    several = len(why.verdicts[["a", "b"]].drop_duplicates()) > 1
    shown = [
        (f"{_pair(row)}, " if several else "") + f"{escape(row.model)} **{row.verdict}**{_because(row)}"
        for row in each(why.verdicts.head(_SPELLED_OUT))
    ]
    rest = len(why.verdicts) - len(shown)
    more = f" and {rest} more under [Why they differ](#why-they-differ)" if rest else ""
    said = (
        "Matched pairs, held against twins (the same run again, disturbed by rounding alone): "
        f"{'; '.join(shown)}{more}."
    )
    firsts = why.causes[why.causes["rank"] == 1].drop_duplicates(["title", "native_in", "model"])
    names = [
        f"{escape(title)} of {escape(backend)} ({listing([escape(model) for model in rows['model']])})"
        for (title, backend), rows in grouped(firsts, "title", "native_in")
    ]
    if names:
        said += f" First of the known causes between native models: {listing(names[:_SPELLED_OUT])}."
    return [said]


def _stages(why: Why) -> list[str]:
    """Say of which pairs of matched models every stage is within its tolerance, and which stages aren't."""
    held: list[str] = []
    out: list[str] = []
    for (a, b), rows in grouped(why.verdicts, "a", "b"):
        of_pair = f" ({escape(str(a))} and {escape(str(b))})"
        whole = [escape(row.model) for row in each(rows) if row.staged == 2 and not isinstance(row.stage, str)]
        held += [listing(whole) + of_pair] if whole else []
        out += [f"{escape(row.model)}{_because(row)}" for row in each(rows) if isinstance(row.stage, str)]
    said = []
    if out:
        said.append(f"**Out of tolerance**, the first stage of each: {'; '.join(dict.fromkeys(out))}.")
    if held:
        said.append(
            f"Every stage of both matched models, in the default setting, is within its tolerance: {'; '.join(held)}."
        )
    return said


def _pair(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    return f"{escape(row.a)} and {escape(row.b)}"


def _because(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Give in a few words what a verdict rests on."""
    if row.verdict == "undecided":
        return f" ({row.twins} of {ENOUGH_TWINS} continuing twins)" if row.twins < ENOUGH_TWINS else " (no traces)"
    if row.verdict == "equivalent":
        return (
            " (no horizon)" if pd.isna(row.horizon) else f" (they part like twins, from step {count(row.horizon)} on)"
        )
    if isinstance(row.stage, str):
        return f" ({STAGE_WORDS[row.stage]}: {escape(row.parameter)} in {escape(row.backend)})"
    return f" (they part at step {count(row.parts_at)}, sooner than twins)"


def judgements(why: Why) -> list[str]:
    """Write the verdict on each matched pair as one sentence or two, with the numbers that it rests on."""
    return [f"{escape(row.model)}, {_pair(row)}: **{row.verdict}**. {_judgement(row)}" for row in each(why.verdicts)]


def _judgement(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    twins = f"{count(row.twins)} continuing twin{'' if row.twins == 1 else 's'}"
    if row.verdict == "undecided" and pd.isna(row.last):
        return f"Not both of them were traced ({twins}), so there is no curve to judge. {_checked(row)}"
    if isinstance(row.stage, str):
        said = (
            f"The first stage out of its tolerance is the {STAGE_WORDS[row.stage]} of {escape(row.backend)}: "
            f"{escape(row.parameter)} is {scientific(row.error)} off the reference, where {scientific(row.tolerance)} "
            "is allowed."
        )
        if pd.isna(row.last):
            return said
        return f"{said} Besides, {_apart(row)}{'' if row.twins else '; there are no twins to hold that against'}."
    checked = _checked(row)
    if row.verdict == "undecided":
        there = f"{'is' if row.twins == 1 else 'are'} {twins if row.twins else 'none'}"
        return f"A verdict takes {ENOUGH_TWINS} continuing twins, and there {there}. So far, {_apart(row)}. {checked}"
    if row.verdict == "different":
        when = "no twin passed the horizon" if pd.isna(row.horizon) else f"the horizon is step {count(row.horizon)}"
        return (
            f"They part at step {count(row.parts_at)} ({when}): {scientific(row.parts_difference)} in probability, "
            f"more than {SLACK:g} times the {scientific(row.parts_twins)} that the {twins} reach by the next recorded "
            f"step. {checked}"
        )
    return f"Against {twins}, {_apart(row)}. {checked}"


def _checked(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say what is known of the stages of a pair none of whose recorded stages failed."""
    stages = {0: "No stages were recorded.", 1: "The stages of one of them were recorded and are within tolerance."}
    return stages.get(row.staged, "Every stage of both is within its tolerance.")


def _apart(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say how far a pair stands apart before its horizon and at the end, beside twins."""

    def gap(difference: float, twins: float) -> str:
        beside = "" if pd.isna(twins) else f" (twins {scientific(twins)})"
        return f"{scientific(difference)}{beside}"

    last = f"{gap(row.difference, row.difference_twins)} at most over all {count(row.last)} steps"
    if pd.isna(row.horizon):
        passed = f", with no twin past {HORIZON:g}: no horizon was reached" if row.twins else ""
        return f"the largest difference in probability is {last}{passed}"
    if pd.isna(row.calm):
        return f"twins pass {HORIZON:g} at the first recorded step; the largest difference in probability is {last}"
    return (
        f"the largest difference in probability is {gap(row.calm_difference, row.calm_twins)} up to step "
        f"{count(row.calm)}, before the horizon (step {count(row.horizon)}, where a twin passes {HORIZON:g}), "
        f"and {last}"
    )
