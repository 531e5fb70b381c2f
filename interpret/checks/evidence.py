"""Everything rules may look at: the network, what is known of its file, and the tables of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interpret.checks.base import Measured, Need
from interpret.gradients import gradient_reach

if TYPE_CHECKING:
    from interpret.metrics.gates import GateMoments
    from model.network import CrystalTextNetwork


@dataclass(frozen=True)
class Evidence:
    """What one run of diagnose, or a checkpoint alone, offers to the rules.

    Attributes:
        network: with its configuration and provenance.
        structures, atoms, heads, layers: tables of the run; empty where there was no data.
        moments: sums over all atoms of each middle-fusion gate.
        never_fired: taps whose module never ran.
        extra: further tables by name, of analyses that are run on request (``attribution``, ``modality``).
    """

    network: CrystalTextNetwork
    structures: pd.DataFrame = field(default_factory=pd.DataFrame)
    atoms: pd.DataFrame = field(default_factory=pd.DataFrame)
    heads: pd.DataFrame = field(default_factory=pd.DataFrame)
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    moments: Mapping[int, GateMoments] = field(default_factory=dict)
    never_fired: tuple[str, ...] = ()
    extra: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def lacks(self, needs: Iterable[Need]) -> str | None:
        """Why a rule with these needs cannot run here; None where it can."""
        config = self.network.config
        reasons: dict[str, tuple[bool, str]] = {
            "weights": (True, ""),
            "data": (len(self.structures) > 0, "no structure was analysed"),
            "labels": (
                len(self.structures) > 0 and bool(self.structures["target"].notna().any()),
                "the data has no targets",
            ),
            "fusion": (len(self.fusion_layers) > 0, "the network has no middle fusion that runs"),
            "text_transform": (
                any(f"fusion.{i}.text_cosine" in self.layers for i in self.fusion_layers),
                "the network has no text_transform that runs",
            ),
            "attention": (config.use_fine_grained_attention, "the network has no attention from atoms to tokens"),
            "gated_cross_modal": (config.cross_modal_gate != "none", "the network has no gated cross-modal attention"),
        }
        for need in needs:
            met, reason = reasons[need]
            if not met:
                return reason
        return None

    @cached_property
    def gradient_reach(self) -> dict[str, float]:
        """Gradient of each module over the largest in the network; several rules read it, one backward pass."""
        return gradient_reach(self.network)

    @property
    def fusion_layers(self) -> list[int]:
        """Middle-fusion layers with a gate in the tables."""
        columns = (str(column) for column in self.structures.columns)
        return sorted({int(c.split(".")[1]) for c in columns if c.startswith("fusion.") and c.endswith(".alpha_mean")})

    def column(self, name: str, what: str) -> Measured:
        """A column of the structures table as a measure."""
        values = self.structures[name].to_numpy(dtype=np.float64)
        return Measured(values, tuple(self.structures["id"].astype(str)), what)
