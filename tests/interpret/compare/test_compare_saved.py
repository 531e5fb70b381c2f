"""What is saved is what is read back, and what was chosen to be drawn is what was meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from interpret.compare import Comparison, Inference, compare
from interpret.compare.comparison import FRAMES
from model.dataset import CrystalDataset
from model.errors import RecordError

from .conftest import TAP, scaled_queries


@pytest.fixture(scope="module")
def comparison(make_network: Any, crystals: CrystalDataset, encoder: Any) -> Comparison:
    network = make_network()
    other = scaled_queries(make_network(seed=1), range(4), 8.0)
    few = Inference(resamples=199)
    return compare(network, other, crystals, encoder, labels=("one", "two"), inference=few)


def test_saved_and_read_back(comparison: Comparison, tmp_path: Path) -> None:
    comparison.save(tmp_path)
    again = Comparison.load(tmp_path)
    for attribute in FRAMES.values():
        pd.testing.assert_frame_equal(getattr(again, attribute), getattr(comparison, attribute), check_dtype=False)
    assert again.to_dict() == comparison.to_dict()
    assert again.movement == comparison.movement
    assert repr(again.hypothesis.criteria) == repr(comparison.hypothesis.criteria)
    assert again.hypothesis.thresholds == comparison.hypothesis.thresholds
    assert again.labels == ("one", "two")
    content = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert content["sentence"] == comparison.movement.sentence
    pd.testing.assert_frame_equal(again.to_frame(), pd.read_parquet(tmp_path / "attention_statistics.parquet"))


def test_to_frame_is_a_copy(comparison: Comparison) -> None:
    frame = comparison.to_frame()
    frame["mean_a"] = 0.0
    assert (comparison.statistics["mean_a"] != 0).any()


def test_half_a_folder_is_refused(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"comparison\.json cannot be read"):
        Comparison.load(tmp_path)
    comparison.save(tmp_path)
    (tmp_path / "pairs.parquet").unlink()
    with pytest.raises(RecordError, match=r"pairs\.parquet"):
        Comparison.load(tmp_path)
    (tmp_path / "comparison.json").write_text('{"schema_version": 99}', encoding="utf-8")
    with pytest.raises(RecordError, match="expected schema version 1"):
        Comparison.load(tmp_path)


def test_heat_maps_hold_both_models_on_the_same_words(comparison: Comparison) -> None:
    table = comparison.heatmaps
    disagreeing = comparison.predictions["id"].iloc[0]
    assert disagreeing in set(table["id"])
    for _, own in table.groupby(["id", "model", "atom"]):
        assert own["weight"].sum() == pytest.approx(1, abs=1e-9)
    a, b = (table[table["model"] == m].reset_index(drop=True) for m in ("a", "b"))
    assert (a[["id", "atom", "word", "uniform"]] == b[["id", "atom", "word", "uniform"]]).all(axis=None)
    assert not np.allclose(a["weight"], b["weight"])


def test_the_control_of_the_representations_is_another_network(comparison: Comparison) -> None:
    own = comparison.representations.query("stage_a == stage_b and level == 'atom'")
    assert own["cka_untrained"].notna().all()
    assert (own["cka"] - own["cka_untrained"]).abs().min() > 1e-6
    assert own["samples"].eq(comparison.provenance["a"]["data"]["samples"]).sum() == 0
    assert own["samples"].nunique() == 1


def test_head_figures_average_to_those_of_the_map(comparison: Comparison) -> None:
    heads = comparison.heads[comparison.heads["metric"] == "entropy"]
    overall = comparison.statistics.set_index("metric").loc[f"{TAP}.entropy"]
    assert heads["mean_a"].mean() == pytest.approx(overall["mean_a"])
    assert heads["mean_b"].mean() == pytest.approx(overall["mean_b"])
