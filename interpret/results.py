"""The result of diagnose: tables, statistics, findings; saved to a folder and read back without the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from interpret.checks.base import Finding, Outcome
from interpret.tables import TABLES, plain, read_result, read_table, write_json, write_table
from model.dataset import Skipped

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Diagnosis:
    """What is true of a checkpoint on a data set.

    Attributes:
        verdict: ``good``, ``acceptable`` or ``poor``; ``reason``: why, in one sentence.
        findings: of the rules that spoke, most severe first.
        outcomes: of every rule that was asked.
        statistics: mean and 95 % interval over structures of the figures people quote, by column of ``structures``.
        provenance: checkpoint, data, encoder, options, versions.
        facts: what else a reader must know (branches that do not reach the prediction, taps that never fired).
        structures, atoms, heads, layers: one row a structure, atom, head and stage.
        skipped: what could not be analysed and why.
        heatmap: one attention map at word level, long format.
        cost: seconds by part of the run that made this; empty where it was read back, as no two runs agree on it.
    """

    verdict: str
    reason: str
    findings: tuple[Finding, ...]
    outcomes: tuple[Outcome, ...]
    statistics: Mapping[str, Any]
    provenance: Mapping[str, Any]
    facts: Mapping[str, Any]
    structures: pd.DataFrame
    atoms: pd.DataFrame
    heads: pd.DataFrame
    layers: pd.DataFrame
    skipped: tuple[Skipped, ...] = ()
    heatmap: pd.DataFrame = field(default_factory=pd.DataFrame)
    cost: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """diagnosis.json: everything but the tables."""
        result: dict[str, Any] = plain(
            {
                "schema_version": SCHEMA_VERSION,
                "verdict": self.verdict,
                "reason": self.reason,
                "findings": [finding.to_dict() for finding in self.findings],
                "rules": [{"code": o.code, "status": o.status, "reason": o.reason} for o in self.outcomes],
                "statistics": self.statistics,
                "provenance": self.provenance,
                "facts": self.facts,
                "structures": len(self.structures),
                "skipped": len(self.skipped),
            }
        )
        return result

    def _repr_html_(self) -> str:
        """Verdict and findings as a table, for notebooks."""
        rows = "".join(
            f"<tr><td>{escape(f.code)}</td><td>{escape(f.severity)}</td><td>{escape(f.text)}</td>"
            f"<td>{f.control:.3g} ({escape(f.control_what)})</td></tr>"
            for f in self.findings
        )
        head = "<tr><th>rule</th><th>severity</th><th>finding</th><th>control</th></tr>"
        return (
            f"<p><b>{escape(self.verdict)}</b>: {escape(self.reason)}; {len(self.structures)} structures</p>"
            f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>"
        )

    def save(self, folder: Path) -> None:
        """Write diagnosis.json, the tables as CSV and parquet, skipped.csv and heatmap.csv, each atomically."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in TABLES:
            write_table(getattr(self, name), folder, name)
        columns = ["id", "row", "stage", "reason"]
        skipped = pd.DataFrame([[s.id, s.row, s.stage, s.reason] for s in self.skipped], columns=columns)
        write_table(skipped.astype({"row": "Int64"}), folder, "skipped")
        write_table(self.heatmap, folder, "heatmap")
        # Last: a folder with diagnosis.json is complete.
        write_json(folder / "diagnosis.json", self.to_dict())

    @classmethod
    def load(cls, folder: Path) -> Diagnosis:
        """Read what :meth:`save` wrote.

        Raises:
            RecordError: the folder does not hold a complete diagnosis, or one of another schema.
        """
        content = read_result(folder / "diagnosis.json", "a diagnosis", SCHEMA_VERSION, "diagnose")
        skipped = read_table(folder, "skipped")
        tables: dict[str, Any] = {name: read_table(folder, name) for name in TABLES}
        return cls(
            verdict=content["verdict"],
            reason=content["reason"],
            findings=tuple(_finding(item) for item in content["findings"]),
            outcomes=tuple(Outcome(o["code"], o["status"], o["reason"]) for o in content["rules"]),
            statistics=content["statistics"],
            provenance=content["provenance"],
            facts=content["facts"],
            skipped=tuple(_skipped(row) for row in skipped.to_dict("records")),
            heatmap=read_table(folder, "heatmap"),
            **tables,
        )


def _skipped(row: Mapping[Any, Any]) -> Skipped:
    number = None if pd.isna(row["row"]) else int(row["row"])
    return Skipped(id=str(row["id"]), row=number, stage=row["stage"], reason=str(row["reason"]))


def _finding(item: Mapping[str, Any]) -> Finding:
    values = dict(item)
    for name in ("effect", "control"):
        values[name] = float("nan") if values[name] is None else values[name]
    values["interval"] = None if values["interval"] is None else tuple(values["interval"])
    values["units"] = tuple(values["units"])
    return Finding(**values)
