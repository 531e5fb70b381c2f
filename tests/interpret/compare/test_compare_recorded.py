"""The recorded checkpoints on the 50 crystals: the figures of docs/padded-statistics.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from interpret.compare import Inference, compare
from interpret.compare.padded import padded_statistics
from model.checkpoint import load_checkpoint
from model.dataset import CrystalDataset
from model.encoder import load_encoder

from .conftest import TAP

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, Any]:
    folder = shared / "oracle" / "checkpoints"
    return {name: load_checkpoint(folder / f"{name}.pt") for name in ("full", "no_middle")}


@pytest.fixture(scope="module")
def jarvis(shared: Path) -> CrystalDataset:
    return CrystalDataset.from_directory(shared / "data" / "jarvis50")


@pytest.fixture(scope="module")
def stand_in() -> Any:
    return load_encoder("random:768")


def test_padding_makes_the_gini_coefficient(recorded: dict[str, Any], jarvis: CrystalDataset, stand_in: Any) -> None:
    tables = {
        name: padded_statistics(network, jarvis, stand_in, batch_size=32).set_index("step")
        for name, network in recorded.items()
    }
    full = tables["full"]["gini"]
    assert full["padded"] == pytest.approx(0.4108, abs=1e-4)
    assert full["without padding"] == pytest.approx(0.0216, abs=1e-4)
    assert full["head by head"] == pytest.approx(0.0565, abs=1e-4)
    change = 100 * (tables["full"] / tables["no_middle"] - 1)
    assert change.loc["padded", "gini"] == pytest.approx(0.8, abs=0.1)
    assert change.loc["head by head", "gini"] == pytest.approx(221, abs=1)
    assert change.loc["padded", "max_weight"] == pytest.approx(1.6, abs=0.1)


def test_middle_fusion_on_the_recorded_pair(recorded: dict[str, Any], jarvis: CrystalDataset, stand_in: Any) -> None:
    comparison = compare(
        recorded["full"],
        recorded["no_middle"],
        jarvis,
        stand_in,
        labels=("full", "no middle"),
        inference=Inference(resamples=999),
        untrained=False,
    )
    assert comparison.structures == 50
    assert comparison.hypothesis.verdict == "partly supported"
    verdicts = {c.metric: c.verdict for c in comparison.hypothesis.criteria}
    assert verdicts == {
        "entropy": "no effect",
        "max_weight": "partly supported",
        "effective_tokens": "not applicable",
        "gini": "supported",
    }
    assert "all but uniform (entropy 99.90 % and 99.99 % of its maximum)" in comparison.movement.sentence
    row = comparison.statistics.set_index("metric").loc[f"{TAP}.atom_difference"]
    assert (row["mean_a"], row["mean_b"]) == pytest.approx((0.0365, 0.0087), abs=1e-4)
    # Only a crystal of one atom has no second atom to differ from.
    assert row["structures"] == 49
    assert set(comparison.gaps) == {
        "fusion.1.alpha_mean",
        "fusion.1.alpha_sd",
        "fusion.1.spread_ratio",
        "fusion.1.nodes.between_class_distance",
    }
