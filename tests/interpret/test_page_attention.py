"""The maps of a page against the network itself: what it adds to atoms, and how other crystals read the text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from interpret.pages.attention_maps import attention_quantities, piece_share, top_words
from interpret.pages.other_crystals import OtherCrystals
from interpret.pages.value_vectors import attention_module, contributions, value_vectors
from interpret.record import StructureRecord
from interpret.runner import Runner
from interpret.words import Word
from model.batch import collate
from model.dataset import CrystalDataset
from model.encoder import TransformersEncoder, load_encoder

TAP = "attention.atom_to_token"


@pytest.fixture(scope="module")
def encoder() -> TransformersEncoder:
    return load_encoder("random:12")


def networks(make_network: Callable[..., Any], kind: str) -> Any:
    if kind == "fusion":
        return make_network(
            middle_fusion_type="token-attention", use_fine_grained_attention=False, middle_fusion_num_heads=2
        )
    return make_network(fine_grained_use_projection=kind == "projected")


def records(network: Any, encoder: Any, folder: Path, taps: list[str]) -> list[StructureRecord]:
    return list(Runner(network, encoder, taps=taps).run(CrystalDataset.from_directory(folder)))


@pytest.mark.parametrize("kind", ["projected", "plain", "fusion"])
def test_value_vectors_add_up_to_what_the_network_adds_to_its_atoms(
    kind: str, make_network: Callable[..., Any], encoder: Any, textbook_data: Path
) -> None:
    network = networks(make_network, kind)
    tap = "fusion.1.attention" if kind == "fusion" else TAP
    record = records(network, encoder, textbook_data, [tap])[3]
    module = attention_module(network, tap)
    output = module.output_proj if kind == "fusion" else module.node_output
    seen: list[torch.Tensor] = []
    handle = output.register_forward_hook(lambda _, inputs, result: seen.append(result.detach() - output.bias))
    with torch.no_grad():
        network(collate([record.graph], [record.encoding]))
    handle.remove()
    weights = torch.from_numpy(record.values(tap))
    added = torch.einsum("hnt,htd->nd", weights, value_vectors(network, tap, record.encoding.embeddings))
    torch.testing.assert_close(added.float(), seen[0], atol=1e-5, rtol=1e-4)


def test_contributions_are_norms_of_sums_over_the_pieces_of_a_word() -> None:
    generator = np.random.default_rng(0)
    weights, vectors = generator.random((2, 3, 4)), generator.normal(size=(2, 4, 5))
    words = [Word("a", 0, 1, (0, 2), "other", False, False), Word("b", 1, 2, (1,), "other", False, False)]
    found = contributions(torch.from_numpy(weights), torch.from_numpy(vectors), words).numpy()
    for atom in range(3):
        for column, pieces in enumerate([(0, 2), (1,)]):
            by_head = [sum(weights[h, atom, p] * vectors[h, p] for p in pieces) for h in range(2)]
            assert found[0, atom, column] == pytest.approx(np.linalg.norm(by_head[0] + by_head[1]))
            assert found[1:, atom, column] == pytest.approx([np.linalg.norm(one) for one in by_head])


def test_other_crystals_are_those_of_the_data_given_the_same_text(
    make_network: Callable[..., Any], encoder: Any, textbook_data: Path
) -> None:
    network, dataset = make_network(), CrystalDataset.from_directory(textbook_data)
    record = records(network, encoder, textbook_data, [TAP])[1]
    found, count = OtherCrystals(network, encoder, dataset.samples).attention(record, [TAP])[TAP]
    maps = []
    for sample in dataset:
        if sample.id != record.id:
            other = CrystalDataset.from_structure(sample.structure, record.encoding.text)
            maps.append(next(iter(Runner(network, encoder, taps=[TAP]).run(other))).values(TAP).mean(axis=1))
    assert count == len(maps) == 4
    np.testing.assert_allclose(found.numpy(), np.mean(maps, axis=0), atol=1e-9)


def test_other_crystals_do_not_depend_on_the_order_and_alone_there_are_none(
    make_network: Callable[..., Any], encoder: Any, textbook_data: Path
) -> None:
    network, samples = make_network(), CrystalDataset.from_directory(textbook_data).samples
    record = records(network, encoder, textbook_data, [TAP])[0]
    one = OtherCrystals(network, encoder, samples).attention(record, [TAP])[TAP][0]
    two = OtherCrystals(network, encoder, samples[::-1], spare=samples).attention(record, [TAP])[TAP][0]
    torch.testing.assert_close(one, two)
    assert OtherCrystals(network, encoder, samples[:1]).attention(record, [TAP]) == {}


def test_maps_hold_what_was_captured_summed_over_words(
    make_network: Callable[..., Any], encoder: Any, textbook_data: Path
) -> None:
    network = make_network()
    for record in records(network, encoder, textbook_data, [TAP, "attention.token_to_atom", "gcn.0.nodes"]):
        quantities = {quantity.name: quantity for quantity in attention_quantities(record, network, {})}
        assert list(quantities) == [TAP, f"{TAP}.norm_weighted", "attention.token_to_atom"]
        weights = record.values(TAP)
        shown = quantities[TAP]
        for column, word in enumerate(record.words):
            own = weights[:, :, list(word.pieces)].sum(axis=-1)
            np.testing.assert_allclose(shown.values[1:, :, column], own, atol=1e-12)
            np.testing.assert_allclose(shown.values[0, :, column], own.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(shown.values.sum(axis=-1), 1.0)
        assert piece_share(record).sum() == pytest.approx(1.0)
        back = quantities["attention.token_to_atom"]
        assert not back.reaches_prediction
        np.testing.assert_allclose(back.values.sum(axis=1), 1.0)
        for quantity in (shown, back):
            assert quantity.controls[0].name == "uniform"


def test_uniform_attention_equals_its_control(make_record: Callable[..., StructureRecord]) -> None:
    record = make_record({TAP: np.full((2, 3, 8), 1 / 8), "gcn.0.nodes": np.ones((3, 16))}, elements=["Ba", "O", "O"])
    network = _network_with_width(2)
    for quantity in attention_quantities(record, network, {}):
        control = quantity.controls[0]
        expected = np.broadcast_to(
            control.values[:, None, :] if control.axes[0] == "head" else control.values, quantity.values.shape
        )
        np.testing.assert_allclose(quantity.values, expected, atol=1e-12)
        if quantity.name == TAP:
            assert all(value == pytest.approx(share) for _, value, share in top_words(quantity, record.words, 2))


def _network_with_width(heads: int) -> Any:
    """A stand-in that has only the layers through which values go."""
    torch.manual_seed(0)
    attention = torch.nn.Module()
    attention.heads = heads
    attention.use_projection = False
    attention.a2t_value = torch.nn.Linear(12, 8)
    attention.node_output = torch.nn.Linear(8, 16)
    network = torch.nn.Module()
    network.fine_grained_attention = attention
    return network
