"""Rows about attention to tokens: per structure, per head, per atom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from interpret.metrics import attention, concentration, diversity
from interpret.metrics._grid import AttentionGrid, attention_grid
from interpret.record import StructureRecord

if TYPE_CHECKING:
    from model.encoder import TextEncoding

ROW_STATISTICS = {
    "entropy": attention.entropy,
    "normalized_entropy": attention.normalized_entropy,
    "perplexity": attention.perplexity,
    "effective_tokens": attention.effective_tokens,
    "max_weight": attention.max_weight,
    "gini": attention.gini,
    "sparsity": attention.sparsity,
}
# Statistics that are kept for every atom, of the mean over heads.
ATOM_STATISTICS = ("entropy", "max_weight")
# Of the permutations under which atoms attend to tokens of their own.
PERMUTATION_SEED = 0


class AttentionRows(NamedTuple):
    """What the tables say of one attention map.

    Attributes:
        structure: columns prefixed with the tap's name.
        heads: one row a head, with ``tap`` and ``head``.
        atoms: columns of each atom, prefixed with the tap's name.
    """

    structure: dict[str, Any]
    heads: list[dict[str, Any]]
    atoms: list[dict[str, float]]


def taps_to_tokens(record: StructureRecord) -> list[str]:
    """The record's taps that hold weights from atoms to tokens."""
    return [str(name) for name, values in record.data.items() if values.dims[-2:] == ("atom", "token")]


def attention_rows(record: StructureRecord, tap: str) -> AttentionRows:
    """Statistics of one attention map.

    Means over the atoms of each head; the structure's figure is the mean over heads, so no head hides behind
    another. ``averaged.*`` are the statistics of the head-averaged map that people usually plot.
    """
    weights = torch.from_numpy(record.values(tap))
    grid = attention_grid(weights)
    rows = {name: statistic(grid) for name, statistic in ROW_STATISTICS.items()}
    per_head = {name: values.mean(dim=-1) for name, values in rows.items()} | head_statistics(grid, record)
    heads = [
        {"tap": tap, "head": head} | {name: float(values[head]) for name, values in per_head.items()}
        for head in range(grid.heads)
    ]
    columns: dict[str, Any] = {name: float(values.mean()) for name, values in per_head.items()}
    columns |= _averaged_columns(weights, record)
    columns["head_diversity"] = float(diversity.head_diversity(grid).value)
    columns["sink_rate"] = float(concentration.sink_rate(grid).mean()) if weights.numel() else np.nan
    columns |= difference_columns(weights, record.classes.labels)
    sinks = sink_tokens(record.encoding)
    columns["sink_share_uniform"] = float(sinks.mean())
    columns["special_share_uniform"] = float(record.encoding.special.mean())
    per_atom = {f"{tap}.{name}": rows[name].mean(dim=0).tolist() for name in ATOM_STATISTICS}
    atoms = [{name: values[atom] for name, values in per_atom.items()} for atom in range(grid.atoms)]
    return AttentionRows({f"{tap}.{name}": value for name, value in columns.items()}, heads, atoms)


def head_statistics(grid: AttentionGrid, record: StructureRecord) -> dict[str, Tensor]:
    """What a head has of its own beside the means of row statistics, [H] float64 each."""
    classes = record.classes.labels
    return {
        "saturation": concentration.head_saturation(grid),
        "sink_share": concentration.sink_share(grid, sink_tokens(record.encoding)).share.reshape(-1),
        "special_share": concentration.sink_share(grid, record.encoding.special).share.reshape(-1),
        "atom_diversity": diversity.atom_diversity(grid, classes=classes).value,
        "atom_divergence": diversity.atom_divergence(grid, classes=classes).value,
    }


