"""Two checkpoints, or two groups of them, on the same structures."""

from __future__ import annotations

from interpret.compare.comparison import Comparison
from interpret.compare.differences import Inference
from interpret.compare.hypothesis import Hypothesis, read_hypothesis
from interpret.compare.models import compare, compare_all, compare_runs
from interpret.compare.observe import observe
from interpret.compare.pairing import Run

__all__ = [
    "Comparison",
    "Hypothesis",
    "Inference",
    "Run",
    "compare",
    "compare_all",
    "compare_runs",
    "observe",
    "read_hypothesis",
]
