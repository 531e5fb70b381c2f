"""The verdict of a hypothesis: bands, intervals that span a threshold, files of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from interpret.compare.differences import Inference
from interpret.compare.hypothesis import (
    CANNOT_TELL,
    DEFAULT_FILE,
    Criterion,
    CriterionResult,
    Hypothesis,
    HypothesisResult,
    judge,
    overall,
    percent_change,
    read_hypothesis,
)
from model.errors import DataError

TAP = "attention.atom_to_token"
BASE = {"entropy": 4.0, "max_weight": 0.2, "effective_tokens": 3.0, "gini": 0.4}


def pairs_of(factors: dict[str, float], count: int = 40, spread: float = 0.01) -> pd.DataFrame:
    """Pairs in which b is a times a factor, a little different in each structure."""
    generator = np.random.default_rng(0)
    parts = []
    for figure, factor in factors.items():
        a = BASE[figure] * generator.uniform(0.9, 1.1, count)
        b = a * factor * (1 + spread * generator.normal(size=count))
        ids = [f"s{i}" for i in range(count)]
        parts.append(pd.DataFrame({"metric": f"{TAP}.{figure}", "id": ids, "a": a, "b": b, "difference": b - a}))
    return pd.concat(parts, ignore_index=True)


def verdict(
    factors: dict[str, float], *, middle: tuple[bool, bool] = (False, True), **options: float
) -> HypothesisResult:
    pairs = pairs_of(factors, **options)  # type: ignore[arg-type]
    return judge(read_hypothesis(), pairs, ("none", "full"), middle, Inference(resamples=999))


SHARPER = {"entropy": 0.75, "max_weight": 1.4, "effective_tokens": 0.6, "gini": 1.3}
A_LITTLE = {"entropy": 0.9, "max_weight": 1.1, "effective_tokens": 0.9, "gini": 1.1}
BLUNTER = {"entropy": 1.2, "max_weight": 0.7, "effective_tokens": 1.3, "gini": 0.7}
SAME = dict.fromkeys(SHARPER, 1.01)


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        (SHARPER, "supported"),
        (A_LITTLE, "partly supported"),
        (SHARPER | {"gini": 1.1}, "partly supported"),
        (BLUNTER, "contradicted"),
        (BLUNTER | {"gini": 1.01}, "contradicted"),
        (SHARPER | {"gini": 0.7}, "mixed"),
        (SAME, "no effect"),
    ],
)
def test_verdicts(factors: dict[str, float], expected: str) -> None:
    result = verdict(factors)
    assert result.verdict == expected
    assert (result.treatment, result.baseline) == ("full", "none")
    assert all("95 % CI" in criterion.evidence for criterion in result.criteria)


def test_percent_is_of_the_model_without_fusion_whichever_comes_first() -> None:
    forward = verdict(SHARPER).criteria[0]
    swapped = pairs_of(SHARPER).rename(columns={"a": "b", "b": "a"}).assign(difference=lambda t: t["b"] - t["a"])
    backward = judge(read_hypothesis(), swapped, ("full", "none"), (True, False), Inference(resamples=999))
    assert backward.treatment == "full"
    assert backward.verdict == "supported"
    assert backward.criteria[0].change == pytest.approx(forward.change)
    assert forward.change == pytest.approx(25, abs=0.6)
    assert forward.low < forward.change < forward.high


def test_an_interval_across_a_threshold_cannot_tell() -> None:
    result = verdict(SHARPER | {"entropy": 0.8}, spread=0.05)
    entropy = result.criteria[0]
    assert entropy.low < 20 < entropy.high
    assert entropy.verdict == CANNOT_TELL
    assert entropy.possible == ("partly supported", "supported")
    assert result.verdict == CANNOT_TELL
    assert "possible: partly supported, supported" in result.reason


def test_what_cannot_tell_does_not_matter_where_every_reading_agrees() -> None:
    result = verdict(A_LITTLE | {"entropy": 0.8}, spread=0.05)
    assert result.criteria[0].verdict == CANNOT_TELL
    assert result.verdict == "partly supported"


def test_too_few_structures() -> None:
    assert verdict(SHARPER, count=4).verdict == CANNOT_TELL


@pytest.mark.parametrize("middle", [(True, True), (False, False)])
def test_not_applicable_without_one_fusion(middle: tuple[bool, bool]) -> None:
    result = verdict(SHARPER, middle=middle)
    assert result.verdict == "not applicable"
    assert "middle fusion" in result.reason


def test_a_baseline_of_zero_has_no_percent() -> None:
    pairs = pairs_of(SHARPER)
    own = pairs["metric"].str.endswith("effective_tokens")
    pairs.loc[own, ["a", "b", "difference"]] = 0.0
    result = judge(read_hypothesis(), pairs, ("none", "full"), (False, True), Inference(resamples=99))
    assert result.criteria[2].verdict == "not applicable"
    assert result.verdict == "supported", "of the criteria that can be computed"


@pytest.mark.parametrize(
    ("low", "high", "bands"),
    [
        (20, 30, ("supported",)),
        (19.9, 30, ("partly supported", "supported")),
        (5, 19.9, ("partly supported",)),
        (-4.9, 4.9, ("no effect",)),
        (-20, -5, ("contradicted",)),
        (-20, 50, ("contradicted", "no effect", "partly supported", "supported")),
    ],
)
def test_bands(low: float, high: float, bands: tuple[str, ...]) -> None:
    criterion = Criterion(direction="down", partly_from=5, supported_from=20, expected_to=30, contradicted_from=5)
    assert criterion.bands(low, high) == bands


def test_beyond_what_was_expected_is_said() -> None:
    result = verdict(SHARPER | {"gini": 2.0})
    assert result.criteria[3].verdict == "supported"
    assert result.criteria[3].evidence.endswith("supported, beyond what was expected")


def test_percent_change_covers_the_ratio_of_means() -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(60):
        a = generator.gamma(9, size=40)
        b = a * 0.8 + generator.normal(0, 0.5, size=40)
        _, low, high = percent_change(a, b, Inference(resamples=399, seed=trial))
        covered += low <= -20 <= high
    assert covered >= 51, "95 % intervals cover the truth in at least 85 % of 60 draws"


def test_the_shipped_thresholds_are_those_of_the_requirements() -> None:
    criteria = read_hypothesis().criteria
    expected = {
        "entropy": ("down", 20, 30),
        "max_weight": ("up", 30, 50),
        "effective_tokens": ("down", 30, 50),
        "gini": ("up", 20, 40),
    }
    found = {name: (c.direction, c.supported_from, c.expected_to) for name, c in criteria.items()}
    assert found == expected
    assert {c.partly_from for c in criteria.values()} == {5}


def test_thresholds_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(DEFAULT_FILE.read_text(encoding="utf-8").replace("supported_from = 20.0", "supported_from = 26.0"))
    hypothesis = read_hypothesis(file)
    result = judge(hypothesis, pairs_of(SHARPER), ("none", "full"), (False, True), Inference(resamples=999))
    assert result.criteria[0].verdict == "partly supported"
    assert result.thresholds["criteria"]["entropy"]["supported_from"] == 26


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "cannot be read"),
        ('name = "x"', "Field required"),
        (DEFAULT_FILE.read_text(encoding="utf-8").replace("expected_to", "expectd_to"), "expectd_to"),
        (DEFAULT_FILE.read_text(encoding="utf-8").replace("= 5.0", "= 25.0"), "partly_from < supported_from"),
        (DEFAULT_FILE.read_text(encoding="utf-8").replace('"down"', '"sideways"'), "direction"),
    ],
)
def test_a_file_that_does_not_fit_is_named(text: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"mine\.toml") as caught:
        read_hypothesis(file)
    assert words in str(caught.value)
    with pytest.raises(DataError, match="cannot be read"):
        read_hypothesis(tmp_path / "none.toml")


def made(verdict: str, *possible: str) -> CriterionResult:
    return CriterionResult("m", "up", 1, 1, 0, 0, 0, 9, verdict, possible or (verdict,), "")  # type: ignore[arg-type]


def test_overall_of_nothing() -> None:
    assert overall([made("not applicable")])[0] == "not applicable"


def test_a_criterion_without_an_interval_could_be_anything() -> None:
    blank = CriterionResult("m", "up", 1, 1, 0, 0, 0, 2, CANNOT_TELL, (), "")
    assert overall([made("supported"), blank])[0] == CANNOT_TELL


def test_hypothesis_names_unknown_treatments() -> None:
    with pytest.raises(ValueError, match="treatment"):
        Hypothesis.model_validate(read_hypothesis().model_dump() | {"treatment": "c"})