def _averaged_columns(weights: Tensor, record: StructureRecord) -> dict[str, Any]:
    grid = attention_grid(attention.average_heads(weights))
    columns: dict[str, Any] = {
        f"averaged.{name}": float(statistic(grid).mean()) for name, statistic in ROW_STATISTICS.items()
    }
    between = diversity.atom_diversity(grid, classes=record.classes.labels)
    columns["averaged.atom_diversity"] = float(between.value)
    # Always text: a column of nothing would have another type in a shard where all values are defined.
    columns["averaged.atom_diversity_reason"] = between.explain(0) or ""
    heads = weights.shape[0]
    fingerprint = concentration.averaged_saturation_fingerprint(grid, heads=heads) if heads > 1 else np.nan
    columns["averaged.one_hot_fingerprint"] = float(fingerprint)
    return columns


def difference_columns(weights: Tensor, classes: np.ndarray) -> dict[str, float]:
    """How much atoms of different classes differ, and what they would differ by if they attended independently.

    Of the head in which they differ most. The two are 0 and the same for a uniform map.

    Args:
        weights: [H, N, T] float64. classes: [N] int.
    """
    differences = class_differences(weights, classes)
    if not len(differences) or bool(differences.isnan().any()):
        return {"atom_difference": np.nan, "atom_difference_independent": np.nan}
    head = int(differences.argmax())
    independent = independent_difference(weights[head], classes)
    return {"atom_difference": float(differences[head]), "atom_difference_independent": independent}


def class_differences(weights: Tensor, classes: np.ndarray) -> Tensor:
    """Total variation distance between the rows of atoms of different classes, mean over pairs: [H] float64.

    The share of attention that would have to move for one atom to attend like another, 0 to 1; NaN for one class.

    Args:
        weights: [H, N, T]. classes: [N] int.
    """
    labels = np.asarray(classes)
    order = np.argsort(labels, kind="stable")
    ranked, rows = labels[order], weights[:, torch.from_numpy(order)]
    # In the order of classes, the atoms of later classes are one block: no copy of pairs is made.
    ends = np.searchsorted(ranked, ranked, side="right")
    total = torch.zeros(weights.shape[0], dtype=torch.float64)
    pairs = 0
    for atom, end in enumerate(ends[ends < len(labels)].tolist()):
        total += (rows[:, end:] - rows[:, atom : atom + 1]).abs().sum(dim=(1, 2)) / 2
        pairs += len(labels) - end
    return total / pairs if pairs else torch.full_like(total, torch.nan)


def largest_difference(weights: Tensor, classes: np.ndarray) -> Tensor:
    """:func:`class_differences` of the head in which atoms differ most; NaN for one class."""
    return class_differences(weights, classes).max()


def independent_difference(weights: Tensor, classes: np.ndarray) -> float:
    """What :func:`class_differences` would be if atoms attended just as sharply, each to tokens of its own.

    Each row is held against that of another atom, of the next class, with its tokens in random order. NaN for one
    class.

    Args:
        weights: [N, T] float64, of one head. classes: [N] int.
    """
    labels = np.asarray(classes)
    if len(np.unique(labels)) < 2:
        return float("nan")
    # In the order of classes, half a turn on is another class wherever no class has more than half of the atoms.
    order = np.argsort(labels, kind="stable")
    partner = np.empty_like(order)
    partner[order] = np.roll(order, len(order) // 2)
    alike = labels[partner] == labels
    other = np.array([int(np.flatnonzero(labels != label)[0]) for label in labels])
    chosen = torch.from_numpy(np.where(alike, other, partner))
    generator = torch.Generator().manual_seed(PERMUTATION_SEED)
    shuffled = torch.rand(weights.shape, generator=generator, dtype=torch.float32).argsort(dim=-1)
    moved = weights[chosen].gather(-1, shuffled)
    return float((weights - moved).abs().sum(dim=-1).mean() / 2)


def sink_tokens(encoding: TextEncoding) -> np.ndarray:
    """[T] bool: special tokens, and pieces that are nothing but punctuation."""
    written = [encoding.normalized.text[start:end].strip() for start, end in encoding.spans.tolist()]
    marks = [bool(text) and not any(character.isalnum() for character in text) for text in written]
    return np.asarray(encoding.special | np.array(marks, dtype=np.bool_))
