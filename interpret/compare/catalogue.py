"""Which figures are compared, and which of two phenomena each belongs to.

How an attention row looks (its entropy, its largest weight) and whether two atoms have different rows are two things:
every row can become sharper while all of them stay the same row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from interpret.compare.pairing import Run

Phenomenon = Literal["global statistics", "atom-to-atom differences"]
GLOBAL: Phenomenon = "global statistics"
BETWEEN_ATOMS: Phenomenon = "atom-to-atom differences"

# Of an attention map from atoms to tokens.
ATTENTION: dict[str, Phenomenon] = {
    "entropy": GLOBAL,
    "normalized_entropy": GLOBAL,
    "max_weight": GLOBAL,
    "effective_tokens": GLOBAL,
    "perplexity": GLOBAL,
    "gini": GLOBAL,
    "sparsity": GLOBAL,
    "head_diversity": GLOBAL,
    "saturation": GLOBAL,
    "sink_share": GLOBAL,
    "atom_diversity": BETWEEN_ATOMS,
    "atom_divergence": BETWEEN_ATOMS,
    "atom_difference": BETWEEN_ATOMS,
    "averaged.atom_diversity": BETWEEN_ATOMS,
}
# Of a gate of middle fusion. The spread of alpha stands beside its ratio to what independent channels would give.
GATE: dict[str, Phenomenon] = {
    "alpha_mean": GLOBAL,
    "alpha_sd": BETWEEN_ATOMS,
    "spread_ratio": BETWEEN_ATOMS,
}
CROSS_MODAL = ("quality", "fusion", "gate", "effective")
# Of every stage, the mean of 1 - cos over pairs of atoms that the input tells apart.
STAGE = "between_class_distance"
# Figures of the heads table that are compared head by head.
HEAD = tuple(name for name in ATTENTION if name not in ("head_diversity", "averaged.atom_diversity", "atom_difference"))


@dataclass(frozen=True)
class Metric:
    """A figure of every structure.

    Attributes:
        name: ``TAP.FIGURE``, as in the tables of diagnose.
        tap: which the figure is of.
        figure: e.g. ``entropy``.
        phenomenon: which of the two it tells of.
    """

    tap: str
    figure: str
    phenomenon: Phenomenon

    @property
    def name(self) -> str:
        return f"{self.tap}.{self.figure}"


def figures_of(run: Run) -> pd.DataFrame:
    """All compared figures of a run: one row a structure, indexed by id, one column a metric."""
    table = run.structures.set_index("id")
    chosen = table[[metric.name for metric in _structure_metrics(table.columns)]].astype("float64")
    if not len(run.layers):
        return chosen
    stages = run.layers.pivot(index="id", columns="stage", values=STAGE)
    order = run.layers.drop_duplicates("stage").sort_values("stage_index", kind="stable")["stage"]
    stages = stages.reindex(index=chosen.index, columns=list(order))
    return chosen.join(stages.rename(columns=lambda stage: f"{stage}.{STAGE}"))


def metrics_of(*runs: Run) -> list[Metric]:
    """The metrics that at least one of the runs has, in the order of the first run, then of the others."""
    found: dict[str, Metric] = {}
    for run in runs:
        for metric in _structure_metrics(run.structures.columns):
            found.setdefault(metric.name, metric)
        if len(run.layers):
            for stage in run.layers.sort_values("stage_index", kind="stable")["stage"].unique():
                metric = Metric(str(stage), STAGE, BETWEEN_ATOMS)
                found.setdefault(metric.name, metric)
    return list(found.values())


def attention_taps(columns: Iterable[str]) -> list[str]:
    """Taps with an attention map from atoms to tokens, from the columns of a structures table."""
    return [name.removesuffix(".normalized_entropy") for name in columns if _is_attention(name)]


def _is_attention(column: str) -> bool:
    return column.endswith(".normalized_entropy") and ".averaged." not in column and "counterfactual" not in column


def _structure_metrics(columns: Iterable[str]) -> list[Metric]:
    names = [str(name) for name in columns]
    known = set(names)
    metrics = [
        Metric(tap, figure, phenomenon)
        for tap in attention_taps(names)
        for figure, phenomenon in ATTENTION.items()
        if f"{tap}.{figure}" in known
    ]
    gates = [name.removesuffix(".alpha_mean") for name in names if name.endswith(".alpha_mean")]
    metrics += [
        Metric(gate, figure, phenomenon)
        for gate in gates
        for figure, phenomenon in GATE.items()
        if f"{gate}.{figure}" in known
    ]
    metrics += [Metric("cross_modal", gate, GLOBAL) for gate in CROSS_MODAL if f"cross_modal.{gate}" in known]
    return metrics
