"""Replace words of a text exactly: whole words only, compared as the encoder sees them, nothing else touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from interpret.lexicon import Category, categorize
from interpret.segmentation import word_spans
from model.errors import DataError
from model.text import normalize

_SENTENCE_ENDS = (".", "!", "?", ":")


class Edited(NamedTuple):
    """A text after an edit.

    Attributes:
        text: the new text.
        replaced: (before, after) of every place, in order.
    """

    text: str
    replaced: tuple[tuple[str, str], ...]


class Place(NamedTuple):
    """A word of a text: where it stands, what it is, and the words beside it ("" at the ends of a sentence)."""

    text: str
    start: int
    end: int
    before: str
    after: str

    @property
    def category(self) -> Category:
        """Its kind, as everywhere."""
        return categorize(self.text, self.before, self.after)


def places(text: str) -> list[Place]:
    """The words and punctuation marks of a text."""
    spans = word_spans(text)
    words = [text[start:end] for start, end in spans]
    result = []
    for i, (start, end) in enumerate(spans):
        before = words[i - 1] if i and words[i - 1] not in _SENTENCE_ENDS else ""
        after = words[i + 1] if i + 1 < len(words) else ""
        result.append(Place(words[i], start, end, before, after))
    return result


def replace_places(text: str, changes: Sequence[tuple[int, int, str]]) -> Edited | None:
    """Put new strings in place of spans that do not overlap; None where nothing changes."""
    parts, done, end = [], [], 0
    for start, stop, new in sorted(changes):
        if text[start:stop] == new:
            continue
        parts += [text[end:start], new]
        done.append((text[start:stop], new))
        end = stop
    return Edited("".join([*parts, text[end:]]), tuple(done)) if done else None


def replace_words(text: str, new: Callable[[Place], str | None]) -> Edited | None:
    """Every word for which ``new`` gives a string becomes that string; None where no word changes."""
    changes = [(place.start, place.end, word) for place in places(text) if (word := new(place)) is not None]
    return replace_places(text, changes)


def phrase_spans(text: str, phrase: str, *, capital: bool = False) -> Iterator[tuple[int, int]]:
    """Where the words of a phrase stand one after another, not overlapping.

    Words are equal when their normalised forms are: ``2.70 Å`` typed with the sign or the letter.

    Args:
        capital: a first word that differs by the case of its first letter alone fits too.
    """
    wanted = [_normal(phrase[start:end]) for start, end in word_spans(phrase)]
    if not wanted:
        return
    spans = word_spans(text)
    words = [_normal(text[start:end]) for start, end in spans]
    at = 0
    while at + len(wanted) <= len(words):
        found = words[at : at + len(wanted)]
        first = found[0] == wanted[0] or (capital and found[0][:1].lower() + found[0][1:] == wanted[0])
        if first and found[1:] == wanted[1:]:
            yield spans[at][0], spans[at + len(wanted) - 1][1]
            at += len(wanted)
        else:
            at += 1


def replace_phrases(text: str, phrases: Mapping[str, str]) -> Edited | None:
    """Replace phrases, the longest first where they overlap; a capital at a sentence's start stays one."""
    changes: list[tuple[int, int, str]] = []
    for phrase in sorted(phrases, key=len, reverse=True):
        for start, end in phrase_spans(text, phrase, capital=True):
            if any(start < stop and begin < end for begin, stop, _ in changes):
                continue
            new = phrases[phrase]
            if text[start] != phrase[:1] and text[start].isupper():
                new = new[:1].upper() + new[1:]
            changes.append((start, end, new))
    return replace_places(text, changes)


def parse_replacement(argument: str) -> tuple[str, str]:
    """``old=>new`` to its two sides; an empty right side takes the words out.

    Raises:
        DataError: there is no ``=>``, or nothing on its left.
    """
    old, arrow, new = argument.partition("=>")
    if not arrow or not word_spans(old):
        raise DataError(f"expected a replacement such as 'cubic=>hexagonal', got {argument!r}")
    return old.strip(), new.strip()


def apply_replacements(text: str, replacements: Sequence[tuple[str, str]]) -> Edited:
    """All replacements on the given text at once, word by word exactly; none sees what another wrote.

    Raises:
        DataError: a phrase does not occur, with the words that do; or two claim the same words.
    """
    changes: list[tuple[int, int, str]] = []
    for old, new in replacements:
        found = list(phrase_spans(text, old))
        if not found:
            words = dict.fromkeys(place.text for place in places(text))
            raise DataError(f"no word {old!r} in the text (whole words, case counts); it has: {', '.join(words)}")
        for start, end in found:
            if any(start < stop and begin < end for begin, stop, _ in changes):
                raise DataError(f"two replacements claim {text[start:end]!r}")
            changes.append((start, end, new))
    edited = replace_places(text, changes)
    if edited is None:
        raise DataError("the replacements change nothing: old and new words are the same")
    return edited


def _normal(word: str) -> str:
    return " ".join(normalize(word).text.split())
