"""The attention of one structure at word level, every map with its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from interpret.measure.attention import ROW_STATISTICS, sink_tokens, taps_to_tokens
from interpret.measure.nodes import stages
from interpret.metrics._grid import attention_grid
from interpret.metrics.concentration import sink_share
from interpret.pages.quantity import Array, Control, Quantity
from interpret.pages.value_vectors import contributions, value_vectors
from interpret.words import Word, merge_pieces

if TYPE_CHECKING:
    from interpret.record import StructureRecord
    from model.network import CrystalTextNetwork

TO_ATOMS = "attention.token_to_atom"
HEAD_STATISTICS = ("normalized_entropy", "max_weight", "effective_tokens")


def attention_quantities(
    record: StructureRecord, network: CrystalTextNetwork, others: Mapping[str, tuple[Tensor, int]]
) -> list[Quantity]:
    """Every attention map of a record, atoms to words and words to atoms.

    Args:
        others: of :meth:`interpret.pages.other_crystals.OtherCrystals.attention`.
    """
    found = []
    for tap in reversed(taps_to_tokens(record)):
        found.append(_to_words(record, tap, others.get(tap)))
        found.append(_norm_weighted(record, network, tap))
    if TO_ATOMS in record:
        found.append(_to_atoms(record))
    return found


def _to_words(record: StructureRecord, tap: str, other: tuple[Tensor, int] | None) -> Quantity:
    weights = _with_mean(merge_pieces(torch.from_numpy(record.values(tap)), record.words))
    controls = [
        Control("uniform", "uniform attention: the word's share of the pieces", ("word",), piece_share(record)),
    ]
    if other is not None:
        read, count = other
        label = f"mean over {count} other crystals that are given this text"
        values = _with_mean(merge_pieces(read.double(), record.words))
        controls.append(Control("other_crystals", label, ("head", "word"), values))
    return Quantity(
        name=tap,
        label=f"attention, atoms to words{_place(tap)}",
        unit="share of the atom's attention",
        axes=("head", "atom", "word"),
        values=weights,
        heads=_heads(len(weights) - 1, "mean over heads"),
        controls=tuple(controls),
        over_atoms=weights.mean(axis=1),
        note="Weights of word-pieces are summed over each word, so long words get more whatever the network does: "
        "read them against the uniform share.",
    )


def _norm_weighted(record: StructureRecord, network: CrystalTextNetwork, tap: str) -> Quantity:
    weights = torch.from_numpy(record.values(tap))
    vectors = value_vectors(network, tap, record.encoding.embeddings)
    scale = float(torch.from_numpy(record.values(_nodes_before(record, tap))).norm(dim=1).mean())
    uniform = torch.full((len(weights), 1, weights.shape[2]), 1 / weights.shape[2], dtype=torch.float64)
    values = contributions(weights, vectors, record.words).numpy() / scale
    control = contributions(uniform, vectors, record.words).numpy()[:, 0] / scale
    gated = tap.startswith("fusion.") and tap.replace("attention", "gate") in record
    return Quantity(
        name=f"{tap}.norm_weighted",
        label=f"norm-weighted attention, atoms to words{_place(tap)}",
        unit="length of what the word adds to the atom, over the mean length of atom features",
        axes=("head", "atom", "word"),
        values=values,
        heads=_heads(len(weights), "all heads together"),
        controls=(Control("uniform", "the same under uniform attention", ("head", "word"), control),),
        over_atoms=values.mean(axis=1),
        note="Weight times the vector that the token brings (Kobayashi et al., EMNLP 2020): a word with a large weight "
        f"and a short vector adds little. Before the {'gate and the ' if gated else ''}layer norm.",
    )


def _to_atoms(record: StructureRecord) -> Quantity:
    """Words to atoms: mean over the pieces of a word, each of which has 1 to share out."""
    weights = torch.from_numpy(record.values(TO_ATOMS)).transpose(1, 2)
    sizes = torch.tensor([len(word.pieces) for word in record.words], dtype=torch.float64)
    values = _with_mean(merge_pieces(weights, record.words) / sizes)
    atoms = values.shape[1]
    return Quantity(
        name=TO_ATOMS,
        label="attention, words to atoms",
        unit="share of the word's attention",
        axes=("head", "atom", "word"),
        values=values,
        heads=_heads(len(values) - 1, "mean over heads"),
        controls=(Control("uniform", f"uniform attention: 1 / {atoms} atoms", (), np.asarray(1.0 / atoms)),),
        reaches_prediction=False,
        note="This branch does not reach the prediction: no gradient has ever changed its weights, and the map is that "
        "of untrained ones. It says nothing about what the network learned.",
    )


def head_rows(record: StructureRecord) -> list[dict[str, Any]]:
    """One row a head of each map to words: a few of the statistics that diagnose has in its table of heads."""
    found = []
    for tap in taps_to_tokens(record):
        grid = attention_grid(torch.from_numpy(record.values(tap)))
        columns = {name: ROW_STATISTICS[name](grid).mean(dim=-1) for name in HEAD_STATISTICS}
        columns["sink_share"] = sink_share(grid, sink_tokens(record.encoding)).share.reshape(-1)
        found += [
            {"tap": tap, "head": head} | {name: float(values[head]) for name, values in columns.items()}
            for head in range(grid.heads)
        ]
    return found


def piece_share(record: StructureRecord) -> Array:
    """[W]: what uniform attention gives each word."""
    pieces = len(record.encoding.pieces)
    return np.array([len(word.pieces) / pieces for word in record.words], dtype=np.float64)


def top_words(quantity: Quantity, words: Sequence[Word], count: int) -> list[tuple[str, float, float]]:
    """Words that get most beyond the first control, over all atoms and heads: (word, value, control).

    Words spelled alike are one. Special tokens, punctuation and stop words are passed over.
    """
    assert quantity.over_atoms is not None
    values = quantity.over_atoms[0]
    control = np.broadcast_to(quantity.controls[0].values, values.shape)
    total: dict[str, tuple[float, float]] = {}
    for index, word in enumerate(words):
        if word.category != "special" and not word.is_punctuation and not word.is_stop_word:
            value, expected = total.get(word.text, (0.0, 0.0))
            total[word.text] = (value + float(values[index]), expected + float(control[index]))
    ranked = sorted(total.items(), key=lambda item: item[1][1] - item[1][0])
    return [(word, value, expected) for word, (value, expected) in ranked[:count]]


def _with_mean(weights: Tensor) -> Array:
    """[H, ...] to [1 + H, ...]: the mean over heads first."""
    joined: Array = torch.cat([weights.mean(dim=0, keepdim=True), weights]).numpy()
    return joined


def _heads(count: int, first: str) -> tuple[str, ...]:
    return (first, *(f"head {head}" for head in range(count)))


def _place(tap: str) -> str:
    owner, layer, *_ = tap.split(".")
    return f" (fusion after ALIGNN layer {layer})" if owner == "fusion" else ""


def _nodes_before(record: StructureRecord, tap: str) -> str:
    if tap.startswith("fusion."):
        return f"alignn.{tap.split('.')[1]}.nodes"
    return [stage for stage in stages(record) if stage != "attention.nodes"][-1]
