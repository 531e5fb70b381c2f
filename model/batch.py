"""A batch of crystals with their texts, in plain tensors; DGL graphs in and out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from model.errors import StructureError

if TYPE_CHECKING:
    from model.crystal import CrystalGraph
    from model.encoder import TextEncoding


@dataclass(frozen=True)
class CrystalBatch:
    """B crystals (N atoms, E bonds, A angles in all) and their texts (L tokens at most, D channels).

    Bonds and angles are numbered over the whole batch; the atoms of a structure are consecutive.

    Attributes:
        atom_features: [N, 92] float.
        bond_source, bond_target: [E] int64, atoms.
        bond_vectors: [E, 3] float, angstrom, from source to target.
        angle_source, angle_target: [A] int64, bonds: the target atom of the first is the source of the second.
        angle_cosines: [A] float in [-1, 1].
        atoms_per_structure: [B] int64, at least 1 each.
        token_embeddings: [B, L, D] float.
        token_mask: [B, L] bool, True where a token is real; at least one a structure.
        atomic_numbers: [N] int64, needed by the element-specific variants only.

    Raises:
        StructureError: a field has a wrong shape, dtype or index, with the field's name.
    """

    atom_features: Tensor
    bond_source: Tensor
    bond_target: Tensor
    bond_vectors: Tensor
    angle_source: Tensor
    angle_target: Tensor
    angle_cosines: Tensor
    atoms_per_structure: Tensor
    token_embeddings: Tensor
    token_mask: Tensor
    atomic_numbers: Tensor | None = None

    def __post_init__(self) -> None:
        self._check_shapes()
        self._check_indices()

    def _check_shapes(self) -> None:
        atoms, bonds, angles = len(self.atom_features), len(self.bond_source), len(self.angle_source)
        structures = len(self.atoms_per_structure)
        expected: dict[str, tuple[int | None, ...]] = {
            "atom_features": (atoms, None),
            "bond_source": (bonds,),
            "bond_target": (bonds,),
            "bond_vectors": (bonds, 3),
            "angle_source": (angles,),
            "angle_target": (angles,),
            "angle_cosines": (angles,),
            "atoms_per_structure": (structures,),
            "token_embeddings": (structures, None, None),
            "token_mask": (
                structures,
                self.token_embeddings.shape[1] if self.token_embeddings.ndim == 3 else None,
            ),
        }
        if self.atomic_numbers is not None:
            expected["atomic_numbers"] = (atoms,)
        for name, shape in expected.items():
            got = tuple(getattr(self, name).shape)
            if len(got) != len(shape) or any(w is not None and w != g for w, g in zip(shape, got, strict=True)):
                want = "[" + ", ".join("any" if w is None else str(w) for w in shape) + "]"
                raise StructureError(f"expected {name} of shape {want}, got {list(got)}")
        for name in ("bond_source", "bond_target", "angle_source", "angle_target", "atoms_per_structure"):
            if getattr(self, name).dtype != torch.int64:
                raise StructureError(f"expected {name} of dtype int64, got {getattr(self, name).dtype}")
        if self.token_mask.dtype != torch.bool:
            raise StructureError(f"expected token_mask of dtype bool, got {self.token_mask.dtype}")

    def _check_indices(self) -> None:
        if not len(self.atoms_per_structure) or int(self.atoms_per_structure.min()) < 1:
            raise StructureError("expected at least one structure and at least one atom in each")
        total = int(self.atoms_per_structure.sum())
        if total != len(self.atom_features):
            raise StructureError(
                f"atoms_per_structure sums to {total}, but atom_features has {len(self.atom_features)} rows"
            )
        for name, limit in (
            ("bond_source", total),
            ("bond_target", total),
            ("angle_source", len(self.bond_source)),
            ("angle_target", len(self.bond_source)),
        ):
            values = getattr(self, name)
            if len(values) and (int(values.min()) < 0 or int(values.max()) >= limit):
                raise StructureError(f"expected {name} within 0..{limit - 1}, got {int(values.min())}..{values.max()}")
        if not bool(self.token_mask.any(dim=1).all()):
            raise StructureError("expected at least one unmasked token in every structure")

    def __len__(self) -> int:
        return len(self.atoms_per_structure)

    @cached_property
    def atom_owner(self) -> Tensor:
        """[N] int64: the structure each atom belongs to."""
        return torch.repeat_interleave(
            torch.arange(len(self), device=self.atoms_per_structure.device), self.atoms_per_structure
        )

    @cached_property
    def atom_position(self) -> Tensor:
        """[N] int64: number of each atom within its structure, from 0."""
        starts = self.atoms_per_structure.cumsum(0) - self.atoms_per_structure
        return torch.arange(len(self.atom_owner), device=starts.device) - starts[self.atom_owner]

    @cached_property
    def atom_mask(self) -> Tensor:
        """[B, Nmax] bool: True where a padded atom row is a real atom."""
        most = int(self.atoms_per_structure.max())
        return torch.arange(most, device=self.atoms_per_structure.device) < self.atoms_per_structure[:, None]

    def pad_atoms(self, values: Tensor) -> Tensor:
        """[N, C] to [B, Nmax, C] with zeros for atoms that do not exist."""
        padded = values.new_zeros(*self.atom_mask.shape, values.shape[-1])
        padded[self.atom_owner, self.atom_position] = values
        return padded

    def unpad_atoms(self, values: Tensor) -> Tensor:
        """[B, Nmax, C] to [N, C]: the inverse of :meth:`pad_atoms`."""
        return values[self.atom_owner, self.atom_position]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> CrystalBatch:
        """Move every tensor to a device; ``dtype`` converts the floating-point ones."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                moved[field.name] = value.to(device=device, dtype=dtype if value.is_floating_point() else None)
        return CrystalBatch(**moved)

    def with_tokens(self, token_embeddings: Tensor, token_mask: Tensor) -> CrystalBatch:
        """The same crystals with other texts."""
        return replace(self, token_embeddings=token_embeddings, token_mask=token_mask)


