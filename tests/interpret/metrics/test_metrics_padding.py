"""Padding can reach nothing: statistics are bit for bit the same however a structure is padded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from interpret.metrics.attention import (
    average_heads,
    effective_tokens,
    gini,
    max_weight,
    mean_over_atoms,
    padding_bias,
    renormalize,
)
from interpret.metrics.concentration import (
    averaged_saturation_fingerprint,
    head_saturation,
    sink_rate,
    sink_share,
)
from interpret.metrics.diversity import atom_divergence, atom_diversity, head_diversity
from interpret.metrics.propagation import rollout
from interpret.metrics.summary import ROW_STATISTICS, summarize_attention


class Structure(NamedTuple):
    weights: np.ndarray
    classes: np.ndarray
    sinks: np.ndarray


@st.composite
def structures(draw, heads=None):
    heads = heads or draw(st.integers(1, 4))
    atoms, tokens = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.0, 0.3, 3.0, 200.0]))
    weights = special.softmax(rng.normal(size=(heads, atoms, tokens)) * scale, axis=-1)
    if draw(st.booleans()):
        weights = weights.astype(np.float32).astype(np.float64)
    return Structure(weights, rng.integers(0, 3, atoms), rng.random(tokens) < 0.3)


def embed(structure, atoms, tokens, rng):
    """The structure at random positions of a larger array filled with garbage."""
    heads, n, t = structure.weights.shape
    rows = np.sort(rng.choice(atoms, n, replace=False))
    columns = np.sort(rng.choice(tokens, t, replace=False))
    weights = rng.choice([np.nan, -7.0, 3e5, 0.25], size=(heads, atoms, tokens))
    weights[np.ix_(range(heads), rows, columns)] = structure.weights
    atom_mask, token_mask = np.zeros(atoms, dtype=bool), np.zeros(tokens, dtype=bool)
    atom_mask[rows], token_mask[columns] = True, True
    classes, sinks = rng.integers(0, 3, atoms), rng.random(tokens) < 0.5
    classes[rows], sinks[columns] = structure.classes, structure.sinks
    return Structure(weights, classes, sinks), token_mask, atom_mask


def same(left, right):
    torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)


def assert_same_summary(one, other, atoms):
    for name, values in one.rows.items():
        same(other.rows[name][:, atoms], values)
        assert other.rows[name][:, ~atoms].isnan().all()
    for name, values in one.heads.items():
        same(other.heads[name], values)
    for field in ("atom_diversity", "atom_divergence", "head_diversity"):
        for left, right in zip(getattr(one, field), getattr(other, field), strict=True):
            same(left, right)
    same(one.sinks.share, other.sinks.share)
    same(one.sinks.uniform, other.sinks.uniform)


@given(structure=structures(), extra=st.tuples(st.integers(0, 5), st.integers(0, 60)), seed=st.integers(0, 999))
@settings(max_examples=150, deadline=None)
def test_masked_rows_and_columns_change_nothing(structure, extra, seed):
    _, atoms, tokens = structure.weights.shape
    rng = np.random.default_rng(seed)
    padded, token_mask, atom_mask = embed(structure, atoms + extra[0], tokens + extra[1], rng)
    alone = summarize_attention(structure.weights, classes=structure.classes, sinks=structure.sinks)
    inside = summarize_attention(padded.weights, token_mask, atom_mask, classes=padded.classes, sinks=padded.sinks)
    assert_same_summary(alone, inside, atom_mask)
    same(sink_rate(padded.weights, token_mask, atom_mask)[token_mask], sink_rate(structure.weights))
    averaged, padded_average = average_heads(structure.weights), average_heads(padded.weights)
    same(
        averaged_saturation_fingerprint(padded_average, token_mask, atom_mask, heads=8),
        averaged_saturation_fingerprint(averaged, heads=8),
    )
    for left, right in zip(
        atom_diversity(padded_average, token_mask, atom_mask), atom_diversity(averaged), strict=True
    ):
        same(left, right)
    kept = renormalize(padded.weights, token_mask)
    same(kept.weights[:, atom_mask][..., token_mask], renormalize(structure.weights, [True] * tokens).weights)


@given(data=st.data(), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_a_structure_is_the_same_alone_and_in_a_batch(data, seed):
    heads = data.draw(st.integers(1, 3))
    members = data.draw(st.lists(structures(heads=heads), min_size=1, max_size=4))
    rng = np.random.default_rng(seed)
    atoms = max(m.weights.shape[1] for m in members)
    tokens = max(m.weights.shape[2] for m in members)
    embedded = [embed(m, atoms, tokens, rng) for m in members]
    weights = np.stack([e[0].weights for e in embedded])
    token_mask, atom_mask = np.stack([e[1] for e in embedded]), np.stack([e[2] for e in embedded])
    batch = summarize_attention(
        weights,
        token_mask,
        atom_mask,
        classes=np.stack([e[0].classes for e in embedded]),
        sinks=np.stack([e[0].sinks for e in embedded]),
    )
    for b, member in enumerate(members):
        alone = summarize_attention(member.weights, classes=member.classes, sinks=member.sinks)
        for name, values in alone.rows.items():
            same(batch.rows[name][b][:, atom_mask[b]], values)
        for name, values in alone.heads.items():
            same(batch.heads[name][b], values)
        for field in ("atom_diversity", "atom_divergence", "head_diversity"):
            for left, right in zip(getattr(alone, field), getattr(batch, field), strict=True):
                same(right[b], left)
        same(batch.sinks.share[b], alone.sinks.share)
        same(batch.sinks.uniform[b], alone.sinks.uniform)


@given(size=st.integers(1, 6), extra=st.integers(0, 30), layers=st.integers(1, 4), seed=st.integers(0, 999))
@settings(max_examples=50, deadline=None)
def test_rollout_ignores_padding(size, extra, layers, seed):
    rng = np.random.default_rng(seed)
    maps = special.softmax(rng.normal(size=(layers, size, size)), axis=-1)
    padded = rng.choice([np.nan, 5.0], size=(layers, size + extra, size + extra))
    kept = np.sort(rng.choice(size + extra, size, replace=False))
    padded[np.ix_(range(layers), kept, kept)] = maps
    mask = np.isin(np.arange(size + extra), kept)
    result = rollout(padded, mask)
    same(result[mask][:, mask], rollout(maps))
    assert result[~mask].isnan().all()


def test_noncontiguous_and_offset_views_give_the_same_bits():
    rng = np.random.default_rng(0)
    weights = torch.tensor(special.softmax(rng.normal(size=(5, 3, 4, 11)), axis=-1))
    storage = torch.zeros(weights.numel() + 1, dtype=torch.float64)
    storage[1:] = weights.flatten()
    offset = storage[1:].reshape(weights.shape)
    strided = weights.transpose(1, 2).contiguous().transpose(1, 2)
    for statistic in ROW_STATISTICS.values():
        same(statistic(offset), statistic(weights))
        same(statistic(strided), statistic(weights))
    for statistic in (atom_diversity, atom_divergence, head_diversity):
        same(statistic(offset).value, statistic(weights).value)
        same(statistic(strided).value, statistic(weights).value)


def recorded(shared, name="full"):
    inputs = np.load(shared / "oracle" / "inputs6.npz")
    outputs = np.load(shared / "oracle" / "outputs" / f"{name}.npz")
    weights = outputs["batch/fine_grained.atom_to_text"]
    token_mask = inputs["batch/attention_mask"].astype(bool)
    counts = inputs["batch/batch_num_nodes"]
    return weights, token_mask, np.arange(weights.shape[2]) < counts[:, None], outputs


def numpy_statistics(block):
    """The statistics of one unpadded float64 block [H, n, t], row by row in plain numpy."""
    heads, n, t = block.shape
    result = {name: np.zeros((heads, n)) for name in ROW_STATISTICS}
    for h, i in np.ndindex(heads, n):
        row = block[h, i]
        positive = row[row > 0]
        h_row = -(positive * np.log(positive)).sum()
        ordered = np.sort(row)
        k = np.arange(1, t + 1)
        result["entropy"][h, i] = h_row
        result["normalized_entropy"][h, i] = h_row / np.log(t)
        result["perplexity"][h, i] = np.exp(h_row)
        result["effective_tokens"][h, i] = np.count_nonzero(row > 0.1)
        result["max_weight"][h, i] = row.max()
        result["gini"][h, i] = ((2 * k - t - 1) * ordered).sum() / (t * row.sum())
        result["sparsity"][h, i] = np.count_nonzero(row < 0.1 / t) / t
    return result


@pytest.mark.parametrize("name", ["full", "no_middle", "late_gated", "g1123_full", "mid01_gatenorm_scale"])
def test_recorded_attention_agrees_with_numpy_over_the_unpadded_part(shared, name):
    weights, token_mask, atom_mask, _ = recorded(shared, name)
    for b in range(len(weights)):
        block = weights[b][:, atom_mask[b]][..., token_mask[b]].astype(np.float64)
        expected = numpy_statistics(block)
        for key, statistic in ROW_STATISTICS.items():
            values = statistic(weights, token_mask, atom_mask)[b]
            np.testing.assert_allclose(values[:, atom_mask[b]], expected[key], rtol=1e-12, atol=1e-12)
            assert values[:, ~atom_mask[b]].isnan().all()
        diversity = atom_diversity(weights, token_mask, atom_mask)
        for h in range(block.shape[0]):
            if block.shape[1] == 1:
                assert diversity.explain(b, h).startswith("fewer than two unmasked atoms")
                continue
            correlations = np.corrcoef(block[h])[np.triu_indices(block.shape[1], 1)]
            assert diversity.value[b, h].item() == pytest.approx(1 - correlations.mean(), abs=1e-12)


def test_recorded_batch_and_unpadded_structures_agree_exactly(shared):
    weights, token_mask, atom_mask, _ = recorded(shared)
    batch = summarize_attention(weights, token_mask, atom_mask, sinks=np.arange(103) == 0)
    for b in range(len(weights)):
        alone = np.ascontiguousarray(weights[b][:, atom_mask[b]][..., token_mask[b]])
        single = summarize_attention(alone, sinks=np.arange(alone.shape[-1]) == 0)
        for key, values in single.rows.items():
            same(batch.rows[key][b][:, atom_mask[b]], values)
        for key, values in single.heads.items():
            same(batch.heads[key][b], values)
        same(batch.atom_diversity.value[b], single.atom_diversity.value)
        same(batch.atom_divergence.value[b], single.atom_divergence.value)
        same(batch.head_diversity.value[b], single.head_diversity.value)
        same(batch.sinks.share[b], single.sinks.share)


def test_recorded_batch_and_single_runs_agree_within_float32(shared):
    weights, token_mask, atom_mask, outputs = recorded(shared)
    batch = summarize_attention(weights, token_mask, atom_mask)
    for b in range(len(weights)):
        single = summarize_attention(outputs[f"single{b}/fine_grained.atom_to_text"])
        for key in ROW_STATISTICS:
            torch.testing.assert_close(single.heads[key][0], batch.heads[key][b], rtol=0, atol=2e-5)


def test_counting_padding_inflates_the_recorded_gini(shared):
    weights, token_mask, atom_mask, _ = recorded(shared)
    bias = padding_bias(gini, weights, token_mask, atom_mask)
    shortest = int(token_mask.sum(1).argmin())
    assert bias.masked.max() < 0.1
    assert bias.padded[shortest] > 0.6
    assert bias.padded.mean() > 5 * bias.masked.mean()
    right = mean_over_atoms(gini(weights, token_mask, atom_mask), atom_mask).mean(-1)
    same(bias.masked, right)
    padded_everywhere = np.sort(weights.astype(np.float64), -1)
    k = np.arange(1, 104)
    by_hand = ((2 * k - 104) * padded_everywhere).sum(-1) / (103 * padded_everywhere.sum(-1))
    np.testing.assert_allclose(bias.padded, by_hand.mean((1, 2)), atol=1e-12)
    # Nothing in these recordings exceeds 0.1, with or without padding, so neither statistic moves by it.
    assert padding_bias(effective_tokens, weights, token_mask, atom_mask).padded.max() == 0
    assert padding_bias(max_weight, weights, token_mask, atom_mask).padded.max() < 0.1


def test_recorded_heads_are_not_saturated_and_vary_between_atoms(shared):
    weights, token_mask, atom_mask, _ = recorded(shared)
    assert (head_saturation(weights, token_mask, atom_mask) == 0).all()
    averaged = average_heads(weights)
    assert (averaged_saturation_fingerprint(averaged, token_mask, atom_mask, heads=8) == 0).all()
    share = sink_share(weights, np.arange(103) == 0, token_mask, atom_mask)
    for b, length in enumerate(token_mask.sum(1)):
        expected = weights[b].astype(np.float64)[:, atom_mask[b], 0].mean(-1)
        np.testing.assert_allclose(share.share[b], expected, atol=1e-14)
        assert share.uniform[b].item() == pytest.approx(1 / length)
