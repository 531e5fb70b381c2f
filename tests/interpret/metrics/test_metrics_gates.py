"""Gate statistics against an analysis of variance, scipy, and the values measured in the field."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from interpret.metrics import MetricError, Undefined
from interpret.metrics.fusion import change_correlation, decision_path, relative_change, scale_ratio
from interpret.metrics.gates import (
    GateMoments,
    independence_null,
    intraclass_correlation,
    reduce_gate,
    saturation,
)


def random_gate(seed, atoms=12, channels=16, signal=0.0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(atoms, channels)) + signal * rng.normal(size=(atoms, 1))
    return 1 / (1 + np.exp(-logits))


def test_reductions():
    gate = random_gate(0)
    weights = np.linspace(-1, 1, 16)
    np.testing.assert_allclose(reduce_gate(gate), gate.mean(-1), atol=1e-15)
    np.testing.assert_allclose(reduce_gate(gate, "max"), gate.max(-1), atol=0)
    np.testing.assert_allclose(reduce_gate(gate, "std"), gate.std(-1, ddof=1), atol=1e-15)
    np.testing.assert_allclose(reduce_gate(gate, "first"), gate[:, 0], atol=0)
    learned = reduce_gate(gate, "learned", channel_weights=weights)
    np.testing.assert_allclose(learned, gate @ weights, atol=1e-14)
    assert reduce_gate(gate[:, :1], "std").isnan().all()
    assert reduce_gate(np.zeros((0, 4))).shape == (0,)


def test_reductions_refuse_what_does_not_fit():
    with pytest.raises(MetricError, match=r"'mean', 'max', 'std', 'first', 'learned'\], got 'median'"):
        reduce_gate(random_gate(0), "median")
    with pytest.raises(MetricError, match="needs 'channel_weights'"):
        reduce_gate(random_gate(0), "learned")
    with pytest.raises(MetricError, match=r"shape \[16\], got \[3\]"):
        reduce_gate(random_gate(0), "learned", channel_weights=[1, 2, 3])
    with pytest.raises(MetricError, match=r"\[atoms, channels\], got \[5\]"):
        reduce_gate(np.zeros(5))


def test_saturation_shares():
    gate = [[0.05, 0.1, 0.3, 0.5], [0.7, 0.9, 0.95, 1.0]]
    shares = saturation(gate)
    assert [share.item() for share in shares] == [1 / 8, 2 / 8, 3 / 8]
    wide = saturation(gate, low=0.2, high=0.6, middle=(0.25, 0.55))
    assert [share.item() for share in wide] == [2 / 8, 4 / 8, 2 / 8]
    assert all(share.isnan() for share in saturation(np.zeros((0, 3))))
    assert all(share.isnan() for share in saturation([[0.5, math.nan]]))


def test_null_of_the_field_measurement():
    # A gate whose pooled channel sd is 0.3856 over 256 channels has the null 0.0241.
    rng = np.random.default_rng(1)
    gate = rng.normal(size=(200, 256))
    gate *= 0.3856 / np.sqrt(gate.var(0, ddof=1).mean())
    result = independence_null(gate)
    assert result.channel_sd.item() == pytest.approx(0.3856, abs=1e-12)
    assert result.null.item() == pytest.approx(0.0241, abs=5e-5)
    assert (result.atoms, result.channels, result.reason) == (200, 256, None)


def test_null_agrees_with_numpy():
    gate = random_gate(2, signal=1.0)
    result = independence_null(gate)
    channel_sd = np.sqrt(gate.var(0, ddof=1).mean())
    assert result.channel_sd.item() == pytest.approx(channel_sd, abs=1e-14)
    assert result.null.item() == pytest.approx(channel_sd / 4, abs=1e-14)
    assert result.observed.item() == pytest.approx(gate.mean(-1).std(ddof=1), abs=1e-14)
    assert result.ratio.item() == pytest.approx(gate.mean(-1).std(ddof=1) / (channel_sd / 4), abs=1e-12)


def test_ratio_tells_independent_channels_from_a_shared_signal():
    # The squared ratio of independent channels has mean 1 and sd sqrt(2 / (N - 1)) = 0.032 for 2000 atoms.
    assert independence_null(random_gate(3, 2000, 64)).ratio.item() ** 2 == pytest.approx(1, abs=0.13)
    assert independence_null(random_gate(3, 2000, 64, signal=1.0)).ratio.item() > 4


def test_icc_agrees_with_an_analysis_of_variance():
    for seed, signal in ((4, 0.0), (5, 0.7), (6, 3.0)):
        gate = random_gate(seed, signal=signal)
        f = stats.f_oneway(*gate).statistic
        expected = (f - 1) / (f + gate.shape[1] - 1)
        assert intraclass_correlation(gate).value.item() == pytest.approx(expected, abs=1e-12)
    n, d = gate.shape
    grand = gate.mean()
    between = d * sum((row.mean() - grand) ** 2 for row in gate) / (n - 1)
    within = sum((value - row.mean()) ** 2 for row in gate for value in row) / (n * (d - 1))
    by_hand = (between - within) / (between + (d - 1) * within)
    assert intraclass_correlation(gate).value.item() == pytest.approx(by_hand, abs=1e-12)


def test_icc_at_its_limits():
    same_in_all_channels = np.tile(np.linspace(0, 1, 5)[:, None], (1, 4))
    assert intraclass_correlation(same_in_all_channels).value.item() == pytest.approx(1, abs=1e-12)
    same_in_all_atoms = np.tile(np.linspace(0, 1, 4)[None], (5, 1))
    assert intraclass_correlation(same_in_all_atoms).value.item() == pytest.approx(-1 / 3, abs=1e-12)


def test_undefined_gate_statistics_say_why():
    one_atom = independence_null(random_gate(0)[:1])
    assert one_atom.null.isnan()
    assert "fewer than two atoms" in one_atom.reason
    constant = independence_null(np.full((4, 8), 0.3))
    assert constant.ratio.isnan()
    assert constant.observed.item() == pytest.approx(0, abs=1e-15)
    assert "same for all atoms" in constant.reason
    broken = random_gate(0)
    broken[0, 0] = np.nan
    assert independence_null(broken).reason == Undefined.NOT_FINITE.sentence
    assert intraclass_correlation(broken).reason == Undefined.NOT_FINITE.sentence
    for gate in (random_gate(0)[:1], random_gate(0)[:, :1], np.full((4, 8), 0.3), np.zeros((0, 3))):
        result = intraclass_correlation(gate)
        assert result.value.isnan()
        assert result.reason


@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 12), max_size=4))
@settings(max_examples=60, deadline=None)
def test_moments_of_shards_merge_to_the_moments_of_the_whole(seed, cuts):
    gate = random_gate(seed, signal=0.5) + 3
    shards = [GateMoments.from_gate(part) for part in np.split(gate, sorted(cuts))]
    merged = shards[-1]
    for shard in shards[:-1]:
        merged = merged.merge(shard)
    assert merged.atoms == 12
    whole, parts = independence_null(gate), merged.independence_null()
    for left, right in zip(whole[:4], parts[:4], strict=True):
        assert left.item() == pytest.approx(right.item(), rel=1e-10)
    icc = merged.intraclass_correlation().value.item()
    assert icc == pytest.approx(intraclass_correlation(gate).value.item(), abs=1e-10)


def test_moments_of_other_widths_do_not_merge():
    with pytest.raises(MetricError, match="16 channels, got 8"):
        GateMoments.from_gate(random_gate(0)).merge(GateMoments.from_gate(random_gate(0, channels=8)))


def test_scale_ratio_of_the_field_measurement():
    nodes, text = np.zeros((3, 5)), np.zeros(4)
    nodes[:, 0], text[1] = 27.4, -2.17
    assert scale_ratio(nodes, text).value.item() == pytest.approx(12.6, abs=0.05)
    rng = np.random.default_rng(0)
    nodes, text = rng.normal(size=(6, 5)), rng.normal(size=(2, 4))
    expected = np.linalg.norm(nodes, axis=1).mean() / np.linalg.norm(text, axis=1).mean()
    assert scale_ratio(nodes, text).value.item() == pytest.approx(expected, abs=1e-14)
    assert scale_ratio(nodes, np.zeros(4)).reason == "the text vectors are all zero"
    assert scale_ratio(np.zeros((0, 5)), text).value.isnan()
    with pytest.raises(MetricError, match="'text'"):
        scale_ratio(nodes, 1.0)


def test_relative_change_per_atom():
    before = [[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]]
    after = [[3.0, 4.0], [0.0, 1.0], [1.0, 0.0]]
    result = relative_change(before, after)
    assert result[:2].tolist() == [0, 0.5]
    assert result[2].isnan()
    with pytest.raises(MetricError, match="one shape"):
        relative_change(before, [[1.0, 2.0]])


def test_change_correlation_agrees_with_scipy_and_leaves_nan_out():
    rng = np.random.default_rng(7)
    alpha, change = rng.random(20), rng.random(20) ** 3
    clean = change_correlation(alpha, change)
    assert clean.pearson == pytest.approx(np.corrcoef(alpha, change)[0, 1], abs=1e-14)
    ranks = np.corrcoef(stats.rankdata(alpha), stats.rankdata(change))[0, 1]
    assert clean.spearman == pytest.approx(ranks, abs=1e-14)
    with_nan = change_correlation(np.append(alpha, 0.5), np.append(change, np.nan))
    assert with_nan == clean
    assert clean.atoms == 20


@pytest.mark.parametrize(
    ("alpha", "change", "reason"),
    [
        ([0.1, 0.2], [1.0, 2.0], "fewer than three"),
        ([0.3, 0.3, 0.3], [1.0, 2.0, 3.0], "alpha is the same"),
        ([0.1, 0.2, 0.3], [1.0, 1.0, 1.0], "the change is the same"),
        ([], [], "fewer than three"),
    ],
)
def test_undefined_change_correlation_says_why(alpha, change, reason):
    result = change_correlation(alpha, change)
    assert math.isnan(result.pearson)
    assert math.isnan(result.spearman)
    assert reason in result.reason


def test_decision_path_names_what_applies_in_order():
    path = decision_path(quality=[0.2, 0.4], fusion=[0.8, 0.6], effective=torch.tensor([0.16, 0.24]), instability=True)
    assert [step.action for step in path] == [
        "simplify the gate",
        "improve the quality detector",
        "warm up the gate",
    ]
    assert path[0].measured == pytest.approx(0.2)
    assert (path[0].limit, path[1].limit) == (0.3, 0.5)
    assert "quality weight holds it down" in path[0].explanation
    fusion_low = decision_path(quality=0.9, fusion=0.2, effective=0.18)
    assert [step.action for step in fusion_low] == ["simplify the gate"]
    assert "fusion weight holds it down" in fusion_low[0].explanation


def test_decision_path_is_silent_without_cause_or_without_numbers():
    assert decision_path(quality=0.5, fusion=0.6, effective=0.3) == []
    assert decision_path() == []
    assert decision_path(quality=math.nan, effective=[math.nan, math.nan], instability=False) == []
    single = decision_path(effective=0.1)
    assert [step.action for step in single] == ["simplify the gate"]
    assert decision_path(effective=0.35, effective_limit=0.4)[0].limit == 0.4
