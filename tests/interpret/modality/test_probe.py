"""A probe's figures equal whole passes; attention that goes with its word has not moved."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interpret.hooks import HookRegistry
from interpret.modality.probe import Probe, attention_moved, probe
from interpret.words import group_words, merge_pieces
from model.batch import collate
from model.crystal import build_graph
from model.dataset import CrystalDataset
from model.errors import DataError
from model.structure import read_structure

TEXT = "TiO2 is Rutile structured and crystallizes in the tetragonal P4_2/mnm space group. Ti(1) is bonded to O(1)."
OTHER = "Cu is Copper structured."


@pytest.fixture(scope="module")
def dataset(textbook_data: Path) -> CrystalDataset:
    return CrystalDataset.from_structure(textbook_data / "cif" / "rutile.vasp", TEXT, target=3.0)


@pytest.fixture(scope="module")
def result(dataset: CrystalDataset, word_encoder: Any, make_network: Callable[..., Any]) -> Probe:
    return probe(make_network(), dataset, word_encoder, [("tetragonal", "cubic")], other_text=OTHER)


def whole(network: Any, dataset: CrystalDataset, encoder: Any, text: str) -> float:
    graph = build_graph(read_structure(dataset[0].structure))
    with torch.no_grad():
        return float(network.double()(collate([graph], encoder.encode([text]))))


def test_predictions_equal_whole_passes(
    result: Probe, dataset: CrystalDataset, word_encoder: Any, make_network: Callable[..., Any]
) -> None:
    network = make_network()
    edited = TEXT.replace("tetragonal", "cubic")
    assert result.edited.text == edited
    assert result.before == pytest.approx(whole(network, dataset, word_encoder, TEXT), abs=1e-9)
    assert result.after == pytest.approx(whole(network, dataset, word_encoder, edited), abs=1e-9)
    changes = result.changes.set_index("text")
    assert changes.loc["replacement", "change"] == pytest.approx(result.after - result.before, abs=1e-9)
    for name, text in (("another structure's text", OTHER), ("empty text", "")):
        assert changes.loc[name, "prediction"] == pytest.approx(whole(network, dataset, word_encoder, text), abs=1e-9)
    assert set(changes.index[changes["control"]]) == {"reworded", "function words"}
    assert result.largest_control == changes.loc[changes["control"], "change"].abs().max()


def test_words_left_out_equal_whole_passes(
    result: Probe, dataset: CrystalDataset, word_encoder: Any, make_network: Callable[..., Any]
) -> None:
    network = make_network()
    words = result.words.set_index("word")
    for word in ("TiO2", "tetragonal", "P4_2/mnm"):
        without = " ".join(TEXT.replace(word, "").split())
        expected = whole(network, dataset, word_encoder, without) - result.before
        assert words.loc[word, "left_out"] == pytest.approx(expected, abs=1e-9)
    assert words.loc["tetragonal", "word_after"] == "cubic"


def test_attention_and_gates_are_those_of_the_taps(
    result: Probe, dataset: CrystalDataset, word_encoder: Any, make_network: Callable[..., Any]
) -> None:
    network = make_network().double()
    graph = build_graph(read_structure(dataset[0].structure))
    gates = []
    for text, column in ((TEXT, "attention_before"), (result.edited.text, "attention_after")):
        (encoding,) = word_encoder.encode([text])
        registry = HookRegistry(network).capture("attention.atom_to_token", "fusion.1.gate")
        with registry as captured, torch.no_grad():
            network(collate([graph], [encoding]))
        weights = captured["attention.atom_to_token"].per_structure()[0].mean(dim=(0, 1))
        expected = merge_pieces(weights, group_words(encoding))
        np.testing.assert_allclose(result.words[column], expected, atol=1e-12)
        gates.append(captured["fusion.1.gate"].values)
    changes = result.changes.set_index("text")
    moved = float((gates[1] - gates[0]).abs().mean())
    assert changes.loc["replacement", "gate_moved.1"] == pytest.approx(moved, abs=1e-12)
    assert result.words["attention_before"].sum() == pytest.approx(1.0)


Spelled = namedtuple("Spelled", "text")


def view(**weights: float) -> Any:
    return SimpleNamespace(words=[Spelled(word) for word in weights], attention=list(weights.values()))


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        ({"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5}, 0.0),
        ({"a": 0.5, "b": 0.5}, {"b": 0.5, "a": 0.5}, 0.0),
        ({"a": 0.7, "cubic": 0.3}, {"a": 0.7, "hexagonal": 0.3}, 0.0),
        ({"a": 0.7, "cubic": 0.3}, {"a": 0.5, "hexagonal": 0.5}, 0.2),
        ({"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}, 1.0),
        ({"a": 0.6, "b": 0.4}, {"a": 1.0}, 0.4),
    ],
)
def test_attention_moved(before: dict[str, float], after: dict[str, float], moved: float) -> None:
    assert attention_moved(view(**before), view(**after)) == pytest.approx(moved)


def test_networks_without_attention_or_fusion(
    dataset: CrystalDataset, word_encoder: Any, make_network: Callable[..., Any]
) -> None:
    network = make_network(use_fine_grained_attention=False, use_middle_fusion=False)
    plain = probe(network, dataset, word_encoder, [("tetragonal", "cubic")], other_text=OTHER)
    assert "attention_moved" not in plain.changes
    assert not [c for c in plain.changes if c.startswith("gate")]
    assert plain.words["attention_before"].isna().all()
    assert plain.words["left_out"].notna().any()


def test_a_word_that_is_not_there(dataset: CrystalDataset, word_encoder: Any, make_network: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="no word 'cubic' in the text"):
        probe(make_network(), dataset, word_encoder, [("cubic", "x")], other_text=OTHER)


def test_save(result: Probe, tmp_path: Path) -> None:
    result.save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "probe.json",
        "probe_changes.csv",
        "probe_changes.parquet",
        "probe_words.csv",
        "probe_words.parquet",
    }
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "probe_words.parquet"), result.words)
