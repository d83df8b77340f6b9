"""All checks by name, carried out one at a time; which of them apply follows from the declared capabilities.

They run in a worker process, since they use the framework; ``pytest --benchmark --crosscheck-conformance NAME`` leads
them (`harness.session.conformance`).
"""

from __future__ import annotations

import ast
import inspect
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rnn_crosscheck.harness.backend import Backend
from rnn_crosscheck.harness.conformance import conduct, models, native, predictions, repeating, training
from rnn_crosscheck.harness.conformance.trial import Check, Trial
from rnn_crosscheck.harness.errors import CrosscheckError

#: in the order in which they are best mended: what a later one takes for granted is asked by an earlier one
CHECKS: Mapping[str, Check] = {
    name: found
    for topic in (models, predictions, training, native, repeating, conduct)
    for name, found in vars(topic).items()
    if isinstance(found, Check)
}


def checks_of(backend: type[Backend]) -> tuple[Check, ...]:
    """List the checks that apply to a backend, in the order in which they are best mended."""
    return tuple(check for check in CHECKS.values() if check.applies(backend))


@dataclass(frozen=True)
class Verdict:
    """What a check came to: nothing wrong, a problem in a sentence, or something that is still to be written."""

    problem: str = ""
    todo: str = ""
    answer: str = ""
    #: whether another check has said the same
    told: bool = False


def carry_out(trial: Trial, name: str) -> Verdict:
    """Run one check in this process; whatever a backend raises is its problem."""
    try:
        return Verdict(answer=CHECKS[name].function(trial) or "")
    except CrosscheckError as error:
        return Verdict(problem=str(error))
    except NotImplementedError as error:
        return Verdict(todo=str(error) or f"{_place(error, trial)} raises NotImplementedError")
    except Exception as error:  # noqa: BLE001 - whatever a framework raises
        traceback.print_exc()
        return Verdict(
            problem=f"{type(error).__name__} in {_place(error, trial)}: {str(error).strip() or 'no message'}"
        )


def _place(error: BaseException, trial: Trial) -> str:
    """Say where an error was raised: the last line of the author's own files, if it came by there."""
    kinds = (type(trial.backend), type(trial.backend).model)
    own = {inspect.getfile(base) for kind in kinds for base in kind.__mro__ if base.__module__ == kind.__module__}
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if frame.filename in own), frames[-1])
    return f"{Path(last.filename).name}, line {last.lineno} ({last.name})"


def to_be_written(backend: type[Backend]) -> list[str]:
    """List what the file of a backend raises NotImplementedError for, in its order."""
    tree = ast.parse(Path(inspect.getfile(backend)).read_text(encoding="utf-8"))
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    found = [
        (call.lineno, argument.value)
        for call in raised
        if isinstance(call.func, ast.Name) and call.func.id == "NotImplementedError"
        for argument in call.args[:1]
        if isinstance(argument, ast.Constant)
    ]
    return [str(said) for _, said in sorted(found)]
