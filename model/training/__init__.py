"""Training of the networks of the family: configuration, splits, losses, and one function, :func:`train`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.training.config import DataConfig, TrainConfig, TrainingConfig, load_config
    from model.training.errors import TrainingError
    from model.training.examples import PreparedData, prepare
    from model.training.held_out import samples_of_split
    from model.training.record import TrainingRecord, read_record
    from model.training.run import TrainingOutcome, train
    from model.training.splits import Splits

__all__ = [
    "DataConfig",
    "PreparedData",
    "Splits",
    "TrainConfig",
    "TrainingConfig",
    "TrainingError",
    "TrainingOutcome",
    "TrainingRecord",
    "load_config",
    "prepare",
    "read_record",
    "samples_of_split",
    "train",
]

_MODULES = {
    "config": ("DataConfig", "TrainConfig", "TrainingConfig", "load_config"),
    "errors": ("TrainingError",),
    "examples": ("PreparedData", "prepare"),
    "held_out": ("samples_of_split",),
    "record": ("TrainingRecord", "read_record"),
    "run": ("TrainingOutcome", "train"),
    "splits": ("Splits",),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: reading a record should not wait for Lightning."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"model.training.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
