"""Safe file names for ids that can be anything, the same for the same id, never two ids in one file."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping

MOST_CHARACTERS = 80
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
# Devices that Windows opens in place of a file, whatever ending the name has.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)


def plain_name(identifier: str) -> str:
    """The id in letters, digits, dots, hyphens and underscores; may be empty, and need not be unique."""
    ascii_only = unicodedata.normalize("NFKD", identifier).encode("ascii", "ignore").decode("ascii")
    name = _UNSAFE.sub("_", ascii_only)[:MOST_CHARACTERS].strip("._-")
    return "" if _RESERVED.fullmatch(name) else name


def file_name(identifier: str, taken: Mapping[str, str]) -> str:
    """A file name, without ending, for an id.

    The id itself where it is safe and free; otherwise what is safe of it and eight characters of its SHA-256.

    Args:
        identifier: any text, path separators, markup and nothing at all included.
        taken: name in lower case to the id that has it. Case is not looked at: some file systems do not either.
    """
    plain = plain_name(identifier)
    if plain and plain == identifier and taken.get(plain.lower(), identifier) == identifier:
        return plain
    digest = hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()
    for length in range(8, len(digest) + 1, 8):
        name = f"{plain or 'structure'}-{digest[:length]}"
        if taken.get(name.lower(), identifier) == identifier:
            return name
    raise AssertionError("two ids of one SHA-256")
