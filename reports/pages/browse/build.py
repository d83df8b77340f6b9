"""Puts the page together: facts, texts and probabilities packed into the template beside script and style sheet."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rnn_crosscheck.harness.folder import write_text
from rnn_crosscheck.reports.pages.browse.data import data
from rnn_crosscheck.reports.read.comparison import Occlusions, Predicted

#: the page, and the texts that have no room in it
PAGE, TEXTS = "examples.html", "examples-texts.js"

#: with more examples, or more probabilities, there is no page: a browser would take too long to open it
MOST, MOST_PROBABILITIES = 100_000, 10_000_000

_HERE = Path(__file__).parent

#: how hard texts are pressed: harder in what one may want to send to somebody, quicker in what lies beside
_HARD, _QUICK = 5, 1


def is_there(predicted: Predicted) -> bool:
    """Whether there is a page: something was predicted, and no more of it than a browser shows."""
    return 0 < predicted.probabilities.size <= MOST_PROBABILITIES and len(predicted.test) <= MOST


def write(
    folder: Path,
    title: str,
    predicted: Predicted,
    groups: pd.DataFrame,
    listed: Iterable[str],
    occlusions: Occlusions | None = None,
) -> None:
    """Write the page into a folder, and the texts that lie beside it; see `data` for what it is made of.

    What was there, and no longer holds, goes.
    """
    page = texts = ""
    if is_there(predicted):
        found = data(title, predicted, groups, listed, occlusions or Occlusions())
        packed = _packed(_json(found.beside), _QUICK) if found.beside else ""
        digest = hashlib.sha256(packed.encode()).hexdigest()
        texts = f'takeTexts("{digest}", "{packed}");\n' if packed else ""
        page = _page({**found.facts, "digest": digest}, found.probabilities)
    for name, text in ((TEXTS, texts), (PAGE, page)):
        if text:
            write_text(folder / name, text)
        else:
            (folder / name).unlink(missing_ok=True)


def _page(facts: Mapping[str, Any], probabilities: NDArray[np.uint8]) -> str:
    template, script, style = (
        (_HERE / name).read_text(encoding="utf-8") for name in ("template.html", "script.js", "style.css")
    )
    # In one pass: what is filled in is never looked at again.
    return Template(template).substitute(
        script=script,
        style=style,
        script_hash=_hash(script),
        style_hash=_hash(style),
        facts=_packed(_json(facts), _HARD),
        probabilities=_packed(probabilities.tobytes(), _HARD),
    )


def _json(content: Any) -> bytes:  # noqa: ANN401 - whatever JSON knows
    # ASCII: a text may hold half a character, which no encoding has.
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode("ascii")


def _packed(content: bytes, hard: int) -> str:
    """Pack to characters that mean nothing to HTML and to JavaScript, the same ones for the same content."""
    return base64.b64encode(gzip.compress(content, hard, mtime=0)).decode("ascii")


def _hash(part: str) -> str:
    """Name a script or a style sheet for the page's content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}"
