"""The syntax of CIF: words, data blocks, loops.

CIF 1.1 (Hall, Allen and Brown, Acta Cryst. A47, 655, 1991), with a liberty that programs take: text before
the first block.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

_WORD = re.compile(r"\S+")


class _Quoted(str):
    """A word that was quoted: a value, whatever it looks like."""

    __slots__ = ()


@dataclass
class CifBlock:
    """A data block: single values and loops by lower-case tag, in the order of the file."""

    name: str
    values: dict[str, str] = field(default_factory=dict)
    loops: list[tuple[list[str], list[str]]] = field(default_factory=list)

    def loop_with(self, *tags: str) -> tuple[list[str], list[str]] | None:
        """Tags and values of the first loop that has one of these tags."""
        return next((loop for loop in self.loops if any(tag in loop[0] for tag in tags)), None)


def parse_cif(text: str) -> list[CifBlock]:
    """The data blocks of a CIF; words before the first block and after a single value are left out."""
    blocks: list[CifBlock] = []
    tags: list[str] = []
    values: list[str] | None = None
    pending: str | None = None
    for words in _lines(text):
        for word in words:
            # Everything that is no value has an underscore in it.
            if "_" not in word or isinstance(word, _Quoted):
                if values is not None:
                    values.append(word)
                elif pending is not None:
                    blocks[-1].values[pending] = word
                    pending = None
            elif word[:5].lower() == "data_":
                blocks.append(CifBlock(word[5:]))
                values = pending = None
            elif not blocks:
                continue
            elif word.lower() == "loop_":
                tags, values, pending = [], [], None
                blocks[-1].loops.append((tags, values))
            elif word[0] == "_":
                if values is not None and not values:
                    tags.append(word.lower())
                else:
                    values, pending = None, word.lower()
            elif values is not None:
                values.append(word)
            elif pending is not None:
                blocks[-1].values[pending] = word
                pending = None
    return blocks


def _lines(text: str) -> Iterator[list[str]]:
    """Words of each line; comments left out, text fields as one quoted word."""
    field_lines: list[str] | None = None
    for line in text.splitlines():
        if line[:1] == ";":
            if field_lines is None:
                field_lines = [line[1:]]
                continue
            yield [_Quoted("\n".join(field_lines))]
            field_lines, line = None, line[1:]
        if field_lines is not None:
            field_lines.append(line)
        elif "'" in line or '"' in line or "#" in line:
            yield list(_quoted_words(line))
        else:
            yield line.split()


def _quoted_words(line: str) -> Iterator[str]:
    """Words of a line with quotes or comments. A quote ends before white space only: ``a'b'`` is a word."""
    # Positions at which a quotation may end, found once: a search from every quote would be quadratic.
    ends = {mark: [match.start() for match in re.finditer(mark + r"(?=\s|$)", line)] for mark in "'\""}
    position = 0
    while (match := _WORD.search(line, position)) is not None:
        position, character = match.start(), line[match.start()]
        if character == "#":
            return
        if character in ends:
            index = bisect_right(ends[character], position)
            if index < len(ends[character]):
                end = ends[character][index]
                yield _Quoted(line[position + 1 : end])
                position = end + 1
                continue
        yield match.group()
        position = match.end()
