"""Where words and sentences begin and end in a description of a crystal."""

from __future__ import annotations

import re
from collections.abc import Iterator

from interpret.lexicon import is_miller, is_number, is_unit

_BREAKS = re.compile(r"(?<!\d)[,;:]|[,;:](?!\d)|[—―…\"“”]|(?<=[\w)°][a-zÅ)°])\.(?=[A-Z])")
_MILLER = re.compile(r"(?<![\w)])\((?:[-−]?\d+, ?){2,3}[-−]?\d+\)")
_CLOSING = {")": "(", "]": "[", "}": "{"}
_OPENING = {opening: closing for closing, opening in _CLOSING.items()}
_TRAILING = ".,;:!?'’»"
_LEADING = ",;:!?'‘«"
_ABBREVIATIONS = frozenset({"e.g.", "i.e.", "ca.", "vs.", "etc.", "al.", "fig.", "ref.", "approx.", "cf.", "no."})
_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)\]]*(?=\s|$)|\n\s*\n")


def sentences(text: str) -> tuple[tuple[int, int], ...]:
    """Spans of the sentences of a text, white space around them left out.

    A full stop ends a sentence where white space and no small Latin letter follows, unless it belongs to an
    abbreviation; decimal points never do. An empty line ends one too.
    """
    spans = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        following = text[match.end() :].lstrip()[:1] if match.end() < len(text) else ""
        last_word = text[start : match.end()].rsplit(maxsplit=1)[-1:] or [""]
        if not match[0].isspace() and (
            (following.isascii() and following.islower()) or last_word[0].lower().lstrip("([") in _ABBREVIATIONS
        ):
            continue
        spans.append((start, match.end()))
        start = match.end()
    spans.append((start, len(text)))
    trimmed = (trim(text, *span) for span in spans)
    return tuple(span for span in trimmed if span[0] < span[1])


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without the white space at its ends."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


def word_spans(text: str) -> list[tuple[int, int]]:
    """Spans of words and of single punctuation marks, in order; together all that is not white space.

    Brackets stay with the formula they belong to; a number and its unit are one word.
    """
    return list(_merge_units(text, list(_cores(text))))


def _cores(text: str) -> Iterator[tuple[int, int]]:
    position = 0
    for miller in [*_MILLER.finditer(text), None]:
        stop = len(text) if miller is None else miller.start()
        for chunk in re.compile(r"\S+").finditer(text, position, stop):
            part = chunk.start()
            for mark in _BREAKS.finditer(text, chunk.start(), chunk.end()):
                yield from _peel(text, part, mark.start())
                yield mark.span()
                part = mark.end()
            yield from _peel(text, part, chunk.end())
        if miller is not None:
            yield miller.span()
            position = miller.end()


def _peel(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A word and the marks around it; brackets that belong to a formula stay."""
    behind: list[tuple[int, int]] = []
    while start < end:
        word = text[start:end]
        if is_miller(word):
            break
        if _peels_at_start(word):
            yield start, start + 1
            start += 1
        elif _peels_at_end(word):
            behind.append((end - 1, end))
            end -= 1
        else:
            break
    if start < end:
        yield start, end
    yield from reversed(behind)


def _peels_at_start(word: str) -> bool:
    if word[0] in _LEADING:
        return True
    closing = _OPENING.get(word[0])
    if closing is None:
        return False
    return word.count(word[0]) > word.count(closing) or _match(word, closing) == len(word) - 1


def _peels_at_end(word: str) -> bool:
    last = word[-1]
    if last in _TRAILING:
        return word.lower() not in _ABBREVIATIONS
    opening = _CLOSING.get(last)
    return opening is not None and word.count(last) > word.count(opening)


def _match(word: str, closing: str) -> int:
    """Index of the bracket that closes the first character, -1 for none."""
    depth = 0
    for index, character in enumerate(word):
        depth += (character == word[0]) - (character == closing)
        if depth == 0:
            return index
    return -1


def _merge_units(text: str, cores: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    skip = False
    for (start, end), following, then in zip(cores, [*cores[1:], None], [*cores[2:], None, None], strict=False):
        if skip:
            skip = False
            continue
        if following is not None and _is_quantity(text, (start, end), following, then):
            end, skip = following[1], True
        yield start, end


def _is_quantity(text: str, number: tuple[int, int], unit: tuple[int, int], then: tuple[int, int] | None) -> bool:
    sign = text[slice(*unit)]
    gap = text[number[1] : unit[0]]
    if not (is_unit(sign) and is_number(text[slice(*number)])) or "\n" in gap or len(gap) > 2:
        return False
    if sign == "A":
        return "." in text[slice(*number)]
    # "2 K atoms" counts potassium.
    return sign != "K" or then is None or not re.match("(atom|site|ion)s?$", text[slice(*then)])
