"""What kind of word it is (element, crystallography, chemistry, number, other), and which are stop words.

Chemistry is told by the table of elements, space groups by the grammar of Hermann-Mauguin symbols, the rest
by short lists drawn from the vocabulary of robocrystallographer (Ganose and Jain, MRS Commun. 9, 874, 2019),
with whose sentences the models are trained, and of the International Tables for Crystallography.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

from model.structure import ELEMENTS

Category = Literal["element", "crystallography", "chemistry", "number", "other", "special"]
CATEGORIES: tuple[Category, ...] = get_args(Category)


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


ELEMENT_NAMES = _words(
    """
    hydrogen helium lithium beryllium boron carbon nitrogen oxygen fluorine neon sodium magnesium
    aluminum aluminium silicon phosphorus sulfur sulphur chlorine argon potassium calcium scandium
    titanium vanadium chromium manganese iron cobalt nickel copper zinc gallium germanium arsenic
    selenium bromine krypton rubidium strontium yttrium zirconium niobium molybdenum technetium
    ruthenium rhodium palladium silver cadmium indium tin antimony tellurium iodine xenon cesium caesium
    barium lanthanum cerium praseodymium neodymium promethium samarium europium gadolinium terbium
    dysprosium holmium erbium thulium ytterbium lutetium hafnium tantalum tungsten rhenium osmium
    iridium platinum gold mercury thallium lead bismuth polonium astatine radon francium radium actinium
    thorium protactinium uranium neptunium plutonium americium curium berkelium californium einsteinium
    fermium mendelevium nobelium lawrencium
    """
)
# Symmetry and cell, sites and their surroundings, structure types.
CRYSTALLOGRAPHY = _words(
    """
    space group groups symmetry symmetries symmetric cubic tetragonal orthorhombic monoclinic triclinic
    trigonal hexagonal rhombohedral lattice lattices cell cells unit crystal crystals crystallize
    crystallizes crystalline polymorph phase structure structures structured prototype superstructure
    wyckoff direction directions oriented plane planes layer layers layered stacking sheet sheets ribbon
    ribbons cluster clusters framework frameworks polytype vacancy vacancies site sites equivalent
    inequivalent coordinate coordinated coordination geometry geometries tetrahedron tetrahedra
    tetrahedral octahedron octahedra octahedral cuboctahedron cuboctahedra cuboctahedral dodecahedron
    dodecahedra icosahedron icosahedra polyhedron polyhedra polyhedral pyramid pyramids pyramidal
    bipyramid bipyramids bipyramidal prism prisms prismatic antiprism planar coplanar linear bent square
    rectangular pentagonal distorted undistorted tilt tilts tilted tilting corner corners edge edges
    face faces share shares shared sharing connected cornercorner edgeedge faceface corneredge
    cornerface edgeface angle angles see-saw perovskite antiperovskite rock salt spinel zincblende
    wurtzite rutile anatase brookite fluorite antifluorite rocksalt halite sphalerite diamond graphite
    heusler half-heusler laves ilmenite garnet pyrochlore olivine delafossite corundum quartz
    cristobalite marcasite pyrite molybdenite hydrophilite caswellsilverite matlockite skutterudite
    bixbyite zircon scheelite hausmannite fcc bcc hcp ccp
    """
)
# After a hyphen: water-like, Molybdenite-derived, T-shaped, two-dimensional, Ti-centered.
CRYSTALLOGRAPHY_ENDINGS = frozenset({"like", "derived", "type", "shaped", "dimensional", "centered"})
CHEMISTRY = _words(
    """
    bond bonds bonded bonding nonbonding length lengths distance distances atom atoms atomic ion ions
    ionic cation cations anion anions covalent metallic metal metals nonmetal semimetal alloy alloys
    intermetallic compound compounds molecule molecules molecular oxide oxides nitride carbide boride
    hydride sulfide selenide telluride phosphide arsenide silicide germanide halide halides fluoride
    chloride bromide iodide hydroxide carbonate sulfate phosphate silicate hexaboride tetraboride
    pnictide pnictides chalcogenide chalcogenides dichalcogenide oxidation valence charge charges
    electron electrons electronic electronegativity orbital orbitals band bandgap gap energy formation
    semiconductor superconductor insulator conductor magnetic ferromagnetic antiferromagnetic water
    ammonia stoichiometry composition solution
    """
)
NUMBER_WORDS = _words(
    """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred
    half first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth
    fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth twentieth
    """
)
# Articles, prepositions, conjunctions, pronouns and forms of "to be" and "to have". No negations: they turn a
# sentence round.
STOP_WORDS = _words(
    """
    a an the this that these those there here it its they their them which who whose what and or but nor
    so as if than then while when where because though although of in on at by to from for with within
    without into onto over under between among through during about per via is are was were be been
    being am has have had having do does did can could may might must shall should will would each both
    all also such some any other
    """
)

_SYMBOL = "|".join(sorted(ELEMENTS, key=lambda symbol: (-len(symbol), symbol)))
# Digits and brackets one at a time: an inner repetition would make the match exponential.
_UNIT = rf"[(\[]*(?:{_SYMBOL})(?:{_SYMBOL}|[\d.()\[\]]|(?<=\d),(?=\d))*"
_FORMULA = re.compile(rf"{_UNIT}(?:(?:[-–−‐/]|[·•]\d?){_UNIT})*(?:\d?[+−-])?")
_AXIS = r"(?:[-−][12346]|[2346]_?[1-5]|[12346])"
_SPACE_GROUP = re.compile(rf"[PABCFIR](?!a[a-z])(?:{_AXIS}(?:/[abcdenm])?|[abcdenm]){{1,3}}")
_MILLER = re.compile(r"[(\[{<][-−]?\d+(?:,?\s*[-−]?\d+){2,3}[)\]}>]")
_NUMBER = r"[≈~∼<>≤≥±+−–-]?(?:\d+|\.\d+)(?:[.,/:–−-]\d+|\(\d+\))*"
# Also the sign U+212B and the letter with a combining ring; A where a text has been reduced to ASCII.
_LENGTH_UNIT = "(?:[Å\u212b]|A\u030a|A|angstroms?|nm|pm)"
_UNIT_SIGN = re.compile(
    rf"(?:{_LENGTH_UNIT}|°C?|degrees?|%|percent|[mk]?eV(?:/[a-zA-Z]+)?|K|[GM]Pa|kbar|kJ/mol|kcal/mol|[μµ]B|g/cm)"
    r"(?:\^?-?[23]|[²³])?"
)
_QUANTITY = re.compile(rf"{_NUMBER}(?:[^\S\n]*{_UNIT_SIGN.pattern})?")
_HYPHENS = re.compile("[-–−‐]")
_LISTS: dict[Category, frozenset[str]] = {
    "element": ELEMENT_NAMES,
    "crystallography": CRYSTALLOGRAPHY,
    "chemistry": CHEMISTRY,
    "number": NUMBER_WORDS,
}
# Symbols that are English words at the start of a sentence, unless one of _AFTER_ELEMENT follows.
_WORD_ELEMENTS = frozenset({"In", "As", "I", "He", "At", "No", "Be", "Am", "Os"})
_AFTER_ELEMENT = _words("is are atom atoms site sites ion ions crystallizes has")
_LONGEST = 80


def categorize(text: str, before: str = "", after: str = "") -> Category:
    """Category of a word, by itself and, where a symbol is also a word or a formula, by its neighbours.

    Args:
        text: the word, punctuation taken off.
        before: the word before it; empty at the start of a sentence.
        after: the word after it; empty at the end.
    """
    if len(text) > _LONGEST:
        return "other"
    if is_miller(text):
        return "crystallography"
    if is_number(text):
        return "number"
    formula = is_formula(text)
    if _SPACE_GROUP.fullmatch(text) and (not formula or after.lower() == "space"):
        return "crystallography"
    if formula and not (text in _WORD_ELEMENTS and not before and after not in _AFTER_ELEMENT):
        return "element"
    return _by_lists(text)


def is_formula(text: str) -> bool:
    """Whether a word is an element, formula, site or bond: ``Ba``, ``Cd(AsO3)2``, ``Ba(1)-O(1)``."""
    if not _FORMULA.fullmatch(text):
        return False
    return all(text.count(opening) == text.count(closing) for opening, closing in ("()", "[]"))


def is_number(text: str) -> bool:
    """Whether a word is a number, a range or a quantity with its unit: ``2.70 Å``, ``53°``, ``3.6-3.7 Å``."""
    return _QUANTITY.fullmatch(text) is not None


def is_unit(text: str) -> bool:
    """Whether a word is a unit that a number can stand before: ``Å``, ``degrees``, ``eV/atom``."""
    return _UNIT_SIGN.fullmatch(text) is not None


def is_miller(text: str) -> bool:
    """Whether a word is a direction or plane: ``(001)``, ``[1-10]``, ``(0, 0, 1)``."""
    return _MILLER.fullmatch(text) is not None


def is_stop_word(text: str) -> bool:
    """Whether a word is on the list of English function words."""
    return text.lower() in STOP_WORDS


def _by_lists(text: str) -> Category:
    word = text.lower()
    parts = [part for part in _HYPHENS.split(word) if part]
    if len(parts) > 1 and parts[-1] in CRYSTALLOGRAPHY_ENDINGS:
        return "crystallography"
    # In a hyphenated word the last part carries the meaning: corner-sharing, 12-coordinate, twenty-four.
    for candidate in (word, *parts[::-1]):
        for category, words in _LISTS.items():
            if candidate in words:
                return category
    # beta-MoS2, Fe-based
    return "element" if len(parts) > 1 and any(map(is_formula, _HYPHENS.split(text))) else "other"
