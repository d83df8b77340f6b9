"""Which columns of the user's table are what: ``--crosscheck-columns text=review,label=sentiment``."""

from __future__ import annotations

from dataclasses import dataclass, fields

from rnn_crosscheck.harness.errors import UsageError

_EXAMPLE = "text=review,label=sentiment,split=fold,id=key"


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


def parse(given: str) -> Columns:
    """Read ``role=name`` pairs with commas between them.

    Raises
    ------
    UsageError
        It has another form, a role that isn't known, or a role or a column twice.
    """
    roles = [field.name for field in fields(Columns)]
    found: dict[str, str] = {}
    for pair in given.split(",") if given.strip() else ():
        role, equals, name = (part.strip() for part in pair.partition("="))
        if not equals or role not in roles:
            raise UsageError(
                f"Columns are named as in --crosscheck-columns={_EXAMPLE}, with the roles {', '.join(roles)}; "
                f"got {pair!r}."
            )
        if role in found:
            raise UsageError(f"--crosscheck-columns names the column for {role} twice: {given!r}.")
        if not name and role in ("text", "label"):
            raise UsageError(f"--crosscheck-columns has no name for {role}, which every table needs: {given!r}.")
        if name and name in found.values():
            raise UsageError(f"--crosscheck-columns gives the column {name!r} two roles: {given!r}.")
        found[role] = name
    return Columns(**found)
