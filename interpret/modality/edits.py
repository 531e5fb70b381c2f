"""Standard counterfactual texts: one fact of a description changed, and texts that say the same in other words.

Edits act on whole words. They are what robocrystallographer would have written of another crystal, as far as a fact can
be changed alone; the crystal given to the network stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from interpret.lexicon import is_formula
from interpret.modality.substitution import (
    Edited,
    Place,
    phrase_spans,
    places,
    replace_phrases,
    replace_places,
    replace_words,
)
from interpret.segmentation import sentences
from model.structure import ELEMENTS


@dataclass(frozen=True)
class Edit:
    """A change of a text.

    Attributes:
        name: of the rows.
        meaning: one line for people.
        control: whether the new text says the same.
        apply: text to the edited one; None where it has nothing to edit.
    """

    name: str
    meaning: str
    control: bool
    apply: Callable[[str], Edited | None]


# Elements of one group of the periodic table, in the order of periods; rare earths and actinides are a row each.
_GROUPS = (
    "H Li Na K Rb Cs Fr",
    "Be Mg Ca Sr Ba Ra",
    "Sc Y La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu",
    "Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr",
    "Ti Zr Hf",
    "V Nb Ta",
    "Cr Mo W",
    "Mn Tc Re",
    "Fe Ru Os",
    "Co Rh Ir",
    "Ni Pd Pt",
    "Cu Ag Au",
    "Zn Cd Hg",
    "B Al Ga In Tl",
    "C Si Ge Sn Pb",
    "N P As Sb Bi",
    "O S Se Te Po",
    "F Cl Br I At",
    "He Ne Ar Kr Xe Rn",
)
_SYMBOL = re.compile("[A-Z][a-z]?")
# A system, the one it is changed to, and two of its space groups that robocrystallographer often writes.
SYSTEMS: Mapping[str, tuple[str, str, str]] = {
    "cubic": ("hexagonal", "Fm-3m", "Pm-3m"),
    "hexagonal": ("cubic", "P6_3/mmc", "P6_3mc"),
    "tetragonal": ("orthorhombic", "I4/mmm", "P4/nmm"),
    "orthorhombic": ("tetragonal", "Pnma", "Cmcm"),
    "trigonal": ("monoclinic", "R-3m", "P-3m1"),
    "monoclinic": ("trigonal", "P2_1/c", "C2/m"),
    "triclinic": ("cubic", "P-1", "P1"),
}
_LENGTH = re.compile("[Å\u212b]|A\u030a")
_DECIMAL = re.compile(r"\d+\.(\d+)")
LENGTH_FACTOR = 1.1
_NEIGHBOURS = {
    "two": "three", "three": "four", "four": "six", "five": "eight", "six": "eight", "seven": "five", "eight": "twelve",
    "nine": "six", "ten": "six", "eleven": "eight", "twelve": "eight", "tetrahedra": "octahedra",
    "octahedra": "cuboctahedra", "cuboctahedra": "tetrahedra",
}  # fmt: skip
_COORDINATE = re.compile(r"(\d+)-coordinate")
_PROTOTYPES = ("Perovskite", "Wurtzite")
_PROTOTYPE = re.compile(r"(?<=\sis\s)(?P<name>\S.*?)(?=\s+structured\b)")
REWORDED = {
    "is bonded to": "bonds to",
    "is bonded in a": "bonds in a",
    "is bonded in an": "bonds in an",
    "crystallizes in": "is crystallized in",
    "to form": "forming",
    "that share": "which share",
    "there are": "there exist",
    "there is": "there exists",
    "bond lengths are": "bond lengths measure",
    "bond length is": "bond length measures",
    "structured": "type",
    "are not tilted": "have no tilt",
    "consists of": "is made of",
}
FUNCTION_WORDS = {"the": "this", "is": "was", "are": "were", "in": "within", "a": "one such"}


def exchange_elements(text: str) -> Edited | None:
    """The first two elements of the text take each other's place, in formulas, sites and bonds alike."""
    found = _elements(text)
    return None if len(found) < 2 else _swap_symbols(text, {found[0]: found[1], found[1]: found[0]})


def replace_element(text: str) -> Edited | None:
    """The first element becomes the next of its group that the text does not have."""
    found = _elements(text)
    if not found:
        return None
    group = next((g.split() for g in _GROUPS if found[0] in g.split()), [])
    at = group.index(found[0]) if group else 0
    new = next((e for e in group[at + 1 :] + group[:at] if e not in found), None)
    return None if new is None else _swap_symbols(text, {found[0]: new})


def change_space_group(text: str) -> Edited | None:
    """The symbol becomes another one of the same system."""
    return _change_symmetry(text, system=False, symbol=True)


