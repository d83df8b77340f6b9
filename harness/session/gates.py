"""Rules that fail a session when the comparison got worse since an earlier one: `--crosscheck-fail-if`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, cast, get_args

from rnn_crosscheck.harness.errors import UsageError

Rule = Literal["accuracy-drop", "step-slowdown", "disagreement"]
RULES: tuple[Rule, ...] = get_args(Rule)

#: rule -> unit, and the largest bound that can be passed (none for a time)
_UNITS: dict[Rule, tuple[str, float]] = {
    "accuracy-drop": ("pt", 100.0),
    "step-slowdown": ("%", math.inf),
    "disagreement": ("%", 100.0),
}

_FORMS = "accuracy-drop:1pt, step-slowdown:10%, disagreement:5%, or several of them with commas between"


@dataclass(frozen=True)
class Gate:
    """One rule with its bound.

    Attributes
    ----------
    rule
        ``accuracy-drop``: mean accuracy fell; ``step-slowdown``: a training step takes longer; ``disagreement``:
        predictions are others.
    bound
        As a fraction: 0.01 for one point, 0.1 for 10 %.
    """

    rule: Rule
    bound: float

    def __str__(self) -> str:
        """Write the gate as on the command line."""
        return f"{self.rule}:{100 * self.bound:.6g}{_UNITS[self.rule][0]}"


def parse_gates(text: str) -> tuple[Gate, ...]:
    """Read gates as they are given on the command line; an empty text is no gate.

    Raises
    ------
    UsageError
        A part is no rule, has no bound or another unit than its rule, or a rule comes twice.
    """
    gates: dict[str, Gate] = {}
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        gate = _gate(part)
        if gate.rule in gates:
            raise UsageError(f"--crosscheck-fail-if names the rule {gate.rule!r} twice; give it one bound.")
        gates[gate.rule] = gate
    return tuple(gates.values())


def _gate(part: str) -> Gate:
    name, _, bound = part.partition(":")
    rule = cast("Rule", name.strip())
    if rule not in RULES:
        raise _wrong(part, f"there is no rule {name.strip()!r}")
    unit, most = _UNITS[rule]
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(pt|%)?", bound.strip(), re.ASCII)
    if found is None:
        raise _wrong(part, "its bound should be a number of 0 or more with its unit")
    if found[2] != unit:
        raise _wrong(part, f"the unit of its bound should be {unit!r}")
    if float(found[1]) >= most:
        raise _wrong(part, f"its bound should be below {most:g}, since nothing can pass that")
    return Gate(rule, float(found[1]) / 100)


def _wrong(part: str, why: str) -> UsageError:
    return UsageError(f"--crosscheck-fail-if: {part!r} can't be read: {why}; valid are {_FORMS}.")
