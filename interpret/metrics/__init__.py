"""Pure functions of arrays: what is measured, without models, files or drawing.

attention       statistics of single attention rows, renormalising, padding bias
diversity       differences between the rows of atoms or heads
concentration   saturated heads, sinks
propagation     norm-based weights, rollout
summary         all of these for one attention map
gates           gate reductions, saturation, independence null, intraclass correlation
fusion          scale ratio, change by fusion, decision path
nodes           pairs of atoms: correlation, identity, distance, Dirichlet energy
spectrum        variance, effective rank, stage of collapse
textflow        cosine with the text beside its control
dilution        half-life of the text after fusion
similarity      CKA and Procrustes distance between two networks
faithfulness    what is lost without the players an explanation names
statistics      intervals, paired tests, corrections
"""

from __future__ import annotations

from interpret.metrics import (
    attention,
    concentration,
    dilution,
    diversity,
    faithfulness,
    fusion,
    gates,
    nodes,
    propagation,
    similarity,
    spectrum,
    statistics,
    summary,
    textflow,
)
from interpret.metrics._arrays import MetricError, Undefined, Value
from interpret.metrics._grid import AttentionGrid, attention_grid

__all__ = [
    "AttentionGrid",
    "MetricError",
    "Undefined",
    "Value",
    "attention",
    "attention_grid",
    "concentration",
    "dilution",
    "diversity",
    "faithfulness",
    "fusion",
    "gates",
    "nodes",
    "propagation",
    "similarity",
    "spectrum",
    "statistics",
    "summary",
    "textflow",
]
