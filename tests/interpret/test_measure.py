"""Rows of the tables against plain numpy, on records made by hand and on real passes of small networks."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine, jensenshannon
from scipy.stats import entropy

from interpret.counterfactual import standard_counterfactuals
from interpret.diagnose import text_scales, watched_taps
from interpret.measure.attention import (
    attention_rows,
    class_differences,
    difference_columns,
    independent_difference,
    sink_tokens,
    taps_to_tokens,
)
from interpret.measure.nodes import Neighbours, pair_distances, pairs_of_atoms, partition_columns, stage_rows, stages
from interpret.measure.structure import measure_structure
from interpret.metrics import nodes as node_metrics
from interpret.record import StructureRecord
from interpret.runner import Runner
from interpret.text_references import TextReferences
from model.dataset import CrystalDataset
from model.encoder import load_encoder

TAP = "attention.atom_to_token"
MakeRecord = Callable[..., StructureRecord]


def softmax_rows(shape: tuple[int, ...], *, seed: int = 0, sharpness: float = 2.0) -> np.ndarray:
    scores = sharpness * np.random.default_rng(seed).normal(size=shape)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def gini(row: np.ndarray) -> float:
    """Mean absolute difference of all pairs over twice the mean: the definition, not the sorted formula."""
    return float(np.abs(row[:, None] - row[None, :]).mean() / (2 * row.mean()))


def total_variation(weights: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Mean over pairs of atoms of different classes, pair by pair, [H]."""
    pairs = [(i, k) for i, k in itertools.combinations(range(len(classes)), 2) if classes[i] != classes[k]]
    return np.array([np.mean([np.abs(head[i] - head[k]).sum() / 2 for i, k in pairs]) for head in weights])


# Attention


def test_attention_columns_are_those_of_numpy(make_record: MakeRecord) -> None:
    weights, classes = softmax_rows((4, 5, 8)), np.array([0, 1, 1, 2, 0])
    record = make_record({TAP: weights}, elements=["Ba", "O", "O", "Ti", "Ba"], classes=classes)
    rows = attention_rows(record, TAP)
    assert len(rows.heads) == 4
    different = [(i, k) for i, k in itertools.combinations(range(5), 2) if classes[i] != classes[k]]
    sinks = np.array([True, False, False, False, False, False, True, True])
    for head, row in zip(weights, rows.heads, strict=True):
        expected = {
            "entropy": np.mean([entropy(r) for r in head]),
            "normalized_entropy": np.mean([entropy(r) for r in head]) / math.log(8),
            "perplexity": np.mean([math.exp(entropy(r)) for r in head]),
            "effective_tokens": (head > 0.1).sum(axis=1).mean(),
            "max_weight": head.max(axis=1).mean(),
            "gini": np.mean([gini(r) for r in head]),
            "sparsity": (head < 0.1 / 8).mean(),
            "saturation": (head.max(axis=1) > 0.99).mean(),
            "sink_share": head[:, sinks].sum(axis=1).mean(),
            "special_share": head[:, [0, 7]].sum(axis=1).mean(),
            "atom_diversity": np.mean([1 - np.corrcoef(head[i], head[k])[0, 1] for i, k in different]),
            "atom_divergence": np.mean([jensenshannon(head[i], head[k]) ** 2 for i, k in different]),
        }
        assert {k: row[k] for k in expected} == pytest.approx(expected, abs=1e-12)
    for name in ("entropy", "gini", "saturation", "atom_diversity"):
        assert rows.structure[f"{TAP}.{name}"] == pytest.approx(np.mean([row[name] for row in rows.heads]))


