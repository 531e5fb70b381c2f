"""What a training run is made of: one file with three sections, ``model``, ``data`` and ``training``.

Defaults are those of the published training script: AdamW, one cycle to 1e-3, batches of 64, 300 epochs.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.config import ModelConfig
from model.training.errors import TrainingError

Loss = Literal["mse", "l1", "huber", "bce"]
Schedule = Literal["one-cycle", "constant"]
Logger = Literal["tensorboard", "csv"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Columns, text encoder and splits.

    Attributes:
        id_column, text_column, target_column: headers or positions (from 1) where they cannot be told.
        limit: stop after so many samples.
        encoder: a folder, a hub name or ``random:WIDTH``; None for all-MiniLM-L6-v2, which comes with the program.
        train, val, test: shares of the splits; they sum to 1 at most.
        split_seed: of the shares; not the seed of the weights, so that several seeds are judged on one test split.
        splits: a file of ids in place of shares: JSON with train, val and test, or a table with id and split.
        keep_together: what shares never divide between two splits: ``identical`` structures, or also those that are
            ``equivalent``, the same crystal in another cell.
        element_embeddings: a file with a vector for each element, for ``model.element_embedding: fixed``.
    """

    id_column: str | None = None
    text_column: str | None = None
    target_column: str | None = None
    limit: int | None = Field(default=None, ge=1)
    encoder: str | None = None
    train: float = Field(default=0.8, gt=0, lt=1)
    val: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, ge=0, lt=1)
    split_seed: int = Field(default=0, ge=0)
    splits: str | None = None
    keep_together: Literal["identical", "equivalent"] = "identical"
    element_embeddings: str | None = None

    @model_validator(mode="after")
    def _check_shares(self) -> DataConfig:
        if self.train + self.val + self.test > 1 + 1e-9:
            raise ValueError(f"expected train + val + test of at most 1, got {self.train + self.val + self.test:g}")
        return self


class TrainingConfig(_Section):
    """How the weights are found.

    Attributes:
        seed: of weights, batches and dropout.
        batch_size: crystals a step, over all processes; the batches of an epoch are of nearly equal size.
        gate_learning_rate: factor on the learning rate of gates.
        schedule: ``one-cycle`` (Smith and Topin, arXiv 1708.07120), or ``constant`` after the warm-up.
        warm_up: share of all steps in which the learning rate rises.
        gradient_clipping: largest norm of the gradient; None for no limit.
        loss: of the standardised target; ``bce`` for ``model.classification``.
        huber_delta: in units of the target's standard deviation.
        standardize: learn (target - mean) / scale of the training split; the checkpoint predicts in the target's unit.
        dropout: in place of every dropout probability of the model while it trains.
        attention_diversity_weight, gate_diversity_weight: of the losses of :mod:`model.training.losses`.
        early_stopping: stop after so many validations without improvement.
        validate_every: epochs between validations; checkpoints are written there.
        save_every_steps: write RUN/checkpoints/last.ckpt within an epoch as well.
        accelerator, devices, num_nodes: as in Lightning's Trainer.
        workers: processes that join batches.
        deterministic: the same weights from the same seed on the same machine.
    """

    seed: int = Field(default=0, ge=0, lt=2**31)
    epochs: int = Field(default=300, ge=1)
    batch_size: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=1e-3, gt=0)
    gate_learning_rate: float = Field(default=1.0, gt=0)
    weight_decay: float = Field(default=1e-5, ge=0)
    schedule: Schedule = "one-cycle"
    warm_up: float = Field(default=0.3, ge=0, lt=1)
    gradient_clipping: float | None = Field(default=None, gt=0)
    loss: Loss = "mse"
    huber_delta: float = Field(default=1.0, gt=0)
    standardize: bool = True
    dropout: float | None = Field(default=None, ge=0, lt=1)
    attention_diversity_weight: float = Field(default=0.0, ge=0)
    gate_diversity_weight: float = Field(default=0.0, ge=0)
    early_stopping: int | None = Field(default=None, ge=1)
    validate_every: int = Field(default=1, ge=1)
    save_every_steps: int | None = Field(default=None, ge=1)
    log_every_steps: int = Field(default=10, ge=1)
    loggers: tuple[Logger, ...] = ("tensorboard", "csv")
    accelerator: str = "auto"
    devices: int = Field(default=1, ge=1)
    num_nodes: int = Field(default=1, ge=1)
    workers: int = Field(default=0, ge=0)
    deterministic: bool = True

    @model_validator(mode="after")
    def _check(self) -> TrainingConfig:
        if self.epochs % self.validate_every:
            raise ValueError(
                f"expected epochs ({self.epochs}) to be a multiple of validate_every ({self.validate_every}), "
                "so that the last weights are validated"
            )
        return self