def change_system(text: str) -> Edited | None:
    """The crystal system becomes another, the symbol stays: two facts that contradict each other."""
    return _change_symmetry(text, system=True, symbol=False)


def change_symmetry(text: str) -> Edited | None:
    """System and space group become those of another system."""
    return _change_symmetry(text, system=True, symbol=True)


def stretch_bonds(text: str) -> Edited | None:
    """Every length in angstrom times 1.1, written with as many decimals."""

    def new(place: Place) -> str | None:
        if not _LENGTH.search(place.text):
            return None
        return _DECIMAL.sub(lambda match: f"{float(match[0]) * LENGTH_FACTOR:.{len(match[1])}f}", place.text)

    return replace_words(text, new)


def change_coordination(text: str) -> Edited | None:
    """Other numbers of neighbours and other polyhedra, where a sentence says what an atom is bonded to."""
    bonded = [(start, end) for start, end in sentences(text) if re.search(r"\bbonded\b", text[start:end])]

    def new(place: Place) -> str | None:
        if not any(start <= place.start < end for start, end in bonded):
            return None
        match = _COORDINATE.fullmatch(place.text)
        if match:
            return f"{8 if match[1] != '8' else 6}-coordinate"
        return _NEIGHBOURS.get(place.text)

    return replace_words(text, new)


def change_prototype(text: str) -> Edited | None:
    """Another structure type."""
    match = _PROTOTYPE.search(text, 0, 200)
    if match is None:
        return None
    new = next(name for name in _PROTOTYPES if name not in match["name"])
    return replace_places(text, [(*match.span("name"), new)])


def reword(text: str) -> Edited | None:
    """The template's phrases in other words."""
    return replace_phrases(text, REWORDED)


def change_function_words(text: str) -> Edited | None:
    """Articles, prepositions and forms of "to be" become others."""

    def new(place: Place) -> str | None:
        return FUNCTION_WORDS.get(place.text) if place.category == "other" else None

    return replace_words(text, new)


def reorder(text: str) -> Edited | None:
    """The sentences after the first in reverse order."""
    spans = sentences(text)
    if len(spans) < 3:
        return None
    first, rest = spans[0], [text[start:end] for start, end in spans[1:]]
    reordered = " ".join([text[slice(*first)], *reversed(rest)])
    return None if reordered == text else Edited(reordered, ((" ".join(rest), " ".join(reversed(rest))),))


EDITS = (
    Edit("elements exchanged", "the first two elements take each other's place", False, exchange_elements),
    Edit("element replaced", "the first element becomes the next of its group", False, replace_element),
    Edit("structure type", "another structure type", False, change_prototype),
    Edit("space group", "another space group of the same system", False, change_space_group),
    Edit("crystal system", "another crystal system, the space group kept", False, change_system),
    Edit("symmetry", "another crystal system with its space group", False, change_symmetry),
    Edit("coordination", "other numbers of neighbours and polyhedra", False, change_coordination),
    Edit("bond lengths", "every length 10 % longer", False, stretch_bonds),
    Edit("reworded", "the same facts in other phrases", True, reword),
    Edit("function words", "other articles, prepositions and forms of to be", True, change_function_words),
    Edit("reordered", "sentences after the first in reverse order", True, reorder),
)


def _elements(text: str) -> list[str]:
    """Elements in the order in which the text names their symbols."""
    found: dict[str, None] = {}
    for place in places(text):
        if _names_elements(place):
            found |= dict.fromkeys(symbol for symbol in _SYMBOL.findall(place.text) if symbol in ELEMENTS)
    return list(found)


def _names_elements(place: Place) -> bool:
    return is_formula(place.text) and place.category == "element"


def _swap_symbols(text: str, new: Mapping[str, str]) -> Edited | None:
    def change(place: Place) -> str | None:
        if not _names_elements(place):
            return None
        return _SYMBOL.sub(lambda match: new.get(match[0], match[0]), place.text)

    return replace_words(text, change)


def _change_symmetry(text: str, *, system: bool, symbol: bool) -> Edited | None:
    """At the first ``SYSTEM SYMBOL space group``."""
    words = places(text)
    for start, _ in phrase_spans(text, "space group"):
        at = next(i for i, place in enumerate(words) if place.start == start)
        if at < 2 or words[at - 2].text not in SYSTEMS:
            continue
        old, sign = words[at - 2], words[at - 1]
        target = SYSTEMS[old.text][0] if system else old.text
        changes = [(old.start, old.end, target)] if system else []
        if symbol:
            new = next(name for name in SYSTEMS[target][1:] if name != sign.text)
            changes.append((sign.start, sign.end, new))
        return replace_places(text, changes)
    return None