def test_structure_columns_are_those_of_numpy(make_record: MakeRecord) -> None:
    weights, classes = softmax_rows((4, 3, 8), seed=1), np.array([0, 1, 2])
    rows = attention_rows(make_record({TAP: weights}, elements=["Ba", "O", "Ti"]), TAP)
    column = {name.removeprefix(f"{TAP}."): value for name, value in rows.structure.items()}
    averaged = weights.mean(axis=0)
    heads = [
        1 - np.corrcoef(weights[g, i], weights[h, i])[0, 1]
        for i in range(3)
        for g, h in itertools.combinations(range(4), 2)
    ]
    expected = {
        "averaged.entropy": np.mean([entropy(r) for r in averaged]),
        "averaged.max_weight": averaged.max(axis=1).mean(),
        "averaged.gini": np.mean([gini(r) for r in averaged]),
        "averaged.atom_diversity": np.mean(
            [1 - np.corrcoef(averaged[i], averaged[k])[0, 1] for i, k in itertools.combinations(range(3), 2)]
        ),
        "head_diversity": np.mean(heads),
        "sink_rate": (weights.mean(axis=1) > 0.3).mean(),
        "sink_share_uniform": 3 / 8,
        "special_share_uniform": 2 / 8,
        "atom_difference": total_variation(weights, classes).max(),
        "averaged.one_hot_fingerprint": 0.0,
    }
    assert {k: column[k] for k in expected} == pytest.approx(expected, abs=1e-12)
    for atom, row in enumerate(rows.atoms):
        assert row[f"{TAP}.entropy"] == pytest.approx(np.mean([entropy(head[atom]) for head in weights]))
        assert row[f"{TAP}.max_weight"] == pytest.approx(weights[:, atom].max(axis=-1).mean())


def test_one_atom_has_statistics_and_no_differences(make_record: MakeRecord) -> None:
    rows = attention_rows(make_record({TAP: softmax_rows((2, 1, 8))}, elements=["Cu"]), TAP)
    for name in ("atom_difference", "atom_difference_independent", "atom_diversity", "averaged.atom_diversity"):
        assert math.isnan(rows.structure[f"{TAP}.{name}"])
    assert "fewer than two" in rows.structure[f"{TAP}.averaged.atom_diversity_reason"]
    assert 0 < rows.structure[f"{TAP}.entropy"] < math.log(8)


def test_one_class_has_no_differences_even_where_rows_differ(make_record: MakeRecord) -> None:
    record = make_record({TAP: softmax_rows((2, 3, 8))}, elements=["Si"] * 3, classes=[0, 0, 0])
    rows = attention_rows(record, TAP)
    assert math.isnan(rows.structure[f"{TAP}.atom_difference"])
    assert math.isnan(rows.structure[f"{TAP}.atom_divergence"])
    assert "different classes" in rows.structure[f"{TAP}.averaged.atom_diversity_reason"]


def test_one_token_is_neither_saturated_nor_flat(make_record: MakeRecord) -> None:
    record = make_record({TAP: np.ones((2, 3, 1))}, elements=["Ba", "O", "Ti"], pieces=["[CLS]"])
    rows = attention_rows(record, TAP)
    for name in ("saturation", "normalized_entropy", "head_diversity", "averaged.one_hot_fingerprint"):
        assert math.isnan(rows.structure[f"{TAP}.{name}"])
    assert rows.structure[f"{TAP}.entropy"] == 0.0
    assert rows.structure[f"{TAP}.atom_difference"] == 0.0
    assert rows.structure[f"{TAP}.sink_share_uniform"] == 1.0


def test_eight_one_hot_heads_leave_the_fingerprint(make_record: MakeRecord) -> None:
    weights = np.zeros((8, 2, 8))
    for atom in range(2):
        for head, token in enumerate((1, 1, 1, 5, 2, 3, 4, 6)):
            weights[head, atom, token] = 1.0
    rows = attention_rows(make_record({TAP: weights}, elements=["Ba", "O"]), TAP)
    assert rows.structure[f"{TAP}.averaged.max_weight"] == 0.375
    assert rows.structure[f"{TAP}.averaged.one_hot_fingerprint"] == 1.0
    assert rows.structure[f"{TAP}.saturation"] == 1.0
    assert rows.structure[f"{TAP}.averaged.effective_tokens"] == 6.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=9), st.integers(0, 10_000))
def test_class_differences_are_those_of_a_loop_over_pairs(classes: list[int], seed: int) -> None:
    labels = np.array(classes)
    weights = softmax_rows((3, len(labels), 5), seed=seed)
    found = class_differences(torch.from_numpy(weights), labels).numpy()
    if len(set(classes)) == 1:
        assert np.isnan(found).all()
    else:
        np.testing.assert_allclose(found, total_variation(weights, labels), rtol=0, atol=1e-13)


