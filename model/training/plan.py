"""What a training run settles before its first step: examples, splits, target, architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from model.config import ModelConfig
from model.dataset import CrystalDataset, Skipped
from model.encoder import TextEncoder
from model.equality import equal_groups
from model.training.baselines import baselines
from model.training.config import TrainConfig
from model.training.elements import read_element_table
from model.training.errors import TrainingError
from model.training.examples import Example, PreparedData, examples_for
from model.training.record import DataRecord, EncoderRecord, Target, TrainingRecord, versions
from model.training.splits import SPLITS, SplitName, Splits, check_leaks, read_splits, split_by_share


@dataclass(frozen=True, eq=False)
class Plan:
    """What is settled before the first step."""

    config: TrainConfig
    model: ModelConfig
    splits: Mapping[SplitName, list[Example]]
    record: TrainingRecord
    element_table: torch.Tensor | None
    skipped: tuple[Skipped, ...]
    scale: float


def plan_run(config: TrainConfig, dataset: CrystalDataset, encoder: TextEncoder, prepared: PreparedData) -> Plan:
    """Divide the data, check for leaks, complete the architecture, and judge the baselines.

    Raises:
        TrainingError: configuration or data cannot be used.
    """
    table, examples, skipped = _with_known_elements(config, prepared)
    splits = _split(config, examples, skipped)
    duplicates = check_leaks(splits, {example.id: example.signature for example in examples})
    by_id = {example.id: example for example in examples}
    parts = {name: [by_id[each] for each in splits.ids(name)] for name in SPLITS}
    target = _target(config, prepared.target, np.array([example.target for example in parts["train"]]))
    model = _model(config, encoder, target, table)
    record = TrainingRecord(
        config=config.model_copy(update={"model": model}),
        splits=splits,
        duplicates=duplicates,
        target=target,
        baselines=baselines(parts, classification=model.classification),
        parameters=0,
        encoder=EncoderRecord(name=encoder.name, fingerprint=encoder.fingerprint, width=encoder.width),
        data=DataRecord(
            fingerprint=dataset.fingerprint,
            samples=len(examples),
            skipped=len(skipped),
            empty_texts=prepared.empty_texts,
        ),
        versions=versions(),
    )
    parts = {name: examples_for(model, part) for name, part in parts.items()}
    return Plan(config, model, parts, record, table, skipped, target.scale)


def _with_known_elements(
    config: TrainConfig, prepared: PreparedData
) -> tuple[torch.Tensor | None, tuple[Example, ...], tuple[Skipped, ...]]:
    """The table of element vectors, where there is one, and the examples it covers."""
    if config.data.element_embeddings is None:
        return None, prepared.examples, prepared.skipped
    table, known = read_element_table(config.data.element_embeddings)
    covered, skipped = [], list(prepared.skipped)
    for example in prepared.examples:
        missing = [
            symbol
            for symbol, number in zip(example.graph.elements, example.graph.atomic_numbers.tolist(), strict=True)
            if number not in known
        ]
        if missing:
            reason = f"{config.data.element_embeddings} has no vector for {', '.join(dict.fromkeys(missing))}"
            skipped.append(Skipped(example.id, None, "structure", reason))
        else:
            covered.append(example)
    return table, tuple(covered), tuple(skipped)


def _split(config: TrainConfig, examples: Sequence[Example], skipped: Sequence[Skipped]) -> Splits:
    data = config.data
    ids = [example.id for example in examples]
    if data.splits is not None:
        return read_splits(data.splits, ids, {each.id for each in skipped})
    signatures = [example.signature for example in examples]
    equivalent = data.keep_together == "equivalent"
    groups: Sequence[object] = equal_groups(signatures) if equivalent else [each.identical for each in signatures]
    return split_by_share(ids, groups, (data.train, data.val, data.test), data.split_seed)


def _target(config: TrainConfig, column: str, values: np.ndarray) -> Target:
    """Mean and standard deviation of the training targets.

    Raises:
        TrainingError: they are all equal, or no classes where classes are to be learned.
    """
    if float(values.std()) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        raise TrainingError(
            f"every target of the training split is {values[0]:g} ({len(values)} samples): there is nothing to learn; "
            "is the target column the right one?"
        )
    if config.model.classification:
        if not set(np.unique(values)) <= {0.0, 1.0}:
            raise TrainingError(f"expected targets 0 and 1 for a classifier, got {np.unique(values)[:5].tolist()}")
        return Target(column=column, mean=float(values.mean()), scale=1.0, standardized=False)
    standardized = config.training.standardize and config.model.link == "identity"
    # A link function maps to the target's range, so its output is not moved; errors are still measured by the scale.
    scale = float(values.std()) if config.training.standardize else 1.0
    return Target(column=column, mean=float(values.mean()), scale=scale, standardized=standardized)


def _model(config: TrainConfig, encoder: TextEncoder, target: Target, table: torch.Tensor | None) -> ModelConfig:
    model, changes = config.model, {}
    if "token_features" not in model.model_fields_set:
        changes["token_features"] = encoder.width
    elif model.token_features != encoder.width:
        raise TrainingError(
            f"expected an encoder of width {model.token_features} (model.token_features), {encoder.name} has width "
            f"{encoder.width}: leave token_features out, or name another encoder (data.encoder)"
        )
    if table is not None:
        changes["atom_input_features"] = table.shape[1]
    dropout = config.training.dropout
    update: dict[str, Any] = dict(changes)
    if dropout is not None:
        update |= {name: dropout for name in ModelConfig.model_fields if name.endswith("_dropout")}
    if target.standardized:
        update |= {"target_mean": target.mean, "target_scale": target.scale}
    return model.model_copy(update=update)
