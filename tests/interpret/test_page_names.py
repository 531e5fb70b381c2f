"""Ids that can be anything become file names that are safe, different, and the same every time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interpret.pages.names import MOST_CHARACTERS, file_name

SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
HOSTILE = [
    "",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\windows\\x",
    "a/b",
    "a\\b",
    "<script>alert(1)</script>",
    "x" * 300,
    "😀",
    "\u202egnp.exe",
    "name\nwith\nlines",
    "nul\0byte",
    "CON",
    "com1.txt",
    " space ",
    "trailing.",
    "-rf",
    "\ud800",
]


@pytest.mark.parametrize("identifier", ["JVASP-1372", "mp-149", "NaCl_rocksalt", "a.b", "2H-MoS2"])
def test_safe_ids_are_their_own_names(identifier: str) -> None:
    assert file_name(identifier, {}) == identifier


@pytest.mark.parametrize("identifier", HOSTILE)
def test_hostile_ids_stay_inside_the_folder(identifier: str, tmp_path: Path) -> None:
    name = file_name(identifier, {})
    assert SAFE.fullmatch(name)
    assert not name.endswith(".")
    assert len(name) <= MOST_CHARACTERS + 9
    assert name != identifier
    path = tmp_path / f"{name}.json"
    path.write_text("{}", encoding="utf-8")
    assert path.resolve().parent == tmp_path.resolve()


@given(st.lists(st.text(max_size=40), unique=True, max_size=30))
def test_no_two_ids_share_a_name_even_where_case_is_not_seen(identifiers: list[str]) -> None:
    taken: dict[str, str] = {}
    for identifier in identifiers:
        name = file_name(identifier, taken)
        assert SAFE.fullmatch(name)
        assert name.lower() not in taken
        taken[name.lower()] = identifier
    for name, identifier in taken.items():
        assert file_name(identifier, taken).lower() == name


def test_ids_that_differ_in_case_or_in_what_is_left_out_differ_in_name() -> None:
    taken: dict[str, str] = {}
    names = []
    for identifier in ("Abc", "abc", "ABC", "a/b", "a:b", "a_b"):
        names.append(file_name(identifier, taken))
        taken[names[-1].lower()] = identifier
    assert len({name.lower() for name in names}) == 6
    assert names[0] == "Abc"
    assert re.fullmatch(r"abc-[0-9a-f]{8}", names[1])
    assert names[5] == "a_b"
