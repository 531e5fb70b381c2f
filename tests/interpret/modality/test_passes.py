"""Many pairs at once equal whole forward passes one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interpret.modality import passes as passes_module
from interpret.modality.items import Item, read_item
from interpret.modality.passes import FusedPasses
from model.batch import collate
from model.dataset import CrystalDataset
from model.network import GraphState

TEXTS = ("", "Cu", "NaCl is Halite structured and crystallizes in the cubic Fm-3m space group.", "one two " * 40)
VARIANTS = {
    "broadcast": {},
    "positional": {"middle_fusion_type": "positional"},
    "element": {"middle_fusion_type": "element"},
    "token attention": {"middle_fusion_type": "token-attention"},
    "first and last layer": {"middle_fusion_layers": (0, 1)},
    "no middle fusion": {"use_middle_fusion": False},
    "no attention": {"use_fine_grained_attention": False},
    "pair norm and residual": {"graph_norm": "pair", "graph_initial_residual": 0.2},
    "learned elements": {"element_embedding": "learned"},
    "no ALIGNN layer": {"alignn_layers": 0, "use_middle_fusion": False},
}


@pytest.fixture(scope="module")
def items(textbook_data: Path, word_encoder: Any) -> list[Item]:
    read = [read_item(sample, word_encoder) for sample in CrystalDataset.from_directory(textbook_data)]
    return [item for item in read if isinstance(item, Item)]


def alone(network: Any, graph: Any, encoding: Any) -> float:
    with torch.no_grad():
        return float(network(collate([graph], [encoding])))


@pytest.mark.parametrize("variant", VARIANTS)
def test_pairs_equal_whole_passes(
    variant: str, items: list[Item], word_encoder: Any, make_network: Callable[..., Any]
) -> None:
    network = make_network(**VARIANTS[variant]).double()
    run = FusedPasses(network, word_encoder.encode([""])[0])
    crystals = run.crystals([item.graph for item in items])
    encodings = word_encoder.encode(TEXTS)
    pairs = [(i, text) for i in range(len(items)) for text in encodings]
    got = run.predict([(crystals[i], text) for i, text in pairs])
    np.testing.assert_allclose(got, [alone(network, items[i].graph, text) for i, text in pairs], atol=1e-10)
    assert run.pairs == len(pairs)


def test_neither_order_nor_grouping_matter(
    items: list[Item], word_encoder: Any, make_network: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = FusedPasses(make_network(), word_encoder.encode([""])[0])
    graphs = [item.graph for item in items]
    encodings = word_encoder.encode(TEXTS)
    pairs = [(i, k) for i in range(len(items)) for k in range(len(TEXTS))]
    crystals = run.crystals(graphs)
    together = run.predict([(crystals[i], encodings[k]) for i, k in pairs])
    monkeypatch.setattr(passes_module, "MOST_ATOMS", 4)
    monkeypatch.setattr(passes_module, "MOST_TOKENS", 30)
    singly = run.crystals(graphs[::-1])[::-1]
    order = np.random.default_rng(0).permutation(len(pairs))
    shuffled = run.predict([(singly[pairs[n][0]], encodings[pairs[n][1]]) for n in order])
    np.testing.assert_allclose(shuffled, together[order], atol=1e-12)


def test_no_pairs_no_predictions(word_encoder: Any, make_network: Callable[..., Any]) -> None:
    assert FusedPasses(make_network(), word_encoder.encode([""])[0]).predict([]).shape == (0,)


@pytest.mark.parametrize("variant", ["broadcast", "no middle fusion", "pair norm and residual", "no ALIGNN layer"])
def test_mean_crystal_stands_for_every_crystal_of_mean_atoms(
    variant: str, items: list[Item], word_encoder: Any, make_network: Callable[..., Any]
) -> None:
    """The same means on the atoms, bonds and angles of whole crystals give the same predictions, up to the constant
    1e-6 in the convolution's mean. PairNorm blows that constant up between atoms of different numbers of bonds."""
    network = make_network(**VARIANTS[variant]).double()
    run = FusedPasses(network, word_encoder.encode([""])[0])
    encodings = word_encoder.encode(TEXTS)
    crystal = run.mean_crystal([item.graph for item in items])
    got = run.predict([(crystal, text) for text in encodings])
    with torch.no_grad():
        starts = [network.start(collate([item.graph], [item.encoding]).to(dtype=torch.float64)) for item in items]
        x, y, z = (torch.cat([start[place] for start in starts]).mean(dim=0) for place in range(3))
        lenders = items[:3] if variant.startswith("pair") else items
        for item in lenders:
            for text, value in zip(encodings, got, strict=True):
                batch = collate([item.graph], [text]).to(dtype=torch.float64)
                n, e, a = len(batch.atom_features), len(batch.bond_source), len(batch.angle_source)
                state = GraphState(x.expand(n, -1), y.expand(e, -1), z.expand(a, *z.shape), x.expand(n, -1), 0)
                assert float(network(batch, state=state)) == pytest.approx(value, abs=2e-6)
    assert np.ptp(got) > 1e-4


def test_mean_crystal_takes_the_commonest_element(
    items: list[Item], word_encoder: Any, make_network: Callable[..., Any]
) -> None:
    """Of copper, silicon, sodium chloride, rutile and perovskite that is oxygen, 7 of 14 atoms."""
    run = FusedPasses(make_network(middle_fusion_type="element"), word_encoder.encode([""])[0])
    numbers = run.mean_crystal([item.graph for item in items]).batch.atomic_numbers
    assert numbers is not None
    assert numbers.tolist() == [8]


def test_mean_crystal_is_made_of_the_means(
    items: list[Item], word_encoder: Any, make_network: Callable[..., Any]
) -> None:
    network = make_network(alignn_layers=0, gcn_layers=0, use_middle_fusion=False).double()
    run = FusedPasses(network, word_encoder.encode([""])[0])
    state = run.mean_crystal([item.graph for item in items]).state
    with torch.no_grad():
        embedded = network.atom_embedding(torch.cat([item.graph.atom_features for item in items]).double())
    torch.testing.assert_close(state.x[0], embedded.mean(dim=0))
    torch.testing.assert_close(state.first, state.x)


def test_the_network_given_stays_as_it_is(word_encoder: Any, make_network: Callable[..., Any]) -> None:
    network = make_network().train()
    FusedPasses(network, word_encoder.encode([""])[0])
    assert network.training
    assert network.fc.weight.dtype == torch.float32
