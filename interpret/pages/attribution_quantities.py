"""Attributions of an earlier run as quantities of a page, with how far each of them can be believed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interpret.attribution.methods import METHODS, REFERENCES
from interpret.pages.quantity import Axis, Control, Quantity

if TYPE_CHECKING:
    from interpret.attribution.tables import AttributionTables
    from interpret.record import StructureRecord

# Weights, not parts of the prediction: attention is on the page already, with its own controls.
_LEFT_OUT = (*REFERENCES, "attention", "norm-based")
# Methods whose values are parts of the prediction; of the others the order is all they say.
_PARTS = ("integrated-gradients", "deeplift", "ablation")
_KINDS: dict[str, Axis] = {"words": "word", "atoms": "atom"}


@dataclass(frozen=True)
class SavedAttributions:
    """Attributions of words and atoms, by structure.

    Attributes:
        tables: of an attribution run on the same checkpoint.
    """

    tables: AttributionTables

    @cached_property
    def name(self) -> str:
        """Changes when any number does, so that pages with other attributions are computed again."""
        digest = hashlib.sha256()
        for table in (self.tables.attribution, self.tables.faithfulness):
            digest.update(json.dumps(list(table.columns)).encode())
            digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
        return f"attribution {digest.hexdigest()}"

    def __call__(self, record: StructureRecord) -> list[Quantity]:
        """The quantities of a record; none where it was not explained, or where its words or atoms were others."""
        if record.id not in self._rows:
            return []
        found = []
        for (kind, method), rows in self._rows[record.id].groupby(["kind", "method"], sort=False):
            if kind in _KINDS and method not in _LEFT_OUT:
                quantity = self._quantity(record, str(kind), str(method), rows.sort_values("player"))
                found += [] if quantity is None else [quantity]
        return found

    @cached_property
    def explainers(self) -> list[dict[str, Any]]:
        """How far each explainer can be believed: one row a (players, method), the most faithful first.

        ``mean`` is the change of the prediction without the players it names first (comprehensiveness), ``beyond`` that
        minus the change in an order by chance, paired by structure; both with 95 % intervals over ``structures``.
        """
        table = self.tables.summary()
        if not len(table):
            return []
        rows = table[(table["figure"] == "comprehensiveness") & table["mean"].notna()]
        rows = rows.sort_values(["side", "kind", "beyond_uniform"], ascending=False, kind="stable")
        return [
            {
                "players": str(row["kind"]),
                "method": str(row["method"]),
                "reference": row["method"] in REFERENCES,
                "structures": int(row["structures"]),
                **{name: float(row[name]) for name in ("mean", "low", "high")},
                "beyond": float(row["beyond_uniform"]),
                "beyond_low": float(row["beyond_uniform_low"]),
                "beyond_high": float(row["beyond_uniform_high"]),
            }
            for row in rows.to_dict("records")
        ]

    @cached_property
    def _rows(self) -> dict[str, pd.DataFrame]:
        table = self.tables.attribution
        return {str(name): rows for name, rows in table.groupby("id", sort=False)} if len(table) else {}

    def _quantity(self, record: StructureRecord, kind: str, method: str, rows: pd.DataFrame) -> Quantity | None:
        if kind == "words":
            places = [index for index, word in enumerate(record.words) if word.category != "special"]
            labels = [record.words[index].text for index in places]
            size = len(record.words)
        else:
            places = list(range(record.graph.number_of_atoms))
            labels = list(record.graph.atom_labels)
            size = len(places)
        if rows["label"].tolist() != labels:
            return None
        values = np.full(size, np.nan)
        values[places] = rows["value"].to_numpy(dtype=np.float64)
        even = np.where(np.isnan(values), np.nan, np.nanmean(values))
        axis = _KINDS[kind]
        return Quantity(
            name=f"attribution.{kind}.{method}",
            label=f"attribution to {kind}: {method}",
            unit=self._unit(record.id, kind, method),
            axes=(axis,),
            values=values,
            controls=(Control("even", f"the same sum shared evenly among the {kind}", (axis,), even),),
            signed=bool((rows["value"] < 0).any()) or method in _PARTS,
            note=self._note(record.id, kind, method),
        )

    def _faithfulness(self, identifier: str, kind: str, method: str) -> pd.Series | None:
        table = self.tables.faithfulness
        if not len(table):
            return None
        rows = table[(table["id"] == identifier) & (table["kind"] == kind) & (table["method"] == method)]
        return rows.iloc[0] if len(rows) else None

    def _unit(self, identifier: str, kind: str, method: str) -> str:
        if method not in _PARTS:
            return "weight, of which the order is what it says"
        row = self._faithfulness(identifier, kind, method)
        return "change of the prediction" + (f", in {row['unit']}" if row is not None and row["unit"] else "")

    def _note(self, identifier: str, kind: str, method: str) -> str:
        meaning = METHODS[method].meaning if method in METHODS else method
        row = self._faithfulness(identifier, kind, method)
        chance = self._faithfulness(identifier, kind, "uniform")
        note = f"{meaning[0].upper()}{meaning[1:]}. Special tokens are no players."
        if row is None:
            return note
        if row["baseline"]:
            note += f" What is absent becomes: {row['baseline']}."
        if np.isfinite(row["relative_delta"]):
            note += f" Convergence delta: {100 * row['relative_delta']:.2g} % of the change."
        if chance is not None and np.isfinite(row["comprehensiveness"]):
            note += (
                f" Taking out what it names first changes the prediction by {row['comprehensiveness']:.3g}, in an "
                f"order by chance by {chance['comprehensiveness']:.3g}."
            )
        return note