def test_class_differences_do_not_depend_on_the_order_of_atoms() -> None:
    weights, classes = softmax_rows((2, 7, 6)), np.array([2, 0, 1, 1, 0, 2, 2])
    order = np.random.default_rng(0).permutation(7)
    one = class_differences(torch.from_numpy(weights), classes)
    two = class_differences(torch.from_numpy(weights[:, order]), classes[order])
    torch.testing.assert_close(one, two, rtol=0, atol=1e-14)


@pytest.mark.parametrize("sharpness", [0.01, 0.5, 3.0, 30.0])
def test_independent_rows_differ_by_their_control_whatever_their_sharpness(sharpness: float) -> None:
    weights, classes = softmax_rows((1, 60, 200), sharpness=sharpness), np.arange(60)
    columns = difference_columns(torch.from_numpy(weights), classes)
    assert columns["atom_difference"] / columns["atom_difference_independent"] == pytest.approx(1.0, abs=0.02)


def test_equal_rows_differ_by_nothing_and_their_control_stays() -> None:
    weights = np.repeat(softmax_rows((1, 1, 200)), 6, axis=1)
    columns = difference_columns(torch.from_numpy(weights), np.arange(6))
    assert columns["atom_difference"] == 0.0
    assert columns["atom_difference_independent"] > 0.5


def test_a_uniform_map_has_neither_difference_nor_control() -> None:
    columns = difference_columns(torch.full((2, 4, 16), 1 / 16, dtype=torch.float64), np.arange(4))
    assert columns == {"atom_difference": 0.0, "atom_difference_independent": 0.0}


@pytest.mark.parametrize("classes", [[0, 0, 0, 0, 1], [1, 0, 0, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1, 1], [0, 0, 1]])
def test_the_control_never_pairs_atoms_of_one_class(classes: list[int]) -> None:
    # Any order of (1, 0) is 0.5 away from (0.5, 0.5), which is 0 away from its own class.
    rows = torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)[classes]
    assert independent_difference(rows, np.array(classes)) == 0.5


def test_the_difference_is_that_of_the_head_in_which_atoms_differ_most() -> None:
    flat, sharp = softmax_rows((1, 4, 50), sharpness=0.1), np.repeat(softmax_rows((1, 1, 50), sharpness=5.0), 4, axis=1)
    columns = difference_columns(torch.from_numpy(np.concatenate([sharp, flat])), np.arange(4))
    alone = difference_columns(torch.from_numpy(flat), np.arange(4))
    assert columns == pytest.approx(alone)


def test_sinks_are_special_tokens_and_pieces_of_punctuation(make_encoding: Callable[..., Any]) -> None:
    encoding = make_encoding(["[CLS]", "Ba(1)", ",", "3.5", "(", "and", ".", "[SEP]"])
    assert sink_tokens(encoding).tolist() == [True, False, True, False, True, False, True, True]


def test_maps_to_tokens_are_found_by_their_axes(make_record: MakeRecord) -> None:
    record = make_record(
        {TAP: softmax_rows((2, 2, 8)), "fusion.0.attention": softmax_rows((2, 2, 8)), "gcn.0.nodes": np.ones((2, 3))},
        elements=["Ba", "O"],
    )
    assert taps_to_tokens(record) == [TAP, "fusion.0.attention"]


# Nodes


def numpy_distances(values: np.ndarray, keep: Callable[[int, int], bool]) -> float:
    pairs = [(i, k) for i, k in itertools.combinations(range(len(values)), 2) if keep(i, k)]
    return float(np.mean([cosine(values[i], values[k]) for i, k in pairs])) if pairs else math.nan


