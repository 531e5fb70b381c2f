"""Explainers that know nothing of the network: what any other must beat."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from interpret.attribution.explanation import Floats
from interpret.attribution.players import Described, Players

RANDOM_SEEDS = 30


def random_values(players: Players, identifier: str, seed: int) -> Floats:
    """Uniform on [0, 1), drawn for the structure, so that they depend on no order of structures, [P]."""
    digest = hashlib.sha256(f"{seed}:{players.kind}:{identifier}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big")).random(len(players))


def uniform_values(players: Players) -> Floats:
    """The same for everyone: the order is drawn where one is needed, [P]."""
    return np.full(len(players), 1 / len(players))


def piece_values(structure: Described, players: Players) -> Floats:
    """Word-pieces of each player of a text: what attention spread evenly over the pieces would give it, [P]."""
    words = structure.words
    return np.array([sum(len(words[unit].pieces) for unit in own) for own in players.members], dtype=np.float64)


def position_values(players: Players) -> Floats:
    """First players first, [P]: descriptions begin with the formula, cells with the cation."""
    return np.arange(len(players), 0, -1, dtype=np.float64) / len(players)


class Frequencies:
    """In how many structures of a data set each label occurs.

    Args:
        labels: of each structure, the words of its text or the elements of its atoms.
    """

    def __init__(self, labels: Iterable[Iterable[str]]) -> None:
        self.count: Counter[str] = Counter()
        self.structures = 0
        for own in labels:
            self.structures += 1
            self.count.update({label.lower() for label in own})

    def values(self, players: Players, keys: tuple[str, ...]) -> Floats:
        """``ln((1 + n) / (1 + n_label))``: rare labels first (inverse document frequency), [P]."""
        return np.array(
            [math.log((1 + self.structures) / (1 + self.count[key.lower()])) for key in keys], dtype=np.float64
        )


def frequency_keys(players: Players) -> tuple[str, ...]:
    """What a player is counted by: a word's spelling, an atom's element."""
    return players.labels if players.side == "text" else players.categories


def frequencies_of(structures: Iterable[Described]) -> Mapping[str, Frequencies]:
    """Frequencies of words and of elements, by side."""
    known = list(structures)
    return {
        "text": Frequencies([word.text for word in one.words if word.category != "special"] for one in known),
        "graph": Frequencies(one.graph.elements for one in known),
    }
