"""Figures of an analysis against their definitions and independent implementations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from interpret.modality.shapley import two_player
from interpret.modality.summary import (
    correlation_of,
    covariance_share,
    main_effects,
    share_of_interaction,
    share_of_text,
)

COUNT = 60


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    both, graph, text, nothing = np.random.default_rng(0).normal(size=(4, COUNT))
    shares = two_player(both, graph, text, nothing)
    frame = pd.DataFrame({"id": range(COUNT), "graph_only": graph, "text_only": text, "nothing": nothing})
    return frame.assign(
        graph_shapley=shares.graph, text_shapley=shares.text, interaction=shares.interaction, whole=shares.whole
    )


def test_shares_are_ratios_of_sums(rows: pd.DataFrame) -> None:
    text, graph = rows["text_shapley"].abs().sum(), rows["graph_shapley"].abs().sum()
    share = share_of_text(rows)
    assert share.value == pytest.approx(text / (text + graph))
    assert share.low < share.value < share.high
    own = (rows["graph_only"] - rows["nothing"]).abs() + (rows["text_only"] - rows["nothing"]).abs()
    np.testing.assert_allclose(main_effects(rows), own, atol=1e-12)
    interaction = rows["interaction"].abs().sum()
    assert share_of_interaction(rows).value == pytest.approx(interaction / (interaction + own.sum()))


def test_covariance_shares_sum_to_one(rows: pd.DataFrame) -> None:
    other = rows.rename(columns={"graph_shapley": "text_shapley", "text_shapley": "graph_shapley"})
    assert covariance_share(rows) + covariance_share(other) == pytest.approx(1.0)
    alone = rows.assign(text_shapley=rows["whole"])
    assert covariance_share(alone) == pytest.approx(1.0)
    assert np.isnan(covariance_share(rows.assign(whole=1.0)))


def test_correlation_is_spearman_with_a_bootstrap_interval() -> None:
    generator = np.random.default_rng(1)
    first = generator.normal(size=80)
    second = first + generator.normal(size=80)
    estimate = correlation_of(np.append(first, np.nan), np.append(second, 1.0))
    assert estimate.value == pytest.approx(stats.spearmanr(first, second).statistic)
    assert estimate.count == 80

    def spearman(a: np.ndarray, b: np.ndarray) -> float:
        return float(stats.spearmanr(a, b).statistic)

    reference = stats.bootstrap(
        (first, second), spearman, paired=True, vectorized=False, n_resamples=1000, method="percentile", random_state=0
    ).confidence_interval
    assert estimate.low == pytest.approx(reference.low, abs=0.04)
    assert estimate.high == pytest.approx(reference.high, abs=0.04)


def test_correlation_without_variation_is_undefined() -> None:
    assert np.isnan(correlation_of(np.ones(9), np.arange(9.0)).value)
    assert np.isnan(correlation_of(np.array([1.0, 2.0]), np.array([1.0, 2.0])).value)
