"""Shares of networks that are known on paper, through the whole analysis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from interpret.modality.analysis import ModalityAnalysis, analyze_modality
from interpret.modality.edits import EDITS
from interpret.modality.items import draw_items, drawn
from interpret.modality.options import ModalityOptions
from interpret.modality.part_shares import coalition_texts
from interpret.modality.parts import kinds, text_parts
from interpret.modality.shapley import exact_shapley
from interpret.modality.share import EMPTY, REFERENCES
from interpret.modality.structure_rows import untrained
from model.batch import collate
from model.crystal import build_graph
from model.dataset import CrystalDataset
from model.demo import DEMO_DATA
from model.errors import DataError
from model.structure import read_structure

OPTIONS = ModalityOptions(references=3, averaged=4, detailed=3)


@pytest.fixture(scope="module")
def dataset() -> CrystalDataset:
    data = CrystalDataset.from_directory(DEMO_DATA)
    return CrystalDataset(data.samples[::17], rows=10)


def known_values(network: Any, items: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """u and v of each item, from the network's embedding and the encoder alone."""
    u, v = [], []
    for item in items:
        with torch.no_grad():
            first = network.double().atom_embedding(item.graph.atom_features.double())
        u.append(float(network.crystal_value(first).mean()))
        v.append(float(network.text_value(item.encoding.embeddings[:1].double())))
    return np.array(u), np.array(v)


@pytest.mark.parametrize("coefficients", [(2.0, -0.5, 0.0), (1.0, 0.3, 0.7), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)])
def test_analytic_shares(
    coefficients: tuple[float, float, float], dataset: CrystalDataset, word_encoder: Any, make_known: Callable[..., Any]
) -> None:
    """f = a u + b v + c u v, held against three other structures, and against the mean atom and an empty text."""
    a, b, c = coefficients
    network = make_known(a, b, c)
    analysis = analyze_modality(network, dataset, word_encoder, options=replace(OPTIONS, detailed=0))
    items = draw_items(dataset.samples, (), word_encoder, len(dataset), 0)
    u, v = (dict(zip((i.sample.id for i in items), each, strict=True)) for each in known_values(network, items))
    pool = [item.sample.id for item in items[:4]]
    assert analysis.facts["references"] == pool
    with torch.no_grad():
        atoms = torch.cat([item.graph.atom_features for item in items[:4]]).double()
        mean_u = float(network.crystal_value(network.double().atom_embedding(atoms)).mean())
    for row in analysis.modality.to_dict("records"):
        if row["baseline"] == "untrained":
            continue
        if row["baseline"] == REFERENCES:
            held = [(u[name], v[name]) for name in pool if name != row["id"]][:3]
        else:
            held = [(mean_u, 0.0)]
        g, t = u[row["id"]], v[row["id"]]
        text = np.mean([(t - t0) * (b + c * (g + g0) / 2) for g0, t0 in held])
        graph = np.mean([(g - g0) * (a + c * (t + t0) / 2) for g0, t0 in held])
        assert row["text_shapley"] == pytest.approx(text, abs=1e-5)
        assert row["graph_shapley"] == pytest.approx(graph, abs=1e-5)
        assert row["interaction"] == pytest.approx(np.mean([c * (g - g0) * (t - t0) for g0, t0 in held]), abs=1e-5)
        assert row["prediction"] == pytest.approx(a * g + b * t + c * g * t, abs=1e-5)
        nothing = np.mean([a * g0 + b * t0 + c * g0 * t0 for g0, t0 in held])
        assert row["graph_shapley"] + row["text_shapley"] == pytest.approx(row["prediction"] - nothing, abs=1e-6)
    shares = analysis.facts["shares"][REFERENCES]
    if a == 0:
        assert shares["text_share"]["value"] == pytest.approx(1.0, abs=1e-9)
    if b == 0 and c == 0:
        assert shares["text_share"]["value"] == pytest.approx(0.0, abs=1e-9)
    if c == 0:
        assert shares["interaction_share"]["value"] == pytest.approx(0.0, abs=1e-9)


