"""Errors a user can cause. Their message says what was expected, what came and what to do."""

from __future__ import annotations


class InterpretError(Exception):
    """Base of every error that the command line shows as one message and exit status 2."""


class CheckpointError(InterpretError):
    """A checkpoint cannot be read, is refused, or does not fit its architecture."""


class StructureError(InterpretError):
    """A crystal structure cannot be read or has no valid graph."""


class DataError(InterpretError):
    """A data set or one of its columns is missing or malformed."""


class EncoderError(InterpretError):
    """A text encoder is missing or does not fit the checkpoint."""


class TapError(InterpretError):
    """A tap does not exist, did not fire, or does not fit the tap it is used with."""


class RecordError(InterpretError):
    """Saved results cannot be read back or belong to another run."""