def collate(graphs: Sequence[CrystalGraph], encodings: Sequence[TextEncoding]) -> CrystalBatch:
    """Join graphs and the encodings of their texts into one batch, in the order given.

    Raises:
        StructureError: nothing to join, or not one encoding a graph.
    """
    if not graphs or len(graphs) != len(encodings):
        raise StructureError(f"expected one text encoding a graph, got {len(graphs)} graphs, {len(encodings)} texts")
    atoms = torch.tensor([graph.number_of_atoms for graph in graphs])
    bonds = torch.tensor([graph.number_of_bonds for graph in graphs])
    atom_start, bond_start = (atoms.cumsum(0) - atoms).tolist(), (bonds.cumsum(0) - bonds).tolist()
    longest = max(len(encoding.embeddings) for encoding in encodings)
    tokens = torch.zeros(len(graphs), longest, encodings[0].embeddings.shape[1])
    mask = torch.zeros(len(graphs), longest, dtype=torch.bool)
    for row, encoding in enumerate(encodings):
        tokens[row, : len(encoding.embeddings)] = encoding.embeddings
        mask[row, : len(encoding.embeddings)] = True
    return CrystalBatch(
        atom_features=torch.cat([graph.atom_features for graph in graphs]),
        bond_source=torch.cat([g.bond_source + start for g, start in zip(graphs, atom_start, strict=True)]),
        bond_target=torch.cat([g.bond_target + start for g, start in zip(graphs, atom_start, strict=True)]),
        bond_vectors=torch.cat([graph.bond_vectors for graph in graphs]),
        angle_source=torch.cat([g.angle_source + start for g, start in zip(graphs, bond_start, strict=True)]),
        angle_target=torch.cat([g.angle_target + start for g, start in zip(graphs, bond_start, strict=True)]),
        angle_cosines=torch.cat([graph.angle_cosines for graph in graphs]),
        atoms_per_structure=atoms,
        token_embeddings=tokens,
        token_mask=mask,
        atomic_numbers=torch.cat([graph.atomic_numbers for graph in graphs]),
    )


def from_dgl(graph: Any, line_graph: Any, token_embeddings: Tensor, token_mask: Tensor) -> CrystalBatch:
    """Read a (batched) DGL crystal graph and its line graph as users of ALIGNN have them.

    Args:
        graph: ``ndata["atom_features"]`` [N, 92], ``edata["r"]`` [E, 3].
        line_graph: nodes are the bonds of ``graph`` in its order, ``edata["h"]`` [A] bond-angle cosines.
        token_embeddings: [B, L, D]. token_mask: [B, L], bool or 0/1.

    Raises:
        StructureError: a feature is missing or the line graph does not have one node a bond.
    """
    for which, data, name in (
        ("graph", graph.ndata, "atom_features"),
        ("graph", graph.edata, "r"),
        ("line graph", line_graph.edata, "h"),
    ):
        if name not in data:
            raise StructureError(f"expected the DGL {which} to carry {name!r}, it has {sorted(data)}")
    if line_graph.num_nodes() != graph.num_edges():
        raise StructureError(f"expected one line-graph node a bond ({graph.num_edges()}), got {line_graph.num_nodes()}")
    bond_source, bond_target = graph.edges()
    angle_source, angle_target = line_graph.edges()
    numbers = graph.ndata["atomic_number"].reshape(-1).long() if "atomic_number" in graph.ndata else None
    return CrystalBatch(
        atom_features=graph.ndata["atom_features"],
        bond_source=bond_source.long(),
        bond_target=bond_target.long(),
        bond_vectors=graph.edata["r"],
        angle_source=angle_source.long(),
        angle_target=angle_target.long(),
        angle_cosines=line_graph.edata["h"].reshape(-1),
        atoms_per_structure=graph.batch_num_nodes().long(),
        token_embeddings=token_embeddings,
        token_mask=token_mask.bool(),
        atomic_numbers=numbers,
    )


def to_dgl(batch: CrystalBatch) -> tuple[Any, Any]:
    """The batch as the ``(graph, line_graph)`` pair that ALIGNN code expects; needs dgl.

    Raises:
        StructureError: dgl is not installed.
    """
    try:
        import dgl
    except ImportError as error:
        raise StructureError("to_dgl needs the package dgl (pip install 'dgl>=1.1.3,<2', Python < 3.12)") from error
    graph = dgl.graph((batch.bond_source, batch.bond_target), num_nodes=len(batch.atom_features))
    graph.ndata["atom_features"] = batch.atom_features
    if batch.atomic_numbers is not None:
        graph.ndata["atomic_number"] = batch.atomic_numbers[:, None].to(batch.atom_features.dtype)
    graph.edata["r"] = batch.bond_vectors
    line_graph = dgl.graph((batch.angle_source, batch.angle_target), num_nodes=len(batch.bond_source))
    line_graph.ndata["r"] = batch.bond_vectors
    line_graph.edata["h"] = batch.angle_cosines
    bond_owner = batch.atom_owner[batch.bond_source]
    bonds = torch.bincount(bond_owner, minlength=len(batch))
    angles = torch.bincount(bond_owner[batch.angle_source], minlength=len(batch))
    graph.set_batch_num_nodes(batch.atoms_per_structure)
    graph.set_batch_num_edges(bonds)
    line_graph.set_batch_num_nodes(bonds)
    line_graph.set_batch_num_edges(angles)
    return graph, line_graph
