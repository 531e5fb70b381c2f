"""What stands for an absent player, by name, and why it is a fair stand-in.

A baseline decides what an attribution means: values answer "compared with what". Each has a name, which every result
carries, and a reason, which the documentation quotes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from interpret.attribution.explanation import AttributionError, Side
from interpret.text_changes import mask_token
from model.crystal import CrystalGraph, atom_features
from model.encoder import TextEncoder

Use = Literal["ablation", "gradient"]
# One more than the last element with features of its own.
_ELEMENTS = 101


@dataclass(frozen=True)
class Baseline:
    """A stand-in for what is absent.

    Attributes:
        name: as results carry it.
        side: what it stands for.
        uses: kinds of method it fits: those that take players out, and those that go from a baseline to the input.
        meaning: what is put in place.
        reason: why it is a fair stand-in, and where it is not.
    """

    name: str
    side: Side
    uses: frozenset[Use]
    meaning: str
    reason: str


BASELINES = {
    baseline.name: baseline
    for baseline in (
        Baseline(
            "empty-text",
            "text",
            frozenset({"ablation"}),
            "the text is written without the words and encoded again",
            "A shorter description is a text the encoder can meet; no vector is set to zero. Words behind those taken "
            "out move up. The empty text has no token to go from, so there is no path to the input.",
        ),
        Baseline(
            "mask-token",
            "text",
            frozenset({"ablation", "gradient"}),
            "each piece becomes the encoder's mask token",
            "The encoder was trained to read it as 'unknown', and all other pieces keep their place.",
        ),
        Baseline(
            "mean-embedding",
            "text",
            frozenset({"gradient"}),
            "each piece gets the mean of the encoder's input embeddings",
            "For encoders without a mask token. It is no word, and its vector is shorter than those of words.",
        ),
        Baseline(
            "mean-atom",
            "graph",
            frozenset({"ablation", "gradient"}),
            "the features of the atom become the mean over atoms",
            "An atom of unknown element at the same place: bonds and angles stay, so that what is attributed is "
            "chemistry and not geometry. It is no element, but within the range of every feature.",
        ),
        Baseline(
            "zero-atom",
            "graph",
            frozenset({"ablation", "gradient"}),
            "the features of the atom become 0",
            "Without choice of a data set. Every element has one 1 in each group of features, so no network has seen "
            "an atom of zeros.",
        ),
        Baseline(
            "no-bond",
            "graph",
            frozenset({"ablation"}),
            "the bonds and the angles they make are taken out of the graph",
            "A crystal cannot lose a shell of neighbours, a graph can: atoms stay, and what is attributed is what they "
            "are told of each other. With all bonds gone atoms are told nothing.",
        ),
    )
}
DEFAULT = {("text", "ablation"): "empty-text", ("text", "gradient"): "mask-token"}


def baseline_for(name: str | None, side: Side, use: Use, kind: str) -> Baseline:
    """The baseline of a name, or the default one.

    Raises:
        AttributionError: there is none of that name, or it does not fit, with those that do.
    """
    if kind == "bonds":
        fits = [BASELINES["no-bond"]] if use == "ablation" else []
    else:
        fits = [b for b in BASELINES.values() if b.side == side and use in b.uses and b.name != "no-bond"]
    wanted = name or DEFAULT.get((side, use), "no-bond" if kind == "bonds" else "mean-atom")
    for baseline in fits:
        if baseline.name == wanted:
            return baseline
    known = ", ".join(b.name for b in fits) or "none"
    raise AttributionError(f"baseline {wanted!r} does not fit {use} by {kind}; baselines that do: {known}")


def mean_atom(graphs: Iterable[CrystalGraph] = ()) -> Tensor:
    """Mean features over all atoms of some crystals, or over the elements where none is given: float64 [92]."""
    features = [graph.atom_features for graph in graphs] or [torch.from_numpy(atom_features(np.arange(1, _ELEMENTS)))]
    return torch.cat(features).double().mean(dim=0)


def mask_piece(encoder: TextEncoder) -> int:
    """Id of the encoder's mask token.

    Raises:
        AttributionError: it has none.
    """
    token = mask_token(encoder)
    if token is None:
        raise AttributionError(f"the encoder {encoder.name} has no mask token: use the baseline mean-embedding")
    found = encoder.encode([token])[0]
    return int(found.piece_ids[found.pieces.index(token)])