def test_stage_rows_are_those_of_numpy(make_record: MakeRecord, make_network: Callable[..., Any]) -> None:
    generator = np.random.default_rng(0)
    values = {f"{stage}.nodes": generator.normal(size=(6, 16)) for stage in ("embedding", "alignn.0", "gcn.0")}
    elements = ["Ba", "Ba", "O", "O", "O", "Ti"]
    classes, orbits = np.array([0, 1, 2, 2, 3, 4]), np.array([0, 0, 1, 1, 1, 2])
    record = make_record(values, elements=elements, classes=classes, orbits=orbits)
    references = TextReferences(make_network(), _NoEncoder(), [], [], 0)  # type: ignore[arg-type]
    references.layers = []
    rows = stage_rows(record, references)
    assert [row["stage"] for row in rows] == list(values) == stages(record)
    source, target = record.graph.bond_source.numpy(), record.graph.bond_target.numpy()
    bonds = {tuple(sorted(pair)) for pair in zip(source.tolist(), target.tolist(), strict=True) if pair[0] != pair[1]}
    for row, x in zip(rows, values.values(), strict=True):
        centred = x - x.mean(axis=0)
        singular = np.linalg.svd(centred, compute_uv=False)
        energy = sum(2 * np.sum((x[i] - x[k]) ** 2) for i, k in bonds) / 6
        between = sum(2 * np.sum((x[i] - x[k]) ** 2) for i, k in bonds if classes[i] != classes[k]) / 6
        means = np.stack([x[classes == c].mean(axis=0) for c in classes])
        expected = {
            "norm": np.linalg.norm(x, axis=1).mean(),
            "variance": x.var(axis=0, ddof=1).mean(),
            "pairwise_correlation": np.mean(
                [np.corrcoef(x[i], x[k])[0, 1] for i, k in itertools.combinations(range(6), 2)]
            ),
            "dirichlet_energy": energy,
            "between_class_dirichlet_energy": between / np.mean(np.sum(x**2, axis=1)),
            "mean_average_distance": numpy_distances(x, lambda i, k: True),
            "effective_rank": math.exp(entropy(singular / singular.sum())),
            "between_class_distance": numpy_distances(x, lambda i, k: classes[i] != classes[k]),
            "same_element_distance": numpy_distances(
                x, lambda i, k: classes[i] != classes[k] and elements[i] == elements[k]
            ),
            "different_element_distance": numpy_distances(x, lambda i, k: elements[i] != elements[k]),
            "within_class_distance": numpy_distances(x, lambda i, k: classes[i] == classes[k]),
            "split_orbit_distance": numpy_distances(
                x, lambda i, k: classes[i] != classes[k] and orbits[i] == orbits[k]
            ),
            "between_class_variance_share": np.sum((means - x.mean(axis=0)) ** 2) / np.sum(centred**2),
            "between_class_identical_share": 0.0,
        }
        assert {k: row[k] for k in expected} == pytest.approx(expected, abs=1e-12)


class _NoEncoder:
    def encode(self, texts: Any) -> Any:
        raise AssertionError("no text is needed")


def test_energies_are_those_of_the_kernel(make_record: MakeRecord) -> None:
    values, classes = np.random.default_rng(1).normal(size=(7, 5)), np.array([0, 0, 1, 2, 2, 3, 1])
    record = make_record({"gcn.0.nodes": values}, elements=["Ba"] * 7, classes=classes)
    bonds = record.graph.bond_source, record.graph.bond_target
    found = Neighbours.of(record).energies(torch.from_numpy(values))
    assert found["dirichlet_energy"] == pytest.approx(float(node_metrics.dirichlet_energy(values, *bonds).energy))
    between = float(node_metrics.dirichlet_energy(values, *bonds, classes=classes).energy)
    assert found["between_class_dirichlet_energy"] * np.mean(np.sum(values**2, axis=1)) == pytest.approx(between)


def test_one_atom_has_no_distances(make_record: MakeRecord) -> None:
    record = make_record({"gcn.0.nodes": np.ones((1, 4))}, elements=["Cu"])
    assert all(
        math.isnan(d) for d in pair_distances(torch.ones(1, 4, dtype=torch.float64), pairs_of_atoms(record)).values()
    )
    assert math.isnan(Neighbours.of(record).energies(torch.ones(1, 4, dtype=torch.float64))["dirichlet_energy"])


def test_atoms_without_features_have_no_direction(make_record: MakeRecord) -> None:
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    record = make_record({"gcn.0.nodes": values.numpy()}, elements=["Ba", "O", "Ti"])
    assert pair_distances(values, pairs_of_atoms(record))["between_class_distance"] == pytest.approx(1.0)
    values[0, 0] = torch.nan
    assert math.isnan(pair_distances(values, pairs_of_atoms(record))["between_class_distance"])


