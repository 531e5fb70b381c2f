"""The error of a training run that its user can mend."""

from __future__ import annotations

from model.errors import InterpretError


class TrainingError(InterpretError):
    """A training configuration, its splits or its output folder cannot be used, or the training diverged."""
