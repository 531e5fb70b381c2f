"""Who can be absent: words, sentences, atoms, orbits of atoms, shells of bonds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from interpret.attribution.explanation import AttributionError, Floats, Side
from interpret.words import sentences

if TYPE_CHECKING:
    from interpret.symmetry import Orbits
    from interpret.words import Word
    from model.crystal import CrystalGraph
    from model.encoder import TextEncoding

# Lengths of bonds between the same two elements that differ by more than this, in angstrom, are two shells: thermal
# and relaxation scatter within a coordination shell is below it, the gap to the next one above.
SHELL_GAP = 0.1


class Described(Protocol):
    """A structure with its text: :class:`interpret.runner.Prepared` and ``interpret.record.StructureRecord``."""

    @property
    def graph(self) -> CrystalGraph:
        """The network's input graph."""

    @property
    def encoding(self) -> TextEncoding:
        """The network's input text."""

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of the text."""

    @property
    def orbits(self) -> Orbits:
        """Atoms that symmetry makes equivalent."""


@dataclass(frozen=True)
class Players:
    """P players, each a set of units of the input: words, atoms or bonds.

    Attributes:
        side, kind: as in :class:`interpret.attribution.Explanation`.
        labels, categories: P.
        members: P, the units of each player; a unit belongs to one player at most.
        units: number of units there are; those of no player are never absent.

    Raises:
        AttributionError: there is no player, or a unit has two.
    """

    side: Side
    kind: str
    labels: tuple[str, ...]
    categories: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]
    units: int

    def __post_init__(self) -> None:
        if not self.labels:
            raise AttributionError(f"the structure has no {self.kind} to attribute anything to")
        if not len(self.labels) == len(self.categories) == len(self.members):
            raise AttributionError("expected one label, one category and one set of units a player")
        units = [unit for member in self.members for unit in member]
        if len(set(units)) != len(units) or any(not 0 <= unit < self.units for unit in units):
            raise AttributionError(f"expected every unit within 0..{self.units - 1} in one player at most")

    def __len__(self) -> int:
        return len(self.labels)

    def collect(self, values: Floats) -> Floats:
        """Sum values of units [U] over players [P]."""
        return np.array([values[list(member)].sum() for member in self.members], dtype=np.float64)

    def spread(self, keep: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Presence of players [K, P] to that of units [K, U]."""
        present = np.ones((len(keep), self.units), dtype=bool)
        for player, member in enumerate(self.members):
            present[:, list(member)] = keep[:, player, None]
        return present


def words(structure: Described) -> Players:
    """Every word and punctuation mark of the text; special tokens are no players."""
    chosen = [(i, word) for i, word in enumerate(structure.words) if word.category != "special"]
    return Players(
        "text",
        "words",
        tuple(word.text for _, word in chosen),
        tuple("punctuation" if word.is_punctuation else str(word.category) for _, word in chosen),
        tuple((i,) for i, _ in chosen),
        len(structure.words),
    )


def text_sentences(structure: Described) -> Players:
    """The sentences of the text, as far as the encoder saw it."""
    text, found = structure.encoding.text, words(structure)
    spans = sentences(text)
    groups: dict[int, list[int]] = {}
    for (index,) in found.members:
        start = structure.words[index].start
        owner = next((n for n, (_, last) in enumerate(spans) if start < last), len(spans) - 1)
        groups.setdefault(owner, []).append(index)
    return Players(
        "text",
        "sentences",
        tuple(text[slice(*spans[owner])] for owner in groups),
        ("sentence",) * len(groups),
        tuple(tuple(group) for group in groups.values()),
        len(structure.words),
    )


def atoms(structure: Described) -> Players:
    """Every atom of the cell."""
    graph = structure.graph
    count = graph.number_of_atoms
    return Players(
        "graph", "atoms", tuple(graph.atom_labels), tuple(graph.elements), tuple((i,) for i in range(count)), count
    )


def atom_orbits(structure: Described) -> Players:
    """Atoms that symmetry makes equivalent, taken together."""
    labels, graph = structure.orbits.labels, structure.graph
    groups = [tuple(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)]
    return Players(
        "graph",
        "orbits",
        tuple(", ".join(graph.atom_labels[i] for i in group) for group in groups),
        tuple(graph.elements[group[0]] for group in groups),
        tuple(groups),
        graph.number_of_atoms,
    )


def bond_shells(structure: Described, gap: float = SHELL_GAP) -> Players:
    """Bonds between the same two elements whose lengths lie together, shortest first.

    Args:
        gap: angstrom; a larger step between sorted lengths begins another shell.
    """
    graph = structure.graph
    lengths = np.linalg.norm(graph.bond_vectors.numpy().astype(np.float64), axis=1)
    ends = zip(graph.bond_source.tolist(), graph.bond_target.tolist(), strict=True)
    pairs = ["-".join(sorted((graph.elements[a], graph.elements[b]))) for a, b in ends]
    shells: list[tuple[float, str, tuple[int, ...]]] = []
    for pair in sorted(set(pairs)):
        own = sorted((i for i, name in enumerate(pairs) if name == pair), key=lambda i: (lengths[i], i))
        cuts = [0, *(np.flatnonzero(np.diff(lengths[own]) > gap) + 1).tolist(), len(own)]
        for start, end in pairwise(cuts):
            shells.append((float(lengths[own[start:end]].mean()), pair, tuple(sorted(own[start:end]))))
    shells.sort(key=lambda shell: shell[:2])
    return Players(
        "graph",
        "bonds",
        tuple(f"{pair} {length:.2f} Å ({len(bonds)})" for length, pair, bonds in shells),
        tuple(pair for _, pair, _ in shells),
        tuple(bonds for _, _, bonds in shells),
        graph.number_of_bonds,
    )


SIDES: dict[str, Side] = {"words": "text", "sentences": "text", "atoms": "graph", "orbits": "graph", "bonds": "graph"}
KINDS: dict[str, Callable[[Described], Players]] = {
    "words": words,
    "sentences": text_sentences,
    "atoms": atoms,
    "orbits": atom_orbits,
    "bonds": bond_shells,
}


def players_of(structure: Described, kind: str) -> Players:
    """The players of a kind.

    Raises:
        AttributionError: there is no such kind, or the structure has none of it.
    """
    if kind not in KINDS:
        raise AttributionError(f"expected players to be one of {', '.join(KINDS)}, got {kind!r}")
    return KINDS[kind](structure)


def kept_text(text: str, words: Sequence[Word], keep: Sequence[bool]) -> str:
    """The text with only some of its words, as one would write it: no double spaces, nothing in place of a word.

    What stands between two kept neighbours stays as it is. Behind the last word nothing is kept, so that a text that
    was cut for the encoder does not get the words behind the cut in place of those taken out.

    Args:
        text: the original text.
        words: of :func:`interpret.words.group_words`; special tokens are passed over.
        keep: one a word.
    """
    parts: list[str] = []
    end, skipped = 0, False
    for word, stays in zip(words, keep, strict=True):
        if word.category == "special":
            continue
        between = text[end : word.start]
        if stays:
            joined = "" if not parts or (word.is_punctuation and not between) else " "
            parts += [joined if skipped else between, text[word.start : word.end]]
        skipped, end = not stays, word.end
    return "".join(parts)
