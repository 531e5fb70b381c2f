"""Quantities are written as they are shown, grouped where they are the same, refused where they do not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interpret.pages.quantity import Control, Quantity, alike_rows, integers, most_different, written
from model.errors import RecordError


def a_map(values: np.ndarray, **options: object) -> Quantity:
    return Quantity("q", "a map", "share", ("atom", "word"), values, **options)  # type: ignore[arg-type]


@given(st.floats(-1e6, 1e6), st.integers(0, 8))
def test_what_is_written_is_the_number_rounded_to_its_decimals(value: float, decimals: int) -> None:
    number = integers(np.array([value]), decimals)[0]
    text = written(number, decimals)
    assert len(text.partition(".")[2]) == decimals
    assert abs(float(text) - value) <= 0.5 * 10.0**-decimals + 1e-9


def test_undefined_is_null_and_never_zero() -> None:
    assert integers(np.array([0.0, np.nan, np.inf, -np.inf]), 3) == [0, None, None, None]
    assert written(None, 3) == ""


def test_rows_that_are_written_alike_share_one_only_within_a_class() -> None:
    rows = np.array([[0.2, 0.8], [0.2 + 1e-9, 0.8], [0.2, 0.8], [0.3, 0.7], [0.30001, 0.69999]])
    quantity = a_map(rows)
    assert alike_rows([quantity], np.array([0, 0, 1, 2, 2])) == [[0, 1], [2], [3], [4]]
    coarse = a_map(rows, decimals=3)
    assert alike_rows([coarse], np.array([0, 0, 1, 2, 2])) == [[0, 1], [2], [3, 4]]
    assert alike_rows([], np.array([0, 0, 1])) == [[0, 1], [2]]


def test_undefined_rows_do_not_hide_differences() -> None:
    rows = np.array([[np.nan, 0.5], [np.nan, 0.6]])
    assert alike_rows([a_map(rows)], np.array([0, 0])) == [[0], [1]]


def test_the_rows_kept_are_those_that_differ_most() -> None:
    rows = np.array([[1.0, 0, 0], [0.99, 0.01, 0], [0, 1.0, 0], [0.02, 0.98, 0], [0, 0, 1.0]])
    assert most_different(rows, 3) == [0, 2, 4]
    assert most_different(rows, 99) == [0, 1, 2, 3, 4]
    assert most_different(np.ones((4, 2)), 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("axes", "shape", "options", "words"),
    [
        (("word", "atom"), (3, 2), {}, "in the order head, atom, word"),
        (("atom", "word"), (3,), {}, "one a dimension"),
        (("head", "atom", "word"), (2, 3, 4), {}, "one label a head"),
        (("atom", "word"), (3, 2), {"controls": (Control("c", "c", ("word",), np.zeros(3)),)}, "of control 'c'"),
        (("atom", "word"), (3, 2), {"over_atoms": np.zeros(3)}, "over atoms"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    axes: tuple[str, ...], shape: tuple[int, ...], options: dict[str, object], words: str
) -> None:
    with pytest.raises(RecordError, match=words):
        Quantity("q", "q", "u", axes, np.zeros(shape), **options)  # type: ignore[arg-type]


def test_json_keeps_the_rows_asked_for_and_all_controls() -> None:
    values = np.arange(12, dtype=np.float64).reshape(3, 4) / 10
    control = Control("uniform", "uniform", ("word",), np.full(4, 0.25))
    content = a_map(values, decimals=2, controls=(control,), over_atoms=values.mean(axis=0)).to_dict([2, 0])
    assert content["values"] == [80, 90, 100, 110, 0, 10, 20, 30]
    assert content["over_atoms"] == [40, 50, 60, 70]
    assert content["controls"][0]["values"] == [25, 25, 25, 25]
