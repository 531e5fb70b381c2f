"""Many (crystal, text) pairs through a network at once; the layers that read no text run once a crystal."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from interpret.text_changes import with_texts
from model.batch import CrystalBatch, collate
from model.network import GraphState

if TYPE_CHECKING:
    from model.crystal import CrystalGraph
    from model.encoder import TextEncoding
    from model.network import CrystalTextNetwork

# Angles are most of the memory: a hundred an atom and more, each as wide as the network.
MOST_ATOMS = 384
# Padded tokens in a pass: 16,384 of width 768 are 100 MB in float64.
MOST_TOKENS = 16_384


@dataclass(frozen=True, eq=False)
class Crystal:
    """One crystal on its way through a network, up to the first step that reads text.

    Attributes:
        batch: of the crystal alone; its text is a placeholder.
        state: features before that step; those of angles and bonds are left out where no later step reads them.
    """

    batch: CrystalBatch
    state: GraphState

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        return len(self.batch.atom_features)


class FusedPasses:
    """A network for many pairs of crystal and text.

    Predictions do not depend on which pairs are asked for together: every pair is computed as if alone, up to rounding.

    Args:
        network: copied, not changed.
        blank: encoding of any text, the placeholder while no text is read.
        device, dtype: of the passes.

    Attributes:
        pairs: number of pairs predicted so far, for the cost.
    """

    def __init__(
        self,
        network: CrystalTextNetwork,
        blank: TextEncoding,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        self.network = copy.deepcopy(network).to(device=device, dtype=dtype).eval()
        self.device, self.dtype = device, dtype
        self.pairs = 0
        self._blank = blank
        kinds = [kind for kind, _ in self.network.steps]
        self.before_text = kinds.index("fusion") if "fusion" in kinds else len(kinds)
        later = kinds[self.before_text :]
        self._angles = "alignn" in later
        self._bonds = self._angles or "gcn" in later

    def crystals(self, graphs: Sequence[CrystalGraph]) -> list[Crystal]:
        """The crystals of graphs, in their order, with the first layers run."""
        result: list[Crystal] = []
        for chunk in _chunks([graph.number_of_atoms for graph in graphs], MOST_ATOMS):
            batch = collate([graphs[i] for i in chunk], [self._blank] * len(chunk)).to(self.device, self.dtype)
            with torch.no_grad():
                state = self.network.advance(self.network.start(batch), batch, None, self.before_text)
            result += [self._crystal(*parts) for parts in _split(batch, state)]
        return result

    def mean_crystal(self, graphs: Sequence[CrystalGraph]) -> Crystal:
        """A crystal that says nothing: every atom, bond and angle is the mean embedded one of all these graphs.

        A graph convolution is a weighted mean over neighbours, which are all alike here: how many there are and how
        they are bonded changes nothing, and one atom with one bond to its own image stands for any such crystal. (A
        fusion with a map for each element takes that of the commonest.)
        """
        sums: list[torch.Tensor | float] = [0.0, 0.0, 0.0]
        counts, elements = [0, 0, 0], Counter[int]()
        for graph in graphs:
            batch = collate([graph], [self._blank]).to(self.device, self.dtype)
            with torch.no_grad():
                start = self.network.start(batch)
            for place, values in enumerate(start[:3]):
                sums[place] = sums[place] + values.sum(dim=0)
                counts[place] += len(values)
            elements.update(graph.atomic_numbers.tolist())
        x, y, z = (torch.as_tensor(total / max(count, 1))[None] for total, count in zip(sums, counts, strict=True))
        commonest = min(elements, key=lambda number: (-elements[number], number))
        batch = one_atom(self._blank, graphs[0].atom_features.shape[1], commonest).to(self.device, self.dtype)
        with torch.no_grad():
            state = self.network.advance(GraphState(x, y, z, x, 0), batch, None, self.before_text)
        return self._crystal(batch, state)

    def _crystal(self, batch: CrystalBatch, state: GraphState) -> Crystal:
        nothing = batch.angle_source[:0]
        if not self._angles:
            empty = {"angle_source": nothing, "angle_target": nothing, "angle_cosines": batch.angle_cosines[:0]}
            batch, state = replace(batch, **empty), state._replace(z=state.z[:0])
        if not self._bonds:
            bonds = {"bond_source": nothing, "bond_target": nothing, "bond_vectors": batch.bond_vectors[:0]}
            batch, state = replace(batch, **bonds), state._replace(y=state.y[:0])
        return Crystal(batch, state)

    def predict(self, pairs: Sequence[tuple[Crystal, TextEncoding]]) -> npt.NDArray[np.float64]:
        """Predictions [P] of pairs, in their order."""
        result = np.empty(len(pairs))
        # Texts of one length together, so that little is padding.
        order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][1].embeddings))
        for rows in self._passes(pairs, order):
            batch, state = _join([pairs[i][0] for i in rows])
            batch = with_texts(batch, [pairs[i][1] for i in rows])
            with torch.no_grad():
                result[rows] = self.network(batch, state=state).reshape(-1).double().cpu().numpy()
        self.pairs += len(pairs)
        return result

    @staticmethod
    def _passes(pairs: Sequence[tuple[Crystal, TextEncoding]], order: Sequence[int]) -> Iterator[list[int]]:
        rows: list[int] = []
        atoms = 0
        for i in order:
            crystal, text = pairs[i]
            tokens = (len(rows) + 1) * len(text.embeddings)
            if rows and (atoms + crystal.atoms > MOST_ATOMS or tokens > MOST_TOKENS):
                yield rows
                rows, atoms = [], 0
            rows.append(i)
            atoms += crystal.atoms
        if rows:
            yield rows


def one_atom(text: TextEncoding, features: int, atomic_number: int) -> CrystalBatch:
    """One atom bonded to its own image, one angle between that bond and itself; features are zeros to be replaced."""
    zero = torch.zeros(1, dtype=torch.int64)
    return CrystalBatch(
        atom_features=torch.zeros(1, features),
        bond_source=zero,
        bond_target=zero,
        bond_vectors=torch.zeros(1, 3),
        angle_source=zero,
        angle_target=zero,
        angle_cosines=torch.zeros(1),
        atoms_per_structure=torch.ones(1, dtype=torch.int64),
        token_embeddings=text.embeddings[None],
        token_mask=torch.ones(1, len(text.embeddings), dtype=torch.bool),
        atomic_numbers=torch.tensor([atomic_number]),
    )


def _chunks(sizes: Sequence[int], limit: int) -> Iterator[list[int]]:
    chunk: list[int] = []
    total = 0
    for index, size in enumerate(sizes):
        if chunk and total + size > limit:
            yield chunk
            chunk, total = [], 0
        chunk.append(index)
        total += size
    if chunk:
        yield chunk


def _split(batch: CrystalBatch, state: GraphState) -> Iterator[tuple[CrystalBatch, GraphState]]:
    """Each structure of a batch alone. Atoms, bonds and angles of a structure are consecutive."""
    owner = batch.atom_owner
    bond_owner = owner[batch.bond_source]
    bonds = torch.bincount(bond_owner, minlength=len(batch)).tolist()
    angles = torch.bincount(bond_owner[batch.angle_source], minlength=len(batch)).tolist()
    first_atom = first_bond = first_angle = 0
    for row, atoms in enumerate(batch.atoms_per_structure.tolist()):
        a = slice(first_atom, first_atom + atoms)
        b = slice(first_bond, first_bond + bonds[row])
        c = slice(first_angle, first_angle + angles[row])
        one = CrystalBatch(
            atom_features=batch.atom_features[a],
            bond_source=batch.bond_source[b] - first_atom,
            bond_target=batch.bond_target[b] - first_atom,
            bond_vectors=batch.bond_vectors[b],
            angle_source=batch.angle_source[c] - first_bond,
            angle_target=batch.angle_target[c] - first_bond,
            angle_cosines=batch.angle_cosines[c],
            atoms_per_structure=batch.atoms_per_structure[row : row + 1],
            token_embeddings=batch.token_embeddings[row : row + 1],
            token_mask=batch.token_mask[row : row + 1],
            atomic_numbers=None if batch.atomic_numbers is None else batch.atomic_numbers[a],
        )
        yield one, GraphState(state.x[a], state.y[b], state.z[c], state.first[a], state.done)
        first_atom, first_bond, first_angle = a.stop, b.stop, c.stop


def _join(crystals: Sequence[Crystal]) -> tuple[CrystalBatch, GraphState]:
    """Crystals, also repeated ones, as one batch with its state."""
    batches, states = [c.batch for c in crystals], [c.state for c in crystals]
    numbers = [b.atomic_numbers for b in batches]
    starts, at = [], [0, 0]
    for batch in batches:
        starts.append(tuple(at))
        at[0] += len(batch.atom_features)
        at[1] += len(batch.bond_source)
    first = list(zip(batches, starts, strict=True))
    joined = CrystalBatch(
        atom_features=torch.cat([b.atom_features for b in batches]),
        bond_source=torch.cat([b.bond_source + start[0] for b, start in first]),
        bond_target=torch.cat([b.bond_target + start[0] for b, start in first]),
        bond_vectors=torch.cat([b.bond_vectors for b in batches]),
        angle_source=torch.cat([b.angle_source + start[1] for b, start in first]),
        angle_target=torch.cat([b.angle_target + start[1] for b, start in first]),
        angle_cosines=torch.cat([b.angle_cosines for b in batches]),
        atoms_per_structure=torch.cat([b.atoms_per_structure for b in batches]),
        token_embeddings=torch.cat([b.token_embeddings for b in batches]),
        token_mask=torch.cat([b.token_mask for b in batches]),
        atomic_numbers=torch.cat([n for n in numbers if n is not None]) if None not in numbers else None,
    )
    x, y, z, start = (torch.cat(parts) for parts in zip(*(state[:4] for state in states), strict=True))
    return joined, GraphState(x, y, z, start, states[0].done)
