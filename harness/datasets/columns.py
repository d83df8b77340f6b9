"""Which columns of the user's table are what: ``--crosscheck-columns text=review,label=sentiment``, else a guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rnn_crosscheck.harness.datasets.corpus import first_repeat
from rnn_crosscheck.harness.datasets.rows import shown
from rnn_crosscheck.harness.errors import DataError, UsageError

#: how a column is called whose role isn't given
_GUESSES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "review", "sentence", "content", "comment", "body", "message", "document"),
    "label": ("label", "sentiment", "class", "target", "polarity", "category"),
    "split": ("split",),
    "id": ("id", "example_id"),
}


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table.

    Attributes
    ----------
    text, label, split, id
        A name; None to guess it. An empty name of `split` or `id` says that there is no such column.
    """

    text: str | None = None
    label: str | None = None
    split: str | None = None
    id: str | None = None

    @property
    def names(self) -> tuple[str | None, ...]:
        """Names of text, label, split and id, in this order."""
        return self.text, self.label, self.split, self.id


def parse(given: str) -> Columns:
    """Read ``role=name`` pairs with commas between them.

    Raises
    ------
    UsageError
        It has another form, a role that isn't known, or a role or a column twice.
    """
    found: dict[str, str] = {}
    for pair in given.split(",") if given.strip() else ():
        role, equals, name = (part.strip() for part in pair.partition("="))
        if not equals or role not in _GUESSES:
            raise UsageError(
                "Columns are named as in --crosscheck-columns=text=review,label=sentiment,split=fold,id=key, with the "
                f"roles {', '.join(_GUESSES)}; got {pair!r}."
            )
        if role in found:
            raise UsageError(f"--crosscheck-columns names the column for {role} twice: {given!r}.")
        if not name and role in ("text", "label"):
            raise UsageError(f"--crosscheck-columns has no name for {role}, which every table needs: {given!r}.")
        if name and name in found.values():
            raise UsageError(f"--crosscheck-columns gives the column {name!r} two roles: {given!r}.")
        found[role] = name
    return Columns(**found)


def resolve(path: Path, given: Columns, header: Sequence[str]) -> Columns:
    """Find the column of each role: the one that is given, else the one that is called as such columns are.

    Raises
    ------
    DataError
        A column isn't there, or is there twice, or several may be meant; the sentence says how to name it.
    """
    if repeated := first_repeat(header):
        raise DataError(f"{path} has the column {shown(header[repeated[1]])} twice.")
    names = ", ".join(map(shown, header[:20])) + (", ..." if len(header) > 20 else "")
    found: dict[str, str] = {}
    for role, guesses in _GUESSES.items():
        name: str | None = getattr(given, role)
        if name:
            if name not in header:
                raise DataError(f"{path} has no column {name!r} for {role}; it has {names}.")
            found[role] = name
        elif name is None:
            possible = [one for one in header if one.strip().casefold() in guesses and one not in given.names]
            if len(possible) > 1:
                raise DataError(
                    f"{path} has several columns that may be {role}: {', '.join(map(repr, possible))}; name one with "
                    f"--crosscheck-columns={role}={possible[0]}."
                )
            if possible:
                found[role] = possible[0]
            elif role in ("text", "label"):
                raise DataError(
                    f"{path} has no column that is called like {role} ({', '.join(guesses)}); it has {names}; name it "
                    f"with --crosscheck-columns={role}=NAME."
                )
    return Columns(**{role: found.get(role, "") for role in _GUESSES})
