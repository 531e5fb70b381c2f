"""The tables of an attribution run: saved, read back, and summed up with intervals over structures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from interpret.attribution import agreement
from interpret.attribution.baselines import BASELINES
from interpret.attribution.curves import faithfulness_curves
from interpret.attribution.inside import normalized_importance
from interpret.attribution.over_structures import by_players, by_structure, interval, of_method
from interpret.tables import read_table, write_json, write_table

TABLE_NAMES = ("attribution", "faithfulness", "randomisation", "head_importance")
# Columns of the faithfulness table that are summed up.
FIGURES = (
    "comprehensiveness",
    "sufficiency",
    "deletion_area",
    "insertion_area",
    "tau_leave_one_out",
    "characterization",
    "infidelity",
)


@dataclass(frozen=True)
class AttributionTables:
    """What an attribution run found.

    Attributes:
        attribution: one row a (structure, method, player).
        faithfulness: one row a (structure, players, method), the random explainer once a seed.
        randomisation: one row a (structure, method, stage).
        head_importance: one row a (structure, head), before the mean over structures.
        notes: what was left out and why.
        provenance: checkpoint, data, encoder, options, versions.
        cost: seconds by part of the run that made this; empty where it was read back, as no two runs agree on it.
    """

    attribution: pd.DataFrame
    faithfulness: pd.DataFrame
    randomisation: pd.DataFrame
    head_importance: pd.DataFrame
    notes: Mapping[str, str]
    provenance: Mapping[str, Any]
    cost: Mapping[str, float] = field(default_factory=dict)

    @property
    def evidence(self) -> dict[str, pd.DataFrame]:
        """What rules may look at, by name."""
        return {name: getattr(self, name) for name in TABLE_NAMES}

    def summary(self) -> pd.DataFrame:
        """Mean and 95 % interval over structures of each figure, by players and method."""
        return summarize(self.faithfulness)

    def curves(self) -> pd.DataFrame:
        """Deletion and insertion curves: mean and 95 % interval over structures, by players, method and share."""
        return faithfulness_curves(self.faithfulness)

    def explainer_agreement(self) -> pd.DataFrame:
        """Mean Kendall tau and 95 % interval over structures, by players and pair of explainers."""
        return agreement.explainer_agreement(self.attribution)

    def randomisation_summary(self) -> pd.DataFrame:
        """Mean correlation and 95 % interval over structures, by side, method and stage of the randomisation test."""
        return agreement.randomisation_summary(self.randomisation)

    def head_importances(self) -> dict[str, list[float]]:
        """Importance of each head by tap: mean over structures, l2-normalised over the heads (Michel et al. 2019)."""
        if not len(self.head_importance):
            return {}
        return {
            str(tap): normalized_importance(
                rows.pivot(index="id", columns="head", values="importance").to_numpy()
            ).tolist()
            for tap, rows in self.head_importance.groupby("tap", sort=True)
        }

    def lines(self) -> list[str]:
        """The faithfulness of each explainer, for people."""
        summary = self.summary()
        lines: list[str] = []
        if not len(summary):
            return lines
        summary = summary[summary["figure"] == "comprehensiveness"]
        for players in dict.fromkeys(summary["kind"]):
            rows = summary[summary["kind"] == players]
            lines.append(
                f"change of the prediction without the {players} named most important (beyond a uniform order):"
            )
            for row in rows.sort_values("beyond_uniform", ascending=False).to_dict("records"):
                low, high = row["beyond_uniform_low"], row["beyond_uniform_high"]
                chance = "; not told from chance" if low <= 0 <= high and row["method"] != "uniform" else ""
                lines.append(
                    f"  {row['method']:22} {row['mean']:.3g} ({row['beyond_uniform']:+.3g}, 95 % CI {low:+.2g} to "
                    f"{high:+.2g}; {row['structures']} structures{chance})"
                )
        return [*lines, *self._cost_lines()]

    def _cost_lines(self) -> list[str]:
        if not self.cost:
            return []
        structures = max(1, self.faithfulness["id"].nunique() if len(self.faithfulness) else 0)
        total = sum(self.cost.values())
        lines = [f"cost of attribution: {total:.1f} s, {total / structures:.1f} s a structure"]
        return lines + [f"    {seconds:7.2f} s {part}" for part, seconds in sorted(self.cost.items(), key=_descending)]

    def save(self, folder: Path) -> None:
        """Write the tables and what they sum up to as CSV and parquet, and attribution.json, each atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in TABLE_NAMES:
            write_table(getattr(self, name), folder, name)
        write_table(self.summary(), folder, "attribution_summary")
        write_table(self.curves(), folder, "faithfulness_curves")
        write_table(self.explainer_agreement(), folder, "explainer_agreement")
        write_table(self.randomisation_summary(), folder, "randomisation_summary")
        names = (self.faithfulness.get(column, ()) for column in ("baseline", "removal"))
        used = sorted({name for column in names for name in column} - {""})
        baselines = {n: {"meaning": BASELINES[n].meaning, "reason": BASELINES[n].reason} for n in used}
        content = {
            "notes": self.notes,
            "baselines": baselines,
            "head_importance": self.head_importances(),
            "provenance": self.provenance,
        }
        write_json(folder / "attribution.json", content)

    @classmethod
    def load(cls, folder: Path) -> AttributionTables:
        """Read what :meth:`save` wrote.

        Raises:
            RecordError: the folder does not hold it.
        """
        import json

        from model.errors import RecordError

        tables: dict[str, Any] = {name: read_table(folder, name) for name in TABLE_NAMES}
        try:
            content = json.loads((folder / "attribution.json").read_text(encoding="utf-8"))
            return cls(notes=content["notes"], provenance=content["provenance"], **tables)
        except (OSError, ValueError, KeyError) as error:
            raise RecordError(f"expected attribution.json of an attribution run in {folder}: {error}") from error


def _descending(item: tuple[str, float]) -> float:
    return -item[1]


def summarize(faithfulness: pd.DataFrame) -> pd.DataFrame:
    """One row a (players, method, figure): mean, interval, structures, and the difference to the uniform explainer.

    ``beyond_uniform`` is paired by structure: an interval that holds 0 says that the method cannot be told from an
    order by chance.
    """
    rows: list[dict[str, Any]] = []
    for side, kind, own in by_players(faithfulness):
        for figure in FIGURES:
            table = by_structure(own, figure)
            for method in table.columns:
                values = of_method(table, method)
                mean, beyond = interval(values), interval(values - of_method(table, "uniform"))
                rows.append(
                    {
                        "side": side,
                        "kind": kind,
                        "method": method,
                        "figure": figure,
                        "mean": mean.mean,
                        "low": mean.low,
                        "high": mean.high,
                        "structures": mean.count,
                        "beyond_uniform": beyond.mean,
                        "beyond_uniform_low": beyond.low,
                        "beyond_uniform_high": beyond.high,
                    }
                )
    return pd.DataFrame(rows)
