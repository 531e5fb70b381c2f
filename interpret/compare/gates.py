"""Gates of middle fusion of two models, element by element."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interpret.compare.pairing import Run

COLUMNS = ["layer", "element", "alpha_a", "alpha_b", "difference", "atoms", "structures", "gap"]


def gates_by_element(first: Run, second: Run) -> pd.DataFrame:
    """Mean alpha over all atoms of an element in both models; a layer that one of them lacks is a gap.

    Returns:
        Columns ``layer`` (``fusion.1``), ``element``, ``alpha_a``, ``alpha_b``, ``difference`` (0 below the
        resolution), ``atoms``, ``structures``, ``gap``.
    """
    names = [c for c in (*first.atoms.columns, *second.atoms.columns) if str(c).endswith(".alpha_mean")]
    parts = []
    for name in dict.fromkeys(names):
        layer = name.removesuffix(".alpha_mean")
        lacking = [run.label for run in (first, second) if name not in run.atoms]
        groups = first.atoms.groupby("element")
        table = pd.DataFrame({"atoms": groups.size(), "structures": groups["id"].nunique()})
        for side, run in (("a", first), ("b", second)):
            means = run.atoms.groupby("element")[name].mean() if name in run.atoms else np.nan
            table[f"alpha_{side}"] = means
        a, b = (table[f"alpha_{side}"].to_numpy(dtype=np.float64) for side in ("a", "b"))
        table["difference"] = first.resolution.snap(a, b) - a
        table["gap"] = f"{' and '.join(lacking)} has no tap {layer}.gate" if lacking else ""
        parts.append(table.reset_index().assign(layer=layer)[COLUMNS])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
