"""A data set made ready: graphs built, texts encoded, structures recognised, once for all epochs and runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from model.batch import CrystalBatch, collate
from model.crystal import CrystalGraph, build_graph
from model.dataset import CrystalDataset, Sample, Skipped
from model.encoder import TextEncoder, TextEncoding
from model.equality import Signature, signature
from model.errors import EncoderError, StructureError
from model.training.errors import TrainingError

if TYPE_CHECKING:
    from model.config import ModelConfig


@dataclass(frozen=True, eq=False)
class Example:
    """A labelled crystal with its text, as the network takes them."""

    id: str
    graph: CrystalGraph
    encoding: TextEncoding
    target: float
    signature: Signature


@dataclass(frozen=True, eq=False)
class PreparedData:
    """What can be trained on, and what cannot and why.

    Attributes:
        examples: in the order of the data set.
        skipped: of the data set and of the preparation.
        target: name of the target's column; empty where it has none.
        empty_texts: how many examples have no text.
    """

    examples: tuple[Example, ...]
    skipped: tuple[Skipped, ...]
    target: str
    empty_texts: int


class TrainingBatch(NamedTuple):
    """Crystals with their texts, and their targets [B] in the target's unit."""

    crystals: CrystalBatch
    targets: Tensor


def prepare(
    dataset: CrystalDataset, encoder: TextEncoder, *, progress: Callable[[int], None] | None = None
) -> PreparedData:
    """Build graphs and encode texts; a sample that cannot be used is left out with the reason.

    Args:
        dataset: with targets.
        encoder: of the texts, frozen; embeddings come from its cache where it has one.
        progress: called with 1 after each sample.

    Raises:
        TrainingError: no sample can be used.
    """
    examples: list[Example] = []
    skipped = list(dataset.skipped)
    for sample in dataset:
        made = _example(sample, encoder)
        if isinstance(made, Example):
            examples.append(made)
        else:
            skipped.append(made)
        if progress is not None:
            progress(1)
    if not examples:
        first = f": {skipped[0].id or 'row ' + str(skipped[0].row)}, {skipped[0].reason}" if skipped else ""
        raise TrainingError(f"none of the {dataset.rows or len(skipped)} samples can be trained on{first}")
    target = next((column.name for column in dataset.columns if column.role == "target"), "")
    empty = sum(not example.encoding.text.strip() for example in examples)
    return PreparedData(tuple(examples), tuple(skipped), target, empty)


def _example(sample: Sample, encoder: TextEncoder) -> Example | Skipped:
    if not math.isfinite(sample.target):
        return Skipped(sample.id, sample.row, "row", "there is no number in the target column")
    try:
        graph = build_graph(sample.structure)
    except StructureError as error:
        return Skipped(sample.id, sample.row, "structure", str(error))
    try:
        encoding = encoder.encode([sample.text])[0]
    except EncoderError as error:
        return Skipped(sample.id, sample.row, "text", str(error))
    return Example(sample.id, graph, encoding, sample.target, signature(graph))


def uses_tokens(config: ModelConfig) -> bool:
    """Whether the network reads more of a text than its first token."""
    by_token = config.use_middle_fusion and config.middle_fusion_type == "token-attention"
    return config.use_fine_grained_attention or by_token


def first_token(encoding: TextEncoding) -> TextEncoding:
    """The encoding cut after its first piece, which is all that a network without token attention reads."""
    return replace(
        encoding,
        pieces=encoding.pieces[:1],
        spans=encoding.spans[:1],
        special=encoding.special[:1],
        piece_ids=encoding.piece_ids[:1],
        # A view would keep, and copy to worker processes, the embeddings of the whole text.
        embeddings=encoding.embeddings[:1].clone(),
    )


def examples_for(config: ModelConfig, examples: Sequence[Example]) -> list[Example]:
    """The examples with no more of their texts than the network reads."""
    if uses_tokens(config):
        return list(examples)
    return [replace(example, encoding=first_token(example.encoding)) for example in examples]


def join(examples: Sequence[Example]) -> TrainingBatch:
    """Examples to one batch."""
    crystals = collate([example.graph for example in examples], [example.encoding for example in examples])
    return TrainingBatch(crystals, torch.tensor([example.target for example in examples], dtype=torch.float32))
