"""The verdict: a word and a number for each question and model, in a table, in sentences and in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from rnn_crosscheck.reports.analysis.findings import Findings, Why
from rnn_crosscheck.reports.analysis.frames import each, grouped
from rnn_crosscheck.reports.analysis.stages import STAGE_WORDS, SURE, by_accuracy
from rnn_crosscheck.reports.analysis.statistics import CONFIDENCE, UNDECIDED, UNKNOWN
from rnn_crosscheck.reports.analysis.verdicts import BETTER, MOST_SEEDS, SAME, UNMEASURED
from rnn_crosscheck.reports.pages.markdown import escape
from rnn_crosscheck.reports.writing import count, decimals, interval, listing, percent, plain, significant

_TWO = decimals(2)

#: what is held equal in each division
_UNDER = {"native": "With their own defaults (*native*)", "matched": "With everything equal (*matched*)"}

#: models that the table has columns for
MOST_MODELS = 8


@dataclass(frozen=True)
class Cell:
    """What is said of one question about one model: the `name` of who is ahead for sure, if anybody, and the rest."""

    name: str = ""
    said: str = ""

    def plain(self) -> str:
        """Write it for a terminal."""
        return plain(f"{self.name} {self.said}")

    def link(self, target: str) -> str:
        """Write it as Markdown that leads to its page."""
        name = f"**{escape(self.name)}** " if self.name else ""
        return f"[{name}{escape(self.said)}]({target})" if self.plain() else ""


@dataclass(frozen=True)
class Question:
    """One row of the verdict table; `page` has the evidence."""

    asked: str
    page: str
    cells: Mapping[str, Cell]


def questions(findings: Findings) -> list[Question]:
    """Give the rows of the verdict table that there is something to say to."""
    verdicts = findings.verdicts
    rows = [Question(f"accuracy, {name}", "accuracy", _accuracy(verdicts, name)) for name in _UNDER]
    rows += [
        Question("rounding alone, %", "causes", dict(_rounding(findings.why))),
        _cause(findings.why),
        Question("computes right", "causes", dict(_stages(findings.why))),
        Question("step time, ratio", "speed", _speed(verdicts)),
        Question("differ, native, %", "agreement", dict(_disagreement(findings))),
    ]
    return [row for row in rows if row.cells]


def _accuracy(verdicts: pd.DataFrame, division: str) -> dict[str, Cell]:
    mine = verdicts[(verdicts["question"] == "accuracy") & (verdicts["division"] == division)]
    return {row.model: _of_accuracy(row) for row in each(mine)}


def _of_accuracy(row: Any) -> Cell:  # noqa: ANN401 - a named tuple of pandas
    gap = f"+{percent(row.value)}"
    span = interval(percent)(row.low, row.high)
    if row.verdict == BETTER:
        return Cell(row.best, f"{gap} {span}")
    if row.verdict == SAME:
        both = f"{row.best} over {row.second}" if row.pairs > 1 else row.best
        return Cell(said=f"same: {both} {gap} {span}")
    if row.verdict == UNDECIDED:
        return Cell(said=f"{_undecided(row, 0)}: {row.best} {gap} {span}; {_more_seeds(row.needed)}")
    why = "one seed" if row.seeds == 1 else "no spread over seeds"
    return Cell(said=f"? {why}: {row.best} {gap}")


def _undecided(row: Any, zero: float) -> str:  # noqa: ANN401 - a named tuple of pandas
    """Say why, where the interval alone looks decided."""
    if row.low <= zero <= row.high:
        return UNDECIDED
    why = f"chosen of {count(row.pairs)} pairs" if row.p >= 1 - CONFIDENCE else "inside A/A"
    return f"{UNDECIDED} ({why})"


def _more_seeds(needed: float) -> str:
    return f"takes {count(needed)} seeds" if needed <= MOST_SEEDS else f"takes over {MOST_SEEDS} seeds"


def _speed(verdicts: pd.DataFrame) -> dict[str, Cell]:
    return {row.model: _of_speed(row) for row in each(verdicts[verdicts["question"] == "speed"])}


def _of_speed(row: Any) -> Cell:  # noqa: ANN401 - a named tuple of pandas
    span = interval(_TWO)(row.low, row.high)
    if row.verdict == UNMEASURED:
        return Cell(said=f"{UNMEASURED}: {span}")
    figures = f"{_TWO(row.value)} {span}"
    if row.verdict == BETTER:
        return Cell(row.best, figures)
    both = f"{row.best} against {row.second}" if row.pairs > 1 else row.best
    return Cell(said=f"{SAME if row.verdict == SAME else _undecided(row, 1)}: {both} {figures}")


def _rounding(why: Why) -> Iterator[tuple[str, Cell]]:
    for model, rows in grouped(why.ends, "model"):
        kinds = [kind for kind in ("continuing", "initial") if (rows["kind"] == kind).any()]
        pairs = rows.loc[rows["kind"] == "matched", "disagreement"]
        said = []
        if kinds:
            twins = rows.loc[rows["kind"] == kinds[0], "disagreement"]
            said.append(_from_to(twins))
        if len(pairs):
            said.append(f"two backends {_from_to(pairs)}")
        if kinds:
            yield str(model), Cell(said="; ".join(said))


def _from_to(shares: pd.Series) -> str:
    least, most = percent(shares.min()), percent(shares.max())
    return most if least == most else f"{least} to {most}"


def _cause(why: Why) -> Question:
    """Ask for the first cause by accuracy, where that was measured of all, else by the predicted probabilities."""
    measured = len(why.causes) > 0 and all(by_accuracy(rows) for _, rows in grouped(why.causes, "a", "b", "model"))
    return Question(
        f"cause, {'accuracy' if measured else 'probability'}", "causes", dict(_first_causes(why, measured=measured))
    )


def _first_causes(why: Why, *, measured: bool) -> Iterator[tuple[str, Cell]]:
    """Name what changes most when it is switched alone, and how much: points of accuracy, or of probability."""
    ranked = why.causes if measured else why.causes.sort_values("mean", ascending=False, kind="stable")
    firsts = ranked.drop_duplicates(["a", "b", "model"]).sort_index()
    # Of pairs that share a cause, the one in which it is sure speaks.
    firsts = firsts.sort_values("verdict", key=lambda verdict: verdict != SURE, kind="stable")
    firsts = firsts.drop_duplicates(["model", "title", "native_in"])
    for model in dict.fromkeys(why.causes["model"]):
        mine = why.causes[why.causes["model"] == model]
        known = firsts[(firsts["model"] == model) & firsts["mean"].notna()]
        names = [_by_points(row, mine) if measured else _by_probability(row) for row in each(known.head(2))]
        more = [f"{len(known) - 2} more"] if len(known) > 2 else []
        unknown = len(mine[mine["mean"].isna()].drop_duplicates(["title", "native_in"]))
        said = "; ".join([*names, *more])
        if unknown:
            said = f"{unknown} of unknown effect" + (f"; else {said}" if said else "")
        yield str(model), Cell(said=said)


def _by_probability(row: Any) -> str:  # noqa: ANN401 - a named tuple of pandas
    return f"{row.native_in}'s {row.title}, {significant(row.mean, 2)}"


def _by_points(row: Any, causes: pd.DataFrame) -> str:  # noqa: ANN401
    said = f"{row.native_in}'s {row.title}, {percent(row.difference)}"
    if row.verdict == UNKNOWN:
        return f"? {'one seed' if row.seeds == 1 else 'no spread over seeds'}: {said}"
    said += f" {interval(percent)(row.low, row.high)}"
    if row.verdict == SURE:
        return said
    asked = int(((causes["a"] == row.a) & (causes["b"] == row.b) & causes["p"].notna()).sum())
    why = "" if row.low <= 0 <= row.high else f" (one of {count(asked)} causes)"
    return f"{UNDECIDED}{why}: {said}"


def _stages(why: Why) -> Iterator[tuple[str, Cell]]:
    matched = why.stages[why.stages["division"] == "matched"]
    for model, rows in grouped(matched, "model"):
        failed = rows[~rows["ok"]].drop_duplicates("backend")
        total = rows["backend"].nunique()
        if len(failed):
            names = [f"{row.backend} fails: {STAGE_WORDS[row.stage]}" for row in each(failed.head(2))]
            more = f"; {len(failed) - 2} more" if len(failed) > 2 else ""
            yield str(model), Cell(said=f"{'; '.join(names)}{more}")
        else:
            who = {1: str(rows["backend"].iloc[0]), 2: "both"}.get(total, f"all {total}")
            yield str(model), Cell(said=f"{who}, all {rows['stage'].nunique()} stages")


def _disagreement(findings: Findings) -> Iterator[tuple[str, Cell]]:
    """Name the pair of backends that differs most beyond what seeds do."""
    groups = findings.groups
    mine = groups[(groups["kind"] == "backends") & (groups["division"] == "native")]
    for model, rows in grouped(mine, "model_a"):
        known = rows[rows["floor"].notna()] if rows["floor"].notna().any() else rows
        beyond = (known["disagreement"] - known["floor"].fillna(0)).dropna()
        if beyond.empty:
            continue
        row = next(each(known.loc[[beyond.idxmax()]]))
        pair = f"{row.backend_a} and {row.backend_b}: " if len(rows) > 1 else ""
        floor = "one seed: no floor" if pd.isna(row.floor) else f"seeds of one backend {percent(row.floor)}"
        yield str(model), Cell(said=f"{pair}{percent(row.disagreement)} ({floor})")


# --- in sentences -------------------------------------------------------------------------------------------


def sentences(findings: Findings) -> list[str]:
    """Say the verdict in a few points: own defaults, all equal and whether it is right, speed and the better model."""
    said = accuracy_in_words(findings)
    right, better = stages_in_words(findings.why), models_in_words(findings)
    if right and findings.verdicts["division"].eq("matched").any():
        said[-1] += f" {right}"
    elif right:
        said.append(right)
    return [*said, *speed_in_words(findings), *([better] if better else [])]


def accuracy_in_words(findings: Findings) -> list[str]:
    """Say who is more accurate, a sentence a division."""
    margin = findings.margin.accuracy
    verdicts = findings.verdicts[findings.verdicts["question"] == "accuracy"]
    said = []
    for division, rows in grouped(verdicts, "division"):
        parts = [
            f"**{escape(best)} is more accurate** ({_gaps(mine)} points)"
            for best, mine in grouped(rows[rows["verdict"] == BETTER], "best")
        ]
        if len(same := rows[rows["verdict"] == SAME]):
            who = "the two are" if (rows["pairs"] == 1).all() else "the best two are"
            point = f"{margin:g} point{'' if margin == 1 else 's'}"
            parts.append(f"{who} the same within {point} ({_models(same)})")
        if len(undecided := rows[rows["verdict"] == UNDECIDED]):
            parts.append(f"undecided: {_models(undecided)}")
        if len(unknown := rows[rows["verdict"] == "?"]):
            why = "one seed can't decide" if (unknown["seeds"] == 1).all() else "too few seeds to tell"
            parts.append(f"{why} ({_models(unknown)})")
        said.append(f"{_UNDER[str(division)]} {'; '.join(parts)}.")
    return said


def _models(rows: pd.DataFrame) -> str:
    return listing([escape(model) for model in rows["model"]])


def _gaps(rows: pd.DataFrame) -> str:
    return ", ".join(f"{escape(row.model)} +{percent(row.value)}" for row in each(rows))


def stages_in_words(why: Why) -> str:
    """Say whether the matched models compute the right thing."""
    matched = why.stages[why.stages["division"] == "matched"]
    if matched.empty:
        return ""
    failed = matched[~matched["ok"]].drop_duplicates(["backend", "model"])
    if failed.empty:
        names = [escape(name) for name in matched["backend"].unique()]
        who = {1: names[0], 2: "Both backends"}.get(len(names), f"All {len(names)} backends")
        verb = "computes" if len(names) == 1 else "compute"
        return f"{who} {verb} what the reference does."
    said = [
        f"**{escape(backend)} computes something else**: "
        f"{listing([f'{escape(row.model)} ({STAGE_WORDS[row.stage]})' for row in each(rows)])}"
        for backend, rows in grouped(failed, "backend")
    ]
    return f"{'; '.join(said)}."


def speed_in_words(findings: Findings) -> list[str]:
    """Say whose training step is faster."""
    rows = findings.verdicts[findings.verdicts["question"] == "speed"]
    parts = []
    for (best, second), mine in grouped(rows[rows["verdict"] == BETTER], "best", "second"):
        times = [f"{significant(row.value, 2)} ({escape(row.model)})" for row in each(mine)]
        parts.append(f"**{escape(best)} is faster**: a training step takes {listing(times)} of {escape(second)}'s time")
    if len(same := rows[rows["verdict"] == SAME]):
        who = "a training step" if (same["pairs"] == 1).all() else "a training step of the two fastest"
        parts.append(f"{who} takes the same time within {findings.margin.time:g} % ({_models(same)})")
    if len(wide := rows[rows["verdict"] == UNMEASURED]):
        parts.append(f"how long a training step takes could not be measured ({_models(wide)})")
    if len(rest := rows[~rows["verdict"].isin([BETTER, SAME, UNMEASURED])]):
        parts.append(f"it is undecided whose training step is faster ({_models(rest)})")
    return [_sentence(parts)] if parts else []


def _sentence(parts: list[str]) -> str:
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}."


def models_in_words(findings: Findings) -> str:
    """Say which model is the better one, under the division that users of the frameworks get if it is there."""
    if findings.models.empty:
        return ""
    rows = findings.models[findings.models["division"] == findings.models["division"].iloc[0]]
    surely: dict[str, list[str]] = {}
    for row in each(rows):
        if row.over != "examples" and (row.low > 0 or row.high < 0):
            ahead, behind = (row.a, row.b) if row.difference > 0 else (row.b, row.a)
            gap = f"{percent(abs(row.difference))} ({escape(row.backend)})"
            surely.setdefault(f"{escape(ahead)} over {escape(behind)}", []).append(gap)
    said = [f"{pair} by {listing(points[:3])} points" for pair, points in list(surely.items())[:3]]
    if not said:
        return ""
    division, growth = rows["division"].iloc[0], findings.growth
    return f"The better model ({division}): {'; '.join(said)}.{_growing(growth[growth['division'] == division])}"


def leads_that_grow(growth: pd.DataFrame) -> tuple[int, int]:
    """Count the leads that surely grow with the length, as they would if memory made them, and all that are known."""
    known = growth[(growth["scheme"] == "fifths") & growth["low"].notna()]
    return int((known["low"] > 0).sum()), len(known)


def _growing(growth: pd.DataFrame) -> str:
    grows, known = leads_that_grow(growth)
    if not known:
        return ""
    if not grows:
        return " No lead clearly grows with the length of the examples."
    return f" The lead clearly grows with the length of the examples in {grows} of {known} comparisons."
