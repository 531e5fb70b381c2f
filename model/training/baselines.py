"""What a network has to beat: the mean, and a linear model that knows the composition and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from model.training.examples import Example
from model.training.record import Baselines, Metrics, SplitMetrics
from model.training.splits import SPLITS, SplitName

FloatArray = NDArray[np.float64]

PENALTIES = tuple(10.0**power for power in range(-4, 4))
_ELEMENTS = 119


def metrics_of(prediction: FloatArray, target: FloatArray, *, classification: bool = False) -> Metrics | None:
    """Errors of predictions [n] of targets [n]; None for no sample."""
    if not len(target):
        return None
    error = np.asarray(prediction, dtype=np.float64) - np.asarray(target, dtype=np.float64)
    accuracy = float(np.mean((prediction > 0.5) == (target > 0.5))) if classification else None
    return Metrics(mae=float(np.abs(error).mean()), rmse=float(np.sqrt(np.square(error).mean())), accuracy=accuracy)


def baselines(splits: Mapping[SplitName, Sequence[Example]], *, classification: bool = False) -> Baselines:
    """Both baselines on every split; the penalty of the ridge is the one with the least error on val.

    Args:
        splits: examples of train, val and test.
        classification: whether targets are classes; the baselines then predict probabilities.
    """
    inputs = {name: composition(splits[name]) for name in SPLITS}
    targets = {name: np.array([example.target for example in splits[name]]) for name in SPLITS}
    mean = {name: np.full(len(targets[name]), targets["train"].mean()) for name in SPLITS}
    ridges = []
    for penalty in PENALTIES:
        weights = ridge(inputs["train"], targets["train"], penalty)
        predictions = {name: predict_ridge(weights, inputs[name]) for name in SPLITS}
        ridges.append({name: each.clip(0, 1) if classification else each for name, each in predictions.items()})
    best = min(ridges, key=lambda each: float(np.abs(each["val"] - targets["val"]).mean()))

    def judged(predictions: Mapping[SplitName, FloatArray]) -> SplitMetrics:
        return SplitMetrics(
            **{name: metrics_of(predictions[name], targets[name], classification=classification) for name in SPLITS}
        )

    return Baselines(mean=judged(mean), composition_ridge=judged(best))


def composition(examples: Sequence[Example]) -> FloatArray:
    """Atomic fractions [n, 119] by atomic number."""
    result = np.zeros((len(examples), _ELEMENTS))
    for row, example in zip(result, examples, strict=True):
        row += np.bincount(example.graph.atomic_numbers.numpy(), minlength=_ELEMENTS) / len(example.graph.elements)
    return result


def ridge(inputs: FloatArray, targets: FloatArray, penalty: float) -> tuple[FloatArray, float]:
    """Weights [c] and intercept of least squares with ``penalty * |weights|^2``, the intercept not penalised."""
    centre, level = inputs.mean(axis=0), float(targets.mean())
    moved = inputs - centre
    weights = np.linalg.solve(moved.T @ moved + penalty * np.eye(inputs.shape[1]), moved.T @ (targets - level))
    return weights, level - float(centre @ weights)


def predict_ridge(weights: tuple[FloatArray, float], inputs: FloatArray) -> FloatArray:
    """Predictions [n] for inputs [n, c]."""
    prediction: FloatArray = inputs @ weights[0] + weights[1]
    return prediction
