"""Heads: one sharpened by a known factor is found, permuted ones are matched back."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from interpret.compare import Inference, compare
from interpret.compare.heads import head_similarity, match_heads
from interpret.runner import Runner
from model.dataset import CrystalDataset

from .conftest import HEADS, TAP, permuted_heads, scaled_queries


def maps_of(network: Any, dataset: CrystalDataset, encoder: Any) -> dict[str, np.ndarray]:
    return {record.id: record.values(TAP) for record in Runner(network, encoder, taps=[TAP]).run(dataset)}


def entropies(maps: np.ndarray) -> float:
    """Mean over atoms of the entropy of [N, T]."""
    return float(-(maps * np.log(maps)).sum(axis=-1).mean())


@pytest.mark.parametrize(("head", "factor"), [(2, 2.0), (0, 0.5)])
def test_a_sharpened_head_is_found(
    head: int, factor: float, network: Any, crystals: CrystalDataset, encoder: Any
) -> None:
    comparison = compare(
        network,
        scaled_queries(network, [head], factor),
        crystals,
        encoder,
        inference=Inference(resamples=999),
        untrained=False,
    )
    maps = maps_of(network, crystals, encoder)
    changes, largest = [], []
    for values in maps.values():
        # A factor on the logits is a power of the weights; powers of two leave the float32 weights exact.
        sharper = values[head] ** factor / (values[head] ** factor).sum(axis=-1, keepdims=True)
        changes.append(entropies(sharper) - entropies(values[head]))
        largest.append(sharper.max(-1).mean() - values[head].max(-1).mean())
    table = comparison.heads.set_index(["head_a", "metric"])
    assert (comparison.heads["head_a"] == comparison.heads["head_b"]).all()
    entropy, most = table.loc[(head, "entropy")], table.loc[(head, "max_weight")]
    assert entropy["difference"] == pytest.approx(np.mean(changes), abs=1e-10)
    assert entropy["ci_low"] <= np.mean(changes) <= entropy["ci_high"]
    assert np.sign(entropy["difference"]) == np.sign(1 - factor)
    assert max(entropy["ci_low"] * entropy["ci_high"], 0) > 0, "the interval spans no zero"
    assert most["ci_low"] <= np.mean(largest) <= most["ci_high"]
    assert np.sign(most["difference"]) == np.sign(factor - 1)
    others = comparison.heads[comparison.heads["head_a"] != head]
    assert others["identical"].all()
    assert (others["difference"].dropna() == 0).all()
    # The mean over heads moves by a quarter of it.
    overall = comparison.statistics.set_index("metric").loc[f"{TAP}.entropy"]
    assert overall["difference"] == pytest.approx(np.mean(changes) / HEADS, abs=1e-10)


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_permuted_heads_are_matched_back(
    order: tuple[int, ...], network: Any, crystals: CrystalDataset, encoder: Any
) -> None:
    twin = permuted_heads(network, order)
    comparison = compare(network, twin, crystals, encoder, inference=Inference(resamples=999), untrained=False)
    found = dict(zip(comparison.matches["head_a"], comparison.matches["head_b"], strict=True))
    assert [found[order[new]] for new in range(HEADS)] == list(range(HEADS))
    assert comparison.matches["certain"].all()
    assert comparison.heads["identical"].all()
    assert (comparison.predictions["disagreement"] == 0).all()
    # A permutation of heads is no difference of any figure that is a mean over heads.
    assert comparison.statistics.query("structures > 0")["identical"].all()


def test_similarity_is_pearson_correlation() -> None:
    generator = np.random.default_rng(0)
    first, second = (generator.dirichlet(np.ones(7), size=(heads, 3)) for heads in (4, 5))
    similarity = head_similarity(first, second)
    assert similarity.shape == (4, 5)
    for h, g in np.ndindex(4, 5):
        assert similarity[h, g] == pytest.approx(np.corrcoef(first[h].ravel(), second[g].ravel())[0, 1], abs=1e-12)


def test_uniform_maps_have_no_pattern_to_compare() -> None:
    maps = np.full((2, 3, 7), 1 / 7)
    assert np.isnan(head_similarity(maps, maps)).all()
    # Undefined everywhere: heads keep their numbers, and nothing is certain.
    matches = match_heads(head_similarity(maps, maps)[None])
    assert [(m.head_a, m.head_b, m.certain, m.structures) for m in matches] == [(0, 0, False, 0), (1, 1, False, 0)]


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_the_matching_is_the_best_of_all(shape: tuple[int, int]) -> None:
    similarities = np.random.default_rng(sum(shape)).uniform(-1, 1, size=(6, *shape))
    mean = similarities.mean(axis=0)
    matches = match_heads(similarities)
    found = sum(mean[m.head_a, m.head_b] for m in matches)
    small, large = sorted(shape)
    wide = mean if shape[0] <= shape[1] else mean.T
    best = max(
        sum(wide[row, column] for row, column in enumerate(columns))
        for columns in itertools.permutations(range(large), small)
    )
    assert found == pytest.approx(best, abs=1e-12)
    assert len(matches) == small


def test_heads_without_a_partner_are_gaps(
    make_network: Any, network: Any, crystals: CrystalDataset, encoder: Any
) -> None:
    few = make_network(fine_grained_num_heads=2)
    comparison = compare(network, few, crystals, encoder, labels=("four", "two"))
    alone = comparison.heads[comparison.heads["gap"].str.contains("no partner")]
    assert alone["head_a"].nunique() == 2
    assert alone["head_b"].isna().all()
    assert alone["gap"].str.startswith("two has fewer heads").all()
    assert len(comparison.matches) == 2


def test_noise_is_no_certain_match() -> None:
    """The best of eight by chance: less than one match in twenty may be called certain."""
    certain = 0
    for seed in range(30):
        noise = np.random.default_rng(seed).normal(0, 0.1, size=(40, 8, 8))
        certain += sum(match.certain for match in match_heads(noise, Inference(resamples=199)))
    assert certain / 240 < 0.05


def test_a_true_match_among_noise_is_certain() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, size=(40, 4, 4))
    noise[:, 1, 3] += 0.5
    found = {match.head_a: match for match in match_heads(noise)}
    assert (found[1].head_b, found[1].certain) == (3, True)
    assert found[1].margin_low > 0.3
