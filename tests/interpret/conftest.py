"""Records of structures made by hand, for tests of what is measured on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from interpret.record import StructureRecord
from interpret.symmetry import GraphClasses, Orbits
from interpret.words import group_words
from model.crystal import build_graph
from model.encoder import TextEncoding
from model.structure import Structure
from model.text import normalize

SPECIAL = ("[CLS]", "[SEP]", "[PAD]")
PIECES = ("[CLS]", "Ba", "is", "bonded", "to", "O", ".", "[SEP]")
DIMS = {"nodes": ("atom", "channel"), "gate": ("atom", "channel"), "attention": ("head", "atom", "token")}


def handmade_encoding(pieces: Sequence[str] = PIECES) -> TextEncoding:
    """A text of these pieces, a word each, with a random embedding."""
    words = [piece for piece in pieces if piece not in SPECIAL]
    text = " ".join(words)
    spans, at = [], 0
    for piece in pieces:
        if piece in SPECIAL:
            spans.append((0, 0))
        else:
            spans.append((at, at + len(piece)))
            at += len(piece) + 1
    special = np.array([piece in SPECIAL for piece in pieces])
    return TextEncoding(
        text=text,
        normalized=normalize(text),
        pieces=tuple(pieces),
        spans=np.array(spans, dtype=np.int64).reshape(-1, 2),
        special=special,
        piece_ids=np.arange(len(pieces)),
        embeddings=torch.randn(len(pieces), 12, generator=torch.Generator().manual_seed(0)),
        pieces_total=len(pieces),
    )


def handmade_record(
    taps: Mapping[str, Any],
    *,
    elements: Sequence[str],
    classes: Sequence[int] | None = None,
    orbits: Sequence[int] | None = None,
    pieces: Sequence[str] = PIECES,
    identifier: str = "made",
    counterfactuals: Mapping[str, float] | None = None,
) -> StructureRecord:
    """A record of these arrays; attention is [H, N, T], nodes and gates [N, d].

    Every atom is a class and an orbit of its own unless they are given. The atoms lie anywhere: bonds are those of a
    cubic cell of 5 angstrom with the atoms on a line.
    """
    count = len(elements)
    places = np.stack([np.linspace(0.0, 0.8, count), np.linspace(0.0, 0.4, count) ** 2, np.zeros(count)], axis=1)
    graph = build_graph(Structure(5.0 * np.eye(3), places, tuple(elements)))
    encoding = handmade_encoding(pieces)
    own = np.arange(count)
    labels = own if classes is None else np.asarray(classes, dtype=np.int64)
    data = xr.Dataset(
        {
            name: (DIMS[name.split(".")[-1] if name.split(".")[-1] in DIMS else "attention"], values)
            for name, values in taps.items()
        }
    )
    return StructureRecord(
        id=identifier,
        graph=graph,
        encoding=encoding,
        words=tuple(group_words(encoding)),
        orbits=Orbits(own if orbits is None else np.asarray(orbits, dtype=np.int64), "P1", 1, 0.01),
        classes=GraphClasses(labels, np.zeros(graph.number_of_bonds, dtype=np.int64), 1, 1e-4),
        target=1.0,
        prediction=0.5,
        data=data,
        counterfactuals=dict(counterfactuals or {}),
    )


@pytest.fixture(scope="session")
def make_record() -> Callable[..., StructureRecord]:
    """Factory of records by hand."""
    return handmade_record


@pytest.fixture(scope="session")
def make_encoding() -> Callable[..., TextEncoding]:
    """Factory of encodings by hand."""
    return handmade_encoding
