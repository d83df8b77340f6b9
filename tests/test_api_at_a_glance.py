"""The part of docs/adding-a-backend.md that is made from the code; CROSSCHECK_UPDATE_GOLDEN=1 writes it anew."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from pydantic import BaseModel

from rnn_crosscheck.harness import adam
from rnn_crosscheck.harness.adapter import SteppingModel, Update, keep_out
from rnn_crosscheck.harness.backend import (
    CAPABILITIES,
    OTHER,
    Backend,
    EpochStats,
    Forward,
    Layer,
    Model,
    Step,
    canonical_layers,
    check_batch,
    check_device,
    in_chunks,
)
from rnn_crosscheck.harness.batches import Batches
from rnn_crosscheck.harness.protocol import Cell, Factors, ModelSpec, TrainingSpec
from rnn_crosscheck.harness.weights import DRAWN_BY, GATE_NAMES, canonical_shapes, check_weights, initial_weights
from tests.conftest import ROOT

HELPERS = (check_batch, check_weights, check_device, initial_weights, canonical_layers, in_chunks, keep_out)
PAGE = ROOT / "docs" / "adding-a-backend.md"
BEGIN, END = "<!-- made by tests/test_api_at_a_glance.py -->", "<!-- end -->"

#: as the page writes them
_SHORT = {
    r"NDArray\[np\.(\w+)\]": r"\1",
    r"NDArray\[Any\]": "array",
    r"Mapping\[str, (object|Any|str)\]": "dict",
    r"dict\[str, \w+\]": "dict",
    r"typing\.|collections\.abc\.": "",
    r": '([^']*)'": r": \1",
    r" \| None = None": " = None",
    r" \| ": " or ",
    r"= Factors\(.*?\)": "= Factors()",
    r"Callable\[\[\w+\], Any\]": "function",
}


def short(text: str) -> str:
    for long, written in _SHORT.items():
        text = re.sub(long, written, text)
    return text


def signature(method: Any, *, called: str = "") -> str:
    known = inspect.signature(method)
    mine = [one for name, one in known.parameters.items() if name not in ("self", "cls")]
    returned = "" if called == "__init__" else f" -> {known.return_annotation}"
    return short(
        f"{called or method.__name__}{known.replace(parameters=mine, return_annotation=known.empty)}{returned}"
    )


def sentence(documented: Any) -> str:
    """The first sentence of a docstring."""
    first = inspect.cleandoc(documented.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=[.;]) ", first.replace("``", "`"))[0].rstrip(".;") + "."


def methods(kind: type, *, own: bool = True) -> Iterator[tuple[str, str]]:
    for name, found in vars(kind).items():
        if name.startswith("_") or not inspect.isroutine(getattr(kind, name)):
            continue
        if not own and hasattr(Model, name):
            continue
        method = getattr(kind, name)
        mark = "classmethod " if isinstance(found, classmethod) else ""
        asked = "" if getattr(method, "__isabstractmethod__", False) else " *(has a default)*"
        yield f"{mark}`{signature(method)}`{asked}", sentence(method)


def attributes(kind: type) -> Iterator[tuple[str, str]]:
    """Class attributes with the comments above them."""
    comment = ""
    for line in inspect.getsource(kind).splitlines():
        if found := re.match(r"    #: (.*)", line):
            comment = found[1]
        elif found := re.match(r"    (\w+): ClassVar\[(.*?)\]( = .*)?$", line):
            yield f"`{found[1]}: {found[2]}{found[3] or ''}`", comment
            comment = ""


def table(head: str, rows: Iterator[tuple[str, str]]) -> str:
    return "\n".join(
        [f"| {head} | |", "|:--|:--|", *(f"| {what} | {said} |".replace("  ", " ") for what, said in rows)]
    )


def record(kind: Any) -> str:
    """Name the fields of a record, with the values that they can have."""
    if issubclass(kind, BaseModel):
        shown = []
        for name, field in kind.model_fields.items():
            values = [repr(value) for value in get_args(field.annotation)]
            whole = isinstance(field.annotation, type)
            shown.append(f"`{name}`" + ("" if whole or not values else f" ({', '.join(values)})"))
        return ", ".join(shown)
    names = kind._fields if issubclass(kind, tuple) else [field.name for field in fields(kind)]
    hints = get_type_hints(kind, localns={"np": np})
    return f"`{kind.__name__}({', '.join(names)})`" if hints else ""


def factors() -> str:
    """Give the switches, and who honours each."""
    rows = ["| `TrainingSpec.factors` | values | what | honoured by |", "|:--|:--|:--|:--|"]
    for name, field in Factors.model_fields.items():
        if name in (*DRAWN_BY, "order"):
            who = "the harness"
        else:
            who = "`harness.adam`" if name in ("epsilon_place", "biases") else "your matched model"
        values = ", ".join(repr(value) for value in get_args(field.annotation))
        rows.append(f"| `{name}` | {values} | {field.description} | {who} |")
    return "\n".join(rows)


def attributes_of_a_model() -> list[str]:
    class Empty(SteppingModel):
        update = probabilities = get_weights = set_weights = None  # type: ignore[assignment]

    made: Any = Empty
    model = ModelSpec(name="rnn", cell="rnn", units=1, embedding=1, vocabulary=5, length=1)
    return list(vars(made("mine", model, TrainingSpec(), matched=True)))


def shapes() -> str:
    written = {1009: "V", 7: "E", 11: "H", 33: "3H", 44: "4H", 1: "1", 2: "2"}
    cells: dict[str, dict[str, str]] = {}
    for cell in get_args(Cell):
        model = ModelSpec(name=cell, cell=cell, units=11, embedding=7, vocabulary=1009, length=3)
        for name, shape in canonical_shapes(model).items():
            said = f"({', '.join(written[size] for size in shape)}{',' * (len(shape) == 1)})"
            cells.setdefault(name, {})[cell] = said
    rows = [f"| `{name}` | {' | '.join(by_cell.values())} |" for name, by_cell in cells.items()]
    order = [f"| gates | {' | '.join(', '.join(GATE_NAMES[cell]) for cell in get_args(Cell))} |"]
    return "\n".join([f"| parameter | {' | '.join(get_args(Cell))} |", "|:--|:--|:--|:--|", *rows, *order])


def at_a_glance() -> str:
    results = "\n".join(
        f"- {record(kind)}: {sentence(kind)}"
        for kind in (EpochStats, Forward, Layer, Step, Update, adam.Clipped, adam.Moves)
    )
    given = ", ".join(f"`{name}`" for name in vars(SteppingModel) if name in vars(Model) and not name.startswith("_"))
    parts = [
        table("`Backend` (`harness.backend`)", iter([*attributes(Backend), *methods(Backend)])),
        f"Capabilities: {', '.join(f'`{name}`' for name in CAPABILITIES)}.",
        table("`Model` (`harness.backend`)", methods(Model)),
        table(
            "`SteppingModel` (`harness.adapter`): a `Model` of which less is to be written",
            iter(
                [
                    (
                        f"`{signature(SteppingModel.__init__, called='__init__')}`",
                        f"To be called first; gives {', '.join(f'`self.{name}`' for name in attributes_of_a_model())}.",
                    ),
                    *methods(SteppingModel, own=False),
                ]
            ),
        ),
        f"Of a `Model` it has {given}.",
        "What they return:",
        results,
        f"`Batches`: an iterator of (tokens, labels); {', '.join(f'`{name}`' for name in public(Batches))}.",
        f"`ModelSpec`: {record(ModelSpec)}; `biases` (1, or 2 for a GRU).",
        f"`TrainingSpec`: {record(TrainingSpec)}.",
        factors(),
        f"In `native_values` a factor may be `'{OTHER}...'` too.",
        "Canonical shapes: V = `vocabulary`, E = `embedding`, H = `units`; gates side by side on the last axis.",
        shapes(),
        table(
            "Adam (`harness.adam`)",
            iter(
                [
                    (f"`{signature(adam.Adam.__init__, called='Adam')}`", sentence(adam.Adam)),
                    *(
                        (f"`{signature(one)}`", sentence(one))
                        for one in (adam.Adam.step, adam.clip, adam.rates, adam.moves)
                    ),
                ]
            ),
        ),
        table(
            "Helpers",
            iter(
                (f"`{one.__module__.removeprefix('rnn_crosscheck.')}.{signature(one)}`", sentence(one))
                for one in HELPERS
            ),
        ),
    ]
    return "\n\n".join(parts)


def public(kind: type) -> list[str]:
    return [
        name if not callable(found) else f"{signature(found).partition(' -> ')[0]}"
        for name, found in vars(kind).items()
        if not name.startswith("_") and (callable(found) or isinstance(found, property))
    ]


def test_the_page_has_the_contract_as_it_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    kept, _, after = rest.partition(END)
    made = f"\n\n{at_a_glance()}\n\n"
    if os.environ.get("CROSSCHECK_UPDATE_GOLDEN") == "1":
        PAGE.write_text(f"{before}{BEGIN}{made}{END}{after}", encoding="utf-8")
        kept = made
    assert kept == made, "CROSSCHECK_UPDATE_GOLDEN=1 writes it anew"


def test_the_functional_adam_of_the_page_is_adam() -> None:
    block = next(
        part for part in PAGE.read_text(encoding="utf-8").split("```python\n") if part.startswith("def moved(")
    )
    training = TrainingSpec(clipnorm=0.5, factors=Factors(biases="two"))
    rng = np.random.default_rng(0)
    known: dict[str, Any] = {"adam": adam, "training": training, "one": True, "m": {}, "v": {}}
    known["weights"] = {name: rng.normal(size=3) for name in ("bias", "kernel")}
    expected, optimizer = dict(known["weights"]), adam.Adam(training, one_for_two=True)
    for step in range(1, 4):
        gradients = {name: rng.normal(size=3) for name in expected}
        exec(block.partition("```")[0], known | {"step": step, "gradients": gradients}, found := {})
        known |= {name: found[name] for name in ("weights", "m", "v")}
        moves, norm = optimizer.step(gradients)
        expected = {name: values - moves[name] for name, values in expected.items()}
        assert found["norm"] == norm
        for name, values in expected.items():
            np.testing.assert_array_equal(known["weights"][name], values)


@pytest.mark.parametrize("kind", [Backend, Model, SteppingModel])
def test_nothing_of_the_contract_is_left_out(kind: type) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, found in vars(kind).items():
        if not name.startswith("_") and inspect.isroutine(found):
            assert f"{name}(" in text, name
