"""Description text to the characters an encoder sees, with every character traced back to the original.

The normalisation is the one the upstream models were trained with (the ``normalize_text`` step of MatSciBERT,
Gupta et al., npj Comput. Mater. 8, 102, 2022): each line through the normaliser of BERT with accents stripped
and case kept, then a character map with a space for what the map does not know. Users' own map files are
read by :func:`read_mappings`; without one, :func:`default_mappings` is used.
"""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from model.errors import DataError

_KEPT = (
    string.digits + string.ascii_letters + string.punctuation + " "
    # Greek: shape and meaning of their own; the ones that look Latin are in _LOOK_ALIKES
    "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ"
    # relations, operators and arrows, as far as the vocabularies of BERT encoders have them
    "°±×÷∂∅∆∇∈∏∑∗√∝∞∠∧∨∩∪∫≈≡≤≥⊂⊃⊆⊕⊗⊥⋅∥∴¬←↑→↓↔⇒⇔⇌"
    # marks of text and currency, and dashes that part clauses
    "©®§¶£¥¢€«»•●—―"
)
# Characters that NFKC leaves alone or resolves to something else than what is meant by them.
_REWRITTEN = {
    "™": "(tm)",
    "℠": "(sm)",
    "ß": "ss",
    "Æ": "AE",
    "æ": "ae",
    "Œ": "OE",
    "œ": "oe",
    "Þ": "Th",
    "þ": "th",
    "ð": "d",
    "Ð": "D",
    "ı": "i",
    "ς": "σ",
    "‰": "%",
    "♯": "#",
    "≪": "<<",
    "≫": ">>",
}
# (characters, what each becomes): the same sign in another script, width or slant.
_LOOK_ALIKES = (
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧο", "ABEZHIKMNOPTYXo"),
    ("АВЕКМНОРСТХІЅЈаеорсухіѕј", "ABEKMHOPCTXISJaeopcyxisj"),
    ("‐‑‒–−⁃﹣", "-------"),
    ("‘’‛‹›′ʹʼˈ", "''''<>'''"),
    ("“”„‟″", '"""""'),
    ("⁄∕⧸∖⧹", "///\\\\"),
    ("º˚∘◦", "°°°°"),
    ("´¯ˉ‾¨", "'---\""),
    ("·‧∙・", "...."),
    ("∶∣│ǀ⟨〈⟩〉", ":|||<<>>"),
    ("∼˜⁓≃≅≊≌≲≦⩽≳≧⩾", "~~~≈≈≈≈≤≤≤≥≥≥"),
    ("⇄⇋⟶⟵⇐⟹⟺⟷", "⇌⇌→←←⇒⇔↔"),
    ("⨯✕⊙⌀■▪◆○", "××⋅∅●●●●"),
)
# Where compatibility characters live: everything below the CJK ideographs, ligatures and width forms, and the
# mathematical alphabets. Ideographs and syllabaries have no counterpart here.
_RANGES = ((0x00A0, 0x3400), (0xFB00, 0xFB07), (0xFE50, 0xFFF0), (0x1D400, 0x1D800))
_BASE_LETTER = re.compile(r"LATIN (SMALL|CAPITAL) LETTER ([A-Z])(?: WITH .*)?")
_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, eq=False)
class NormalizedText:
    """A normalised text and where its characters come from.

    Attributes:
        text: the normalised text.
        source_index: int64 array ``[len(text)]``; for every normalised character its index in the original.
        lost: characters of the original that became a space or nothing, each with its count, most frequent
            first. White space is not lost, nor is the accent of a letter; the mark on anything else is, for
            there it carries meaning (the bar of ``3̄`` in a space group, the stroke of ``≠``).
        original_length: number of characters of the original.
    """

    text: str
    source_index: npt.NDArray[np.int64]
    lost: tuple[tuple[str, int], ...]
    original_length: int

    def __post_init__(self) -> None:
        if self.source_index.shape != (len(self.text),):
            raise ValueError(
                f"Expected one source index for each of {len(self.text)} normalised characters, "
                f"got an array of shape {self.source_index.shape}."
            )

    @property
    def lost_characters(self) -> int:
        """How many characters of the original were lost."""
        return sum(count for _, count in self.lost)

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """Span of the original text that the characters ``start:end`` of the normalised text come from.

        Raises:
            ValueError: the span is empty or lies outside the text.
        """
        if not 0 <= start < end <= len(self.text):
            raise ValueError(f"Expected 0 <= start < end <= {len(self.text)}, got {start} and {end}.")
        indices = self.source_index[start:end]
        return int(indices.min()), int(indices.max()) + 1


def normalize(text: str, mappings: Mapping[str, str] | None = None) -> NormalizedText:
    """Normalise a text the way the upstream models do and keep the alignment.

    Args:
        text: the description; line feeds are kept, each line is normalised on its own.
        mappings: character to replacement; characters it lacks become a space. None takes
            :func:`default_mappings`.
    """
    table = default_mappings() if mappings is None else mappings
    characters: list[str] = []
    sources: list[int] = []
    lost: Counter[str] = Counter()
    offset = 0
    for line in _SURROGATES.sub("\ufffd", text).split("\n"):
        if offset:
            characters.append("\n")
            sources.append(offset - 1)
        cleaned, cleaned_sources = _clean_line(line)
        survived = bytearray(len(line))
        for character, source in zip(cleaned, cleaned_sources, strict=True):
            replacement = table.get(character, " ")
            characters.append(replacement)
            sources.extend([source + offset] * len(replacement))
            survived[source] |= not replacement.isspace() and replacement != ""
        lost.update(text[offset + i] for i in range(len(line)) if _is_lost(line, i, bool(survived[i])))
        offset += len(line) + 1
    ordered = tuple(sorted(lost.items(), key=lambda item: (-item[1], item[0])))
    return NormalizedText("".join(characters), np.array(sources, dtype=np.int64), ordered, len(text))


