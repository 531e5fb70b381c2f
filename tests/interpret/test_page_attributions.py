"""Attributions of an earlier run find their words and atoms, and bring what speaks for and against them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interpret.attribution.tables import AttributionTables
from interpret.pages.attribution_quantities import SavedAttributions
from interpret.record import StructureRecord

WORDS = ("Ba", "is", "bonded", "to", "O", ".")


def tables(labels: tuple[str, ...] = WORDS, scale: float = 1.0) -> AttributionTables:
    def rows(kind: str, method: str, players: tuple[str, ...], values: list[float]) -> list[dict[str, Any]]:
        return [
            {"id": "made", "side": "", "kind": kind, "method": method, "player": number, "label": label, "value": value}
            for number, (label, value) in enumerate(zip(players, values, strict=True))
        ]

    attribution = [
        *rows("words", "integrated-gradients", labels, [scale * value for value in (0.5, 0.0, -0.25, 0.0, 0.05, 0.0)]),
        *rows("words", "attention", labels, [0.1] * 6),
        *rows("words", "uniform", labels, [1 / 6] * 6),
        *rows("atoms", "ablation", ("Ba1", "O1"), [1.5, -0.5]),
        *rows("orbits", "ablation", ("Ba", "O"), [1.5, -0.5]),
    ]
    faithfulness = [
        {
            "id": "made",
            "kind": kind,
            "method": method,
            "unit": "eV",
            "baseline": baseline,
            "relative_delta": delta,
            "comprehensiveness": value,
        }
        for kind, method, baseline, delta, value in (
            ("words", "integrated-gradients", "mask-token", 0.004, 0.75),
            ("words", "uniform", "", float("nan"), 0.25),
        )
    ]
    empty = pd.DataFrame()
    provenance = {"checkpoint": {"sha256": None}}
    return AttributionTables(pd.DataFrame(attribution), pd.DataFrame(faithfulness), empty, empty, {}, provenance)


@pytest.fixture
def record(make_record: Callable[..., StructureRecord]) -> StructureRecord:
    return make_record({}, elements=["Ba", "O"])


def test_words_and_atoms_get_their_values_and_special_tokens_none(record: StructureRecord) -> None:
    found = {quantity.name: quantity for quantity in SavedAttributions(tables())(record)}
    assert list(found) == ["attribution.words.integrated-gradients", "attribution.atoms.ablation"]
    words = found["attribution.words.integrated-gradients"]
    assert [word.text for word in record.words] == ["[CLS]", *WORDS, "[SEP]"]
    np.testing.assert_array_equal(words.values, [np.nan, 0.5, 0.0, -0.25, 0.0, 0.05, 0.0, np.nan])
    np.testing.assert_allclose(words.controls[0].values[1:-1], 0.05)
    assert words.signed
    assert found["attribution.atoms.ablation"].signed
    assert words.unit == "change of the prediction, in eV"
    np.testing.assert_array_equal(found["attribution.atoms.ablation"].values, [1.5, -0.5])


def test_the_note_says_how_far_it_can_be_believed(record: StructureRecord) -> None:
    note = SavedAttributions(tables())(record)[0].note
    assert "Convergence delta: 0.4 % of the change" in note
    assert "changes the prediction by 0.75, in an order by chance by 0.25" in note
    assert "What is absent becomes: mask-token" in note


def test_other_words_or_structures_get_nothing(record: StructureRecord, make_record: Callable[..., Any]) -> None:
    other = SavedAttributions(tables(("Sr", *WORDS[1:])))
    assert [quantity.name for quantity in other(record)] == ["attribution.atoms.ablation"]
    assert SavedAttributions(tables())(make_record({}, elements=["Ba", "O"], identifier="unknown")) == []


def test_pages_are_computed_anew_when_a_number_changes() -> None:
    assert SavedAttributions(tables()).name == SavedAttributions(tables()).name
    assert SavedAttributions(tables()).name != SavedAttributions(tables(scale=2.0)).name
