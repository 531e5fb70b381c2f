"""Which part of a description says what: a sentence classifier for the texts of robocrystallographer.

Its sentences (Ganose and Jain, MRS Commun. 9, 874, 2019) come from few templates, which the patterns below name. The
first sentence says two things and is cut between them: ``NaCl is Halite structured | and crystallizes in the cubic
Fm-3m space group``.

composition     formula and structure type
symmetry        crystal system and space group
dimensionality  sheets, ribbons, clusters, frameworks, and how they lie
coordination    inequivalent sites, neighbours, geometry, polyhedra and what they share
tilt angles     tilts between corner-sharing octahedra
bond lengths    lengths and distances
other           everything else; other authors' texts are mostly this
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple, get_args

from interpret.segmentation import sentences

Part = Literal["composition", "symmetry", "dimensionality", "coordination", "tilt angles", "bond lengths", "other"]
PARTS: tuple[Part, ...] = get_args(Part)

# In this order: the first that fits decides.
_SENTENCES: tuple[tuple[Part, re.Pattern[str]], ...] = (
    ("tilt angles", re.compile(r"\btilt angles?\b|\b(octahedra|octahedral)\b.{0,20}\btilted\b")),
    ("bond lengths", re.compile(r"\bbond (lengths?|distances?)\b")),
    (
        "dimensionality",
        re.compile(r"\b(zero|one|two|three)-dimensional\b|^The structure consists of\b|\boriented in the\b"),
    ),
    ("symmetry", re.compile(r"\bspace group\b|\bcrystalli[sz]es in\b")),
    (
        "coordination",
        re.compile(
            r"\bbonded\b|\b(in)?equivalent\b.{0,40}\bsites?\b|\bcoordinate\b|\bcoordinated\b|\bpolyhedra\b|\bsharing\b"
        ),
    ),
    ("composition", re.compile(r"\bstructured\b|\bstructure type\b|\bprototype\b")),
)
# The formula, and its structure type where there is one; then the symmetry.
_FIRST = re.compile(
    r"(?P<composition>\S+(?:\s+is\s+.*?\bstructured\b)?)\s+(?P<symmetry>(?:and\s+)?crystalli[sz]es\s+in\b)"
)


class TextPart(NamedTuple):
    """A stretch of a text, up to where the next begins.

    Attributes:
        part: what it says.
        start, end: characters of the text.
    """

    part: Part
    start: int
    end: int


def classify(sentence: str) -> Part:
    """What a sentence says; of the one that says two things, the last."""
    for part, pattern in _SENTENCES:
        if pattern.search(sentence):
            return part
    return "other"


def text_parts(text: str) -> tuple[TextPart, ...]:
    """The parts of a text in order; together they are the text, white space included. Neighbours of a kind are one.

    A text of white space alone has none.
    """
    merged: list[tuple[Part, int]] = []
    for part, start in _cuts(text):
        if not merged or merged[-1][0] != part:
            merged.append((part, 0 if not merged else start))
    ends = [*(start for _, start in merged[1:]), len(text)][: len(merged)]
    return tuple(TextPart(part, start, end) for (part, start), end in zip(merged, ends, strict=True))


def _cuts(text: str) -> Iterator[tuple[Part, int]]:
    for start, end in sentences(text):
        first = _FIRST.match(text, start, end)
        if first:
            yield "composition", start
            yield "symmetry", first.start("symmetry")
        else:
            yield classify(text[start:end]), start


def kinds(parts: Collection[TextPart]) -> tuple[Part, ...]:
    """The kinds that occur, in the order of ``PARTS``."""
    present = {part.part for part in parts}
    return tuple(part for part in PARTS if part in present)


def keep_parts(text: str, parts: Collection[TextPart], keep: Collection[Part]) -> str:
    """The text of some kinds of part alone; with all of them it is the text itself, character for character."""
    if all(part.part in keep for part in parts):
        return text
    return "".join(text[part.start : part.end] for part in parts if part.part in keep).strip()
