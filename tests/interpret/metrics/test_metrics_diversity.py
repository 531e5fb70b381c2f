"""Differences between atoms and between heads against numpy, scipy and cases worked by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.spatial.distance import jensenshannon

from interpret.metrics import MetricError, Undefined, _arrays
from interpret.metrics.attention import average_heads
from interpret.metrics.concentration import (
    averaged_saturation_fingerprint,
    head_saturation,
    sink_rate,
    sink_share,
)
from interpret.metrics.diversity import atom_divergence, atom_diversity, head_diversity


def random_weights(seed, heads=3, atoms=5, tokens=8):
    logits = np.random.default_rng(seed).normal(size=(heads, atoms, tokens)) * 2
    return special.softmax(logits, axis=-1)


def one_hot(positions, tokens):
    return torch.nn.functional.one_hot(torch.tensor(positions), tokens).to(torch.float64)


@pytest.mark.parametrize("classes", [None, [0, 0, 1, 1, 2]])
def test_atom_statistics_agree_with_numpy_and_scipy(classes):
    weights = random_weights(0)
    pairs = [(i, k) for i, k in itertools.combinations(range(5), 2) if classes is None or classes[i] != classes[k]]
    diversity = atom_diversity(weights, classes=classes)
    divergence = atom_divergence(weights, classes=classes)
    for h in range(3):
        correlations = [np.corrcoef(weights[h, i], weights[h, k])[0, 1] for i, k in pairs]
        divergences = [jensenshannon(weights[h, i], weights[h, k]) ** 2 for i, k in pairs]
        assert diversity.value[h].item() == pytest.approx(1 - np.mean(correlations), abs=1e-13)
        assert divergence.value[h].item() == pytest.approx(np.mean(divergences), abs=1e-13)
    assert diversity.pairs.tolist() == divergence.pairs.tolist() == [len(pairs)] * 3
    assert diversity.left_out.tolist() == [0] * 3
    assert diversity.explain(0) is None


def test_head_diversity_agrees_with_numpy():
    weights = random_weights(1, heads=4, atoms=3)
    correlations = [
        np.corrcoef(weights[h, i], weights[g, i])[0, 1]
        for i in range(3)
        for h, g in itertools.combinations(range(4), 2)
    ]
    result = head_diversity(weights)
    assert result.value.item() == pytest.approx(1 - np.mean(correlations), abs=1e-13)
    assert result.pairs.item() == len(correlations)


@pytest.mark.parametrize(("atoms", "tokens"), [(2, 2), (2, 103), (4, 9), (7, 64), (40, 513)])
def test_identical_rows_have_exactly_no_diversity(atoms, tokens):
    row = special.softmax(np.random.default_rng(2).normal(size=tokens) * 3)
    weights = np.broadcast_to(row, (2, atoms, tokens))
    assert (atom_diversity(weights).value == 0).all()
    assert (atom_divergence(weights).value == 0).all()
    assert head_diversity(weights).value.item() == 0


def test_disjoint_rows_have_the_largest_divergence():
    weights = one_hot([[0, 3]], 4)
    assert atom_divergence(weights).value.item() == pytest.approx(math.log(2), abs=1e-15)
    # Two different one-hot rows of T tokens correlate by -1 / (T - 1).
    assert atom_diversity(weights).value.item() == pytest.approx(1 + 1 / 3, abs=1e-15)


def test_head_average_can_hide_diversity_and_the_heads_show_it():
    swapped = torch.stack([one_hot([0, 1], 3), one_hot([1, 0], 3)])
    assert (atom_diversity(swapped).value > 1).all()
    assert atom_diversity(average_heads(swapped)).value.item() == 0


def test_constant_rows_are_left_out_and_counted():
    weights = random_weights(3, heads=1, atoms=4, tokens=6)
    weights[0, 1] = 1 / 6
    kept = [0, 2, 3]
    expected = [np.corrcoef(weights[0, i], weights[0, k])[0, 1] for i, k in itertools.combinations(kept, 2)]
    result = atom_diversity(weights)
    assert result.value.item() == pytest.approx(1 - np.mean(expected), abs=1e-13)
    assert (result.pairs.item(), result.left_out.item()) == (3, 3)
    assert atom_divergence(weights).pairs.item() == 6


def test_float32_rounding_of_a_uniform_row_is_constant():
    logits = torch.full((1, 3, 103), 0.37) + 1e-8 * torch.randn(1, 3, 103, generator=torch.Generator().manual_seed(0))
    weights = torch.softmax(logits, -1)
    result = atom_diversity(weights)
    assert result.value.isnan().all()
    assert result.left_out.item() == 3
    assert result.explain(0) == Undefined.CONSTANT.sentence


def test_what_is_undefined_says_why():
    weights = random_weights(4)
    one_atom = atom_diversity(weights[:, :1])
    assert one_atom.value.isnan().all()
    assert one_atom.explain(1) == Undefined.ONE_ATOM.sentence
    one_class = atom_diversity(weights, classes=[7] * 5)
    assert one_class.value.isnan().all()
    assert one_class.explain(0) == Undefined.ONE_CLASS.sentence
    assert atom_divergence(weights, classes=[7] * 5).value.isnan().all()
    one_token = atom_divergence(np.ones((2, 3, 1)))
    assert one_token.explain(0) == Undefined.ONE_TOKEN.sentence
    assert one_token.value.isnan().all()
    no_token = atom_diversity(np.zeros((2, 3, 0)))
    assert no_token.explain(0) == Undefined.NO_ROWS.sentence
    one_head = head_diversity(weights[:1])
    assert one_head.value.isnan()
    assert one_head.explain() == Undefined.ONE_HEAD.sentence
    broken = weights.copy()
    broken[1, 0, 0] = np.nan
    not_finite = atom_diversity(broken)
    assert not_finite.value.isnan().tolist() == [False, True, False]
    assert not_finite.explain(1) == Undefined.NOT_FINITE.sentence
    assert head_diversity(broken).explain() == Undefined.NOT_FINITE.sentence


def test_each_structure_of_a_batch_has_its_own_classes_and_reason():
    weights = np.stack([random_weights(5), random_weights(6), random_weights(7)])
    atom_mask = np.array([[True] * 5, [True, True, True, False, False], [True] + [False] * 4])
    classes = np.array([[0, 1, 0, 1, 0], [2, 2, 2, 0, 1], [0] * 5])
    result = atom_diversity(weights, atom_mask=atom_mask, classes=classes)
    assert result.value.shape == (3, 3)
    assert result.pairs[:, 0].tolist() == [6, 0, 0]
    assert result.explain(1, 0) == Undefined.ONE_CLASS.sentence
    assert result.explain(2, 0) == Undefined.ONE_ATOM.sentence
    assert head_diversity(weights, atom_mask=atom_mask).pairs.tolist() == [15, 9, 3]


def test_classes_must_fit_and_be_whole():
    with pytest.raises(MetricError, match=r"'classes' to be \[5\]"):
        atom_diversity(random_weights(0), classes=[0, 1])
    with pytest.raises(MetricError, match="whole numbers"):
        atom_diversity(random_weights(0), classes=[0.5] * 5)


def test_pairs_computed_in_chunks_are_the_same(monkeypatch):
    weights = random_weights(8, atoms=9)
    whole = [atom_diversity(weights), atom_divergence(weights), head_diversity(weights)]
    monkeypatch.setattr(_arrays, "_CHUNK_VALUES", 50)
    parts = [atom_diversity(weights), atom_divergence(weights), head_diversity(weights)]
    for left, right in zip(whole, parts, strict=True):
        assert torch.equal(left.value, right.value)


@given(seed=st.integers(0, 2**31), atoms=st.integers(2, 6), tokens=st.integers(2, 12))
@settings(max_examples=100, deadline=None)
def test_order_of_atoms_and_tokens_does_not_matter(seed, atoms, tokens):
    rng = np.random.default_rng(seed)
    weights = special.softmax(rng.normal(size=(2, atoms, tokens)) * 3, axis=-1)
    shuffled = weights[:, rng.permutation(atoms)][..., rng.permutation(tokens)]
    for statistic in (atom_diversity, atom_divergence, head_diversity):
        torch.testing.assert_close(
            statistic(weights).value, statistic(shuffled).value, rtol=0, atol=1e-12, equal_nan=True
        )
    assert (atom_divergence(weights).value <= math.log(2) + 1e-15).all()


def test_saturation_counts_rows_above_the_threshold():
    weights = torch.full((2, 4, 5), 0.2, dtype=torch.float64)
    weights[0, :3] = one_hot([0, 1, 4], 5)
    weights[1, 0] = torch.tensor([0.985, 0.015, 0, 0, 0])
    assert head_saturation(weights).tolist() == [0.75, 0]
    assert head_saturation(weights, threshold=0.98).tolist() == [0.75, 0.25]
    assert head_saturation(weights, atom_mask=[True] * 3 + [False]).tolist() == [1, 0]
    assert head_saturation(torch.ones(2, 3, 1)).isnan().all()
    assert head_saturation(torch.zeros(2, 0, 4)).isnan().all()
    weights[1, 3, 0] = float("nan")
    assert head_saturation(weights).isnan().tolist() == [False, True]


def test_average_of_eight_one_hot_heads_leaves_its_fingerprint():
    positions = [[3, 3, 3, 1, 0, 5, 6, 2], [1, 1, 1, 1, 1, 1, 1, 1]]
    heads = torch.stack([one_hot([positions[0][h], positions[1][h]], 20) for h in range(8)])
    averaged = average_heads(heads)
    assert averaged[0, 0, 3] == 0.375
    assert averaged[0, 0, 1] == 0.125
    assert averaged_saturation_fingerprint(averaged, heads=8).item() == 1
    assert averaged_saturation_fingerprint(averaged.to(torch.float32), heads=8).item() == 1


def test_softly_saturated_heads_keep_the_fingerprint_and_others_lack_it():
    rng = np.random.default_rng(0)
    soft = special.softmax(30 * one_hot(rng.integers(0, 9, (8, 5)).tolist(), 9).numpy(), axis=-1)
    assert averaged_saturation_fingerprint(average_heads(soft), heads=8).item() == 1
    spread = random_weights(9, heads=8, atoms=5, tokens=9)
    assert averaged_saturation_fingerprint(average_heads(spread), heads=8).item() == 0
    # Every weight of a long uniform row is near the multiple 0, which do not sum to 1.
    long = torch.full((1, 3, 2000), 1 / 2000, dtype=torch.float64)
    assert averaged_saturation_fingerprint(long, heads=8).item() == 0
    assert averaged_saturation_fingerprint(torch.ones(1, 3, 1), heads=8).isnan()


def test_fingerprint_needs_averaged_heads():
    with pytest.raises(MetricError, match="got 3 heads"):
        averaged_saturation_fingerprint(random_weights(0), heads=3)
    with pytest.raises(MetricError, match="at least two"):
        averaged_saturation_fingerprint(random_weights(0)[:1], heads=1)
    with pytest.raises(MetricError, match="tolerance"):
        averaged_saturation_fingerprint(random_weights(0)[:1], heads=8, tolerance=0.5)


def test_sink_share_stands_beside_the_uniform_share():
    weights = random_weights(10, heads=2, atoms=3, tokens=6)
    sinks = np.array([True, False, False, True, False, False])
    result = sink_share(weights, sinks)
    np.testing.assert_allclose(result.share, weights[..., sinks].sum(-1).mean(-1), atol=1e-15)
    assert result.uniform.item() == pytest.approx(2 / 6)
    none = sink_share(weights, [False] * 6)
    assert none.share.tolist() == [0, 0]
    assert none.uniform.item() == 0
    assert sink_share(np.zeros((2, 0, 6)), sinks).share.isnan().all()
    with pytest.raises(MetricError, match=r"'sinks' to be \[6\]"):
        sink_share(weights, [True])


def test_sink_rate_counts_the_heads_in_which_a_token_is_a_sink():
    weights = torch.tensor(
        [
            [[0.8, 0.1, 0.1], [0.0, 0.5, 0.5]],
            [[0.25, 0.5, 0.25], [0.25, 0.5, 0.25]],
            [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]],
            [[0.3, 0.3, 0.4], [0.3, 0.3, 0.4]],
        ],
        dtype=torch.float64,
    )
    # Mean attention received: (.4, .3, .3), (.25, .5, .25), (1, 0, 0), (.3, .3, .4); 0.3 itself is no sink.
    assert sink_rate(weights).tolist() == [0.5, 0.25, 0.25]
    assert sink_rate(weights, threshold=0.26).tolist() == [0.75, 0.75, 0.5]
    assert sink_rate(torch.ones(2, 3, 1)).isnan().all()
    masked = torch.cat([weights, torch.zeros(4, 2, 1)], dim=-1)
    assert sink_rate(masked, [True, True, True, False]).isnan().tolist() == [False, False, False, True]