def test_partitions_are_compared(make_record: MakeRecord) -> None:
    nodes = {"gcn.0.nodes": np.ones((5, 2))}
    elements = ["Ba", "O", "O", "O", "Ti"]
    alike = make_record(nodes, elements=elements, classes=[0, 1, 1, 1, 2], orbits=[0, 1, 1, 1, 2])
    assert partition_columns(alike) == {"orbits_split": 0, "orbits_cut": 0, "classes_merged": 0}
    split = make_record(nodes, elements=elements, classes=[0, 1, 2, 2, 3], orbits=[0, 1, 1, 1, 2])
    bonds = np.bincount(split.graph.bond_target.numpy(), minlength=5)
    found = partition_columns(split)
    assert found["orbits_split"] == 1
    assert found["orbits_cut"] == int(len(set(bonds[1:4].tolist())) > 1)
    merged = make_record(nodes, elements=elements, classes=[0, 1, 1, 1, 2], orbits=[0, 1, 2, 2, 3])
    assert partition_columns(merged)["classes_merged"] == 1


# Real passes


@pytest.fixture(scope="module")
def encoder() -> Any:
    return load_encoder(None, cache_directory=False)


def run(network: Any, folder: Path, encoder: Any, batch_size: int) -> list[dict[str, list[dict[str, Any]]]]:
    dataset = CrystalDataset.from_directory(folder)
    references = TextReferences(network, encoder, [sample.text for sample in dataset], [], 0)
    runner = Runner(
        network,
        encoder,
        taps=watched_taps(network),
        batch_size=batch_size,
        counterfactuals=standard_counterfactuals(encoder, references.texts),
    )
    return [measure_structure(record, references, text_scales(network)) for record in runner.run(iter(dataset))]


@pytest.mark.parametrize("changes", [{}, {"middle_fusion_type": "token-attention"}, {"use_middle_fusion": False}])
def test_rows_do_not_depend_on_the_batch(
    changes: dict[str, Any], make_network: Callable[..., Any], textbook_data: Path, encoder: Any
) -> None:
    network = make_network(token_features=384, **changes)
    alone, together = (run(network, textbook_data, encoder, size) for size in (1, 5))
    assert len(alone) == len(together) == 5
    for one, other in zip(alone, together, strict=True):
        for table, rows in one.items():
            for a, b in zip(rows, other[table], strict=True):
                assert a.keys() == b.keys()
                for name, value in a.items():
                    if isinstance(value, float):
                        assert b[name] == pytest.approx(value, rel=0, abs=1e-9, nan_ok=True), name
                    else:
                        assert b[name] == value, name


def test_real_rows_are_those_of_numpy(make_network: Callable[..., Any], textbook_data: Path, encoder: Any) -> None:
    network = make_network(token_features=384)
    dataset = CrystalDataset.from_directory(textbook_data)
    references = TextReferences(network, encoder, [sample.text for sample in dataset], [], 0)
    runner = Runner(network, encoder, taps=watched_taps(network), batch_size=5)
    for record in runner.run(iter(dataset)):
        rows = measure_structure(record, references, text_scales(network))
        weights = record.values(TAP)
        assert weights.shape[1:] == (record.graph.number_of_atoms, len(record.encoding.pieces))
        row = rows["structures"][0]
        assert row[f"{TAP}.entropy"] == pytest.approx(entropy(weights, axis=-1).mean())
        classes = record.classes.labels
        if len(set(classes)) > 1:
            assert row[f"{TAP}.atom_difference"] == pytest.approx(total_variation(weights, classes).max(), abs=1e-12)
        text = record.encoding.embeddings[0].double().numpy()
        own = _transformed(network, text)
        others = [
            _transformed(network, encoder.encode([t])[0].embeddings[0].double().numpy())
            for t in references.texts
            if t != record.encoding.text
        ]
        for stage in rows["layers"]:
            values = record.values(stage["stage"])
            cosines = np.mean([1 - cosine(x, own) for x in values])
            assert stage["fusion.1.text_cosine"] == pytest.approx(cosines, abs=1e-9)
            control = np.mean([[1 - cosine(x, t) for x in values] for t in others])
            assert stage["fusion.1.text_cosine_control"] == pytest.approx(control, abs=1e-9)


def _transformed(network: Any, first_token: np.ndarray) -> np.ndarray:
    twin = copy.deepcopy(network).double()
    fusion = twin.middle_fusion_modules["layer_1"]
    with torch.no_grad():
        projected = twin.text_projection(torch.from_numpy(first_token)[None])
        result: np.ndarray = fusion.text_transform(projected)[0].double().numpy()
    return result