# These say where and how fast a run goes, not what comes out of it.
_NOT_RESULT = frozenset(
    {"accelerator", "devices", "num_nodes", "workers", "log_every_steps", "loggers", "save_every_steps"}
)


class TrainConfig(_Section):
    """The whole of a training run but its data set: sections ``model``, ``data`` and ``training``."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        model, training = self.model, self.training
        if model.classification != (training.loss == "bce"):
            raise ValueError(
                f"expected training.loss: bce with model.classification: true and only there, got {training.loss} "
                f"with {str(model.classification).lower()}"
            )
        if model.output_features != 1:
            raise ValueError(f"expected model.output_features: 1, one target, got {model.output_features}")
        if model.missing_fusion_layers:
            raise ValueError(
                f"expected model.middle_fusion_layers from 0 to {model.alignn_layers - 1}, the ALIGNN layers there "
                f"are; a fusion after layer {model.missing_fusion_layers[0]} would never run"
            )
        if (model.element_embedding == "fixed") != (self.data.element_embeddings is not None):
            raise ValueError(
                "expected data.element_embeddings: FILE with model.element_embedding: fixed, and only there"
            )
        return self

    def changed(self, changes: Mapping[str, Any]) -> TrainConfig:
        """A copy with fields changed, by dotted names: ``{"model.hidden_features": 64}``.

        Raises:
            TrainingError: a field is unknown or a value impossible.
        """
        document = self.model_dump(mode="json", exclude_unset=True)
        for name, value in changes.items():
            _assign(document, name, value)
        return validated(document)

    def result_fields(self) -> dict[str, Any]:
        """Fields that the trained weights depend on, flat, by dotted names."""
        document = self.model_dump(mode="json")
        return {
            f"{section}.{name}": value
            for section, fields in document.items()
            for name, value in fields.items()
            if not (section == "training" and name in _NOT_RESULT)
        }


def load_config(path: str | Path | None = None, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a configuration file (YAML) and overrides of the form ``model.hidden_features=64``.

    Raises:
        TrainingError: the file cannot be read, a key is unknown or a value impossible.
    """
    document: Any = {}
    if path is not None:
        try:
            document = yaml.safe_load(Path(path).expanduser().read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError) as error:
            raise TrainingError(f"the configuration {path} cannot be read: {error}") from error
        except yaml.YAMLError as error:
            raise TrainingError(f"the configuration {path} is not YAML: {' '.join(str(error).split())}") from error
        if not isinstance(document, dict):
            raise TrainingError(f"expected sections model, data and training in {path}, got {type(document).__name__}")
    for text in overrides:
        name, sign, value = text.partition("=")
        if not sign:
            raise TrainingError(f"expected --set SECTION.NAME=VALUE, got {text!r}")
        try:
            _assign(document, name.strip(), yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise TrainingError(f"the value of --set {text!r} is not YAML") from error
    return validated(document)


def validated(document: Mapping[str, Any]) -> TrainConfig:
    """The configuration a mapping describes.

    Raises:
        TrainingError: with every problem, and the valid names where one is unknown.
    """
    try:
        return TrainConfig.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(_problem(each) for each in error.errors())
        raise TrainingError(f"the training configuration cannot be used: {problems}") from error


def _assign(document: dict[str, Any], name: str, value: Any) -> None:
    section, dot, field = name.partition(".")
    if not dot:
        raise TrainingError(f"expected SECTION.NAME (model.hidden_features, training.epochs, ...), got {name!r}")
    fields = document.setdefault(section, {})
    if fields is None:
        fields = document[section] = {}
    if not isinstance(fields, dict):
        raise TrainingError(f"expected a section of names and values under {section!r}, got {fields!r}")
    fields[field] = value


def _problem(error: Any) -> str:
    location = tuple(str(part) for part in error["loc"])
    name = ".".join(location)
    if error["type"] == "extra_forbidden":
        known = _names(location[:-1])
        near = difflib.get_close_matches(location[-1], known, n=3)
        listed = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
        return f"{name} is unknown; {listed}"
    if error["type"] == "literal_error":
        return f"{name}: expected one of {error['ctx']['expected']}, got {error['input']!r}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {message}" + ("" if error["type"] == "value_error" else f", got {error['input']!r}")


def _names(sections: tuple[str, ...]) -> list[str]:
    known: type[BaseModel] = TrainConfig
    for section in sections:
        annotation = known.model_fields[section].annotation if section in known.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        known = annotation
    return list(known.model_fields)