def test_parts_of_a_text_that_acts_by_its_words(
    dataset: CrystalDataset, word_encoder: Any, make_known: Callable[..., Any]
) -> None:
    """v is linear in the words, so each part's value is the sum over its words: times b + c u with the crystal there,
    times b + c u0 with the mean crystal, and halfway between the two where the crystal is a player."""
    a, b, c = 1.0, 0.3, 0.7
    network = make_known(a, b, c)
    analysis = analyze_modality(network, dataset, word_encoder, options=OPTIONS)
    items = draw_items(dataset.samples, (), word_encoder, len(dataset), 0)
    u = dict(zip((item.sample.id for item in items), known_values(network, items)[0], strict=True))
    with torch.no_grad():
        atoms = torch.cat([item.graph.atom_features for item in items[:4]]).double()
        mean_u = float(network.crystal_value(network.double().atom_embedding(atoms)).mean())
    table = analysis.text_parts
    assert set(table["id"]) == {sample.id for sample in drawn(dataset.samples, 0)[:3]}
    for item in items[:3]:
        rows = table[table["id"] == item.sample.id].set_index("part")
        parts = text_parts(item.sample.text)
        for part in {p.part for p in parts}:
            words = " ".join(item.sample.text[p.start : p.end] for p in parts if p.part == part)
            value = float(network.text_value(word_encoder.encode([words])[0].embeddings[:1].double()))
            g = u[item.sample.id]
            row = rows.loc[part]
            for name, factor in {
                "with_graph": b + c * g,
                "left_out": b + c * g,
                "alone": b + c * g,
                "without_graph": b + c * mean_u,
                "joint": b + c * (g + mean_u) / 2,
            }.items():
                assert row[name] == pytest.approx(factor * value, abs=1e-5), (part, name)
        whole = analysis.modality[
            (analysis.modality["id"] == item.sample.id) & (analysis.modality["baseline"] == EMPTY)
        ]
        assert rows["joint"].sum() == pytest.approx(whole["whole"].iloc[0], abs=1e-6)


def sorted_tables(analysis: ModalityAnalysis) -> dict[str, pd.DataFrame]:
    found = {}
    for name, table in analysis.tables.items():
        keys = [c for c in ("baseline", "id", "crystal_id", "text_id", "part", "edit", "word") if c in table]
        found[name] = table.sort_values(keys, ignore_index=True) if keys else table
    return found


def test_neither_order_nor_chunks_matter(
    dataset: CrystalDataset, word_encoder: Any, make_network: Callable[..., Any]
) -> None:
    network = make_network()
    first = analyze_modality(network, dataset, word_encoder, options=OPTIONS)
    turned = CrystalDataset(dataset.samples[::-1], rows=10)
    second = analyze_modality(network, turned, word_encoder, options=replace(OPTIONS, chunk=3))
    one, two = sorted_tables(first), sorted_tables(second)
    for name in one:
        pd.testing.assert_frame_equal(one[name], two[name], check_exact=True)
    for baseline, shares in first.facts["shares"].items():
        for name in ("text_share", "interaction_share", "error_correlation"):
            other = second.facts["shares"][baseline][name]
            assert shares[name] == pytest.approx(other, abs=1e-9, nan_ok=True), (baseline, name)
    # Within each baseline the rows are in the order of the data set.
    ids = first.modality.loc[first.modality["baseline"] == REFERENCES, "id"]
    assert list(ids) == [sample.id for sample in dataset]


def test_every_row_sums_and_edits_equal_whole_passes(
    dataset: CrystalDataset, word_encoder: Any, make_network: Callable[..., Any]
) -> None:
    network = make_network().double()
    analysis = analyze_modality(network, dataset, word_encoder, options=OPTIONS)
    table = analysis.modality
    np.testing.assert_allclose(table["graph_shapley"] + table["text_shapley"], table["whole"], atol=1e-6)
    np.testing.assert_allclose(table["text_given_graph"] - table["text_alone"], table["interaction"], atol=1e-9)
    pairs = analysis.modality_pairs
    np.testing.assert_allclose(pairs["graph_shapley"] + pairs["text_shapley"], pairs["whole"], atol=1e-6)
    assert not (pairs["crystal_id"] == pairs["text_id"]).any()
    texts = {sample.id: sample for sample in dataset}
    apply = {edit.name: edit.apply for edit in EDITS}
    for row in analysis.text_edits.to_dict("records")[::3]:
        sample = texts[row["id"]]
        graph = build_graph(read_structure(sample.structure))
        edited = apply[row["edit"]](sample.text)
        assert edited is not None
        with torch.no_grad():
            own, other = (
                float(network(collate([graph], word_encoder.encode([t])))) for t in (sample.text, edited.text)
            )
        assert row["change"] == pytest.approx(other - own, abs=1e-9)