def read_mappings(path: str | Path) -> dict[str, str]:
    """Read a ``vocab_mappings.txt``: on every line a character, a space, and its replacement.

    As upstream does, white space at either end of the file is dropped before it is cut into lines.

    Raises:
        DataError: the file cannot be read as UTF-8 text or has a line of another form.
    """
    try:
        content = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The character map {path} cannot be read as UTF-8 text: {error}.") from error
    mappings: dict[str, str] = {}
    for number, line in enumerate(content.strip().split("\n"), start=1):
        if not line:
            continue
        if len(line) > 1 and line[1] != " ":
            raise DataError(
                f"Line {number} of the character map {path} should be one character, a space and its "
                f"replacement; it is {line[:40]!r}."
            )
        mappings[line[0]] = line[2:]
    if not mappings:
        raise DataError(f"The character map {path} is empty; expected lines such as '− -'.")
    return mappings


@lru_cache(maxsize=1)
def default_mappings() -> Mapping[str, str]:
    """The character map that is used when the user has none.

    Its rules, in order: ASCII, Greek letters and common signs of mathematics and text stay as they are; signs
    that are the same in another script, width or slant become the plain one (minus and en dash to ``-``,
    curly to straight quotes, Cyrillic and Greek that look Latin to Latin, ring and ordinal to ``°``);
    compatibility characters resolve by NFKC (``½`` to ``1/2``, ``₂`` to ``2``, the ligature ``ﬁ`` to ``fi``,
    ``µ`` to ``μ``); a Latin letter with a stroke or hook becomes its base letter. All else is absent.
    """
    table = {character: character for character in _KEPT}
    for characters, replacements in _LOOK_ALIKES:
        table.update(zip(characters, replacements, strict=True))
    table.update(_REWRITTEN)
    for first, last in _RANGES:
        for code in range(first, last):
            character = chr(code)
            replacement = _resolve(character, table)
            if replacement is not None:
                table.setdefault(character, replacement)
    return MappingProxyType(table)


def mappings_digest(mappings: Mapping[str, str] | None) -> str:
    """SHA-256 over the normalisation: a character map in a fixed order (None: the default map)."""
    table = default_mappings() if mappings is None else mappings
    digest = hashlib.sha256(b"bert strip_accents clean_text chinese line by line\n")
    for character, replacement in sorted(table.items()):
        digest.update(f"{character!r} {replacement!r}\n".encode())
    return digest.hexdigest()


def _resolve(character: str, table: Mapping[str, str]) -> str | None:
    # A fraction slash or a prime may appear only after NFKC, hence the second look-up in the table.
    compatible = unicodedata.normalize("NFKC", character)
    if compatible != character:
        parts = [table.get(part) for part in compatible]
        return None if None in parts else "".join(part for part in parts if part is not None)
    match = _BASE_LETTER.fullmatch(unicodedata.name(character, ""))
    if match is None:
        return None
    return match[2].lower() if match[1] == "SMALL" else match[2]


def _is_lost(line: str, index: int, survived: bool) -> bool:
    character = line[index]
    if character.isascii():
        return not survived and not character.isspace()
    base, *marks = list(unicodedata.normalize("NFD", character))
    if unicodedata.category(base) == "Mn":
        while index and unicodedata.category(line[index]) == "Mn":
            index -= 1
        base = line[index]
        return unicodedata.category(base) not in ("Mn", "Zs") and not base.isalpha()
    stripped = any(unicodedata.category(mark) == "Mn" for mark in marks)
    return (stripped and not base.isalpha()) or (not survived and not character.isspace())


@lru_cache(maxsize=1)
def _bert_normalizer() -> Any:
    from tokenizers.normalizers import BertNormalizer

    return BertNormalizer(lowercase=False, strip_accents=True, clean_text=True, handle_chinese_chars=True)


@lru_cache(maxsize=1 << 16)
def _clean_character(character: str) -> str:
    return str(_bert_normalizer().normalize_str(character))


def _clean_line(line: str) -> tuple[str, list[int]]:
    """BERT's normalisation of one line and the index in the line of each resulting character."""
    pieces = [_clean_character(character) for character in line]
    sources = [index for index, piece in enumerate(pieces) for _ in piece]
    joined = "".join(pieces)
    cleaned = str(_bert_normalizer().normalize_str(line))
    if cleaned != joined:
        # Canonical decomposition sorts runs of combining marks; the few that are not stripped as accents
        # can then stand in another order than character by character.
        sources = _follow_reordering(joined, sources, cleaned)
    return cleaned, sources


def _follow_reordering(before: str, sources: list[int], after: str) -> list[int]:
    waiting: dict[str, list[int]] = {}
    for character, source in zip(reversed(before), reversed(sources), strict=True):
        waiting.setdefault(character, []).append(source)
    # Canonical ordering is stable: equal characters keep their order.
    return [waiting[character].pop() for character in after]