def test_an_edit_behind_the_truncation_is_undefined(
    dataset: CrystalDataset, make_encoder: Callable[..., Any], make_network: Callable[..., Any]
) -> None:
    short = make_encoder(max_pieces=6)
    analysis = analyze_modality(make_network(), dataset, short, options=OPTIONS)
    lengths = analysis.text_edits[analysis.text_edits["edit"] == "bond lengths"]
    assert not lengths["reaches_encoder"].any()
    assert lengths["change"].isna().all()
    assert analysis.facts["edits"]["bond lengths"]["behind_truncation"] == len(lengths)
    assert analysis.text_edits.loc[analysis.text_edits["edit"] == "element replaced", "reaches_encoder"].all()


def test_small_and_broken_data(textbook_data: Path, word_encoder: Any, make_network: Callable[..., Any]) -> None:
    """One structure with an empty text, references from elsewhere; a data set of which nothing can be read."""
    data = CrystalDataset.from_directory(textbook_data)
    salt = CrystalDataset(tuple(sample for sample in data if sample.id == "salt"), rows=1)
    others = [sample for sample in data if sample.id != "salt"]
    analysis = analyze_modality(make_network(), salt, word_encoder, options=OPTIONS, spare=others)
    assert len(analysis.facts["references"]) == 4
    assert len(analysis.text_parts) == 0
    assert analysis.modality["text_shapley"].notna().all()
    alone = analyze_modality(make_network(), salt, word_encoder, options=OPTIONS)
    references = alone.modality[alone.modality["baseline"] == REFERENCES]
    assert references["text_share"].isna().all(), "nothing to hold it against is undefined, not 0"
    broken = CrystalDataset((replace(data[0], structure=textbook_data / "nothing.cif"),), rows=1)
    with pytest.raises(DataError, match="no structure could be analysed: none of 1 can be read"):
        analyze_modality(make_network(), broken, word_encoder, options=OPTIONS, spare=others)
    mixed = CrystalDataset((broken[0], *others), rows=5)
    some = analyze_modality(make_network(), mixed, word_encoder, options=OPTIONS)
    assert [skipped.id for skipped in some.skipped] == [broken[0].id]
    assert some.facts["counts"]["structures"] == len(others)


def test_save_and_load(
    tmp_path: Path, dataset: CrystalDataset, word_encoder: Any, make_network: Callable[..., Any]
) -> None:
    analysis = analyze_modality(make_network(), dataset, word_encoder, options=OPTIONS)
    analysis.save(tmp_path)
    loaded = ModalityAnalysis.load(tmp_path)
    for name, table in analysis.tables.items():
        pd.testing.assert_frame_equal(loaded.tables[name], table)
        assert (tmp_path / f"{name}.csv").is_file()
    assert loaded.facts["edits"] == analysis.facts["edits"]


def test_untrained_network_is_fresh_and_leaves_the_random_state(make_network: Callable[..., Any]) -> None:
    network = make_network(seed=1, element_embedding="fixed")
    network.element_table.normal_()
    before = torch.random.get_rng_state()
    fresh, again = untrained(network), untrained(network)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(fresh.fc.weight, again.fc.weight)
    assert not torch.equal(fresh.fc.weight, network.fc.weight)
    assert torch.equal(fresh.element_table, network.element_table)


def test_coalitions_are_numbered_as_shapley_reads_them() -> None:
    """A value that is the number of characters of a part, nonlinear by a product of two parts' presence."""
    text = "LiF is Halite structured and crystallizes in the cubic Fm-3m space group. All Li-F bond lengths are 2.01 Å."
    parts = text_parts(text)
    texts = coalition_texts(text, parts, kinds(parts))
    assert texts[0] == ""
    assert texts[-1] == text
    assert texts[1] == "LiF is Halite structured"
    assert texts[4] == "All Li-F bond lengths are 2.01 Å."
    values = [5.0 * ("Halite" in t) + 3.0 * ("cubic" in t and "Å" in t) for t in texts]
    np.testing.assert_allclose(exact_shapley(values), [5.0, 1.5, 1.5], atol=1e-12)
