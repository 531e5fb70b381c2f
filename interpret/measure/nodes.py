"""Rows about node features after every stage: do atoms stay different, and do they resemble the text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpret.metrics import nodes, spectrum, textflow
from interpret.metrics._arrays import squared_distances
from interpret.record import StructureRecord
from interpret.symmetry import compare_partitions
from interpret.text_references import TextReferences


def stages(record: StructureRecord) -> list[str]:
    """Taps with one feature row an atom in node space, in forward order."""
    return [
        str(name)
        for name, values in record.data.items()
        if values.dims == ("atom", "channel") and str(name).endswith(".nodes")
    ]


def partition_columns(record: StructureRecord) -> dict[str, int]:
    """Where the input graph and the crystal's symmetry disagree about which atoms are alike.

    ``orbits_split``: orbits whose atoms the graph tells apart; ``orbits_cut``: those of them whose atoms do not even
    have the same number of bonds, so that a tie at the last neighbour was cut; ``classes_merged``: classes of the
    graph with atoms of several orbits.
    """
    compared = compare_partitions(record.orbits, record.classes)
    bonds = np.bincount(record.graph.bond_target.numpy(), minlength=record.graph.number_of_atoms)
    cut = sum(len(np.unique(bonds[record.orbits.labels == orbit])) > 1 for orbit in compared.split_orbits)
    return {
        "orbits_split": len(compared.split_orbits),
        "orbits_cut": cut,
        "classes_merged": len(compared.merged_classes),
    }


def stage_rows(record: StructureRecord, references: TextReferences) -> list[dict[str, Any]]:
    """One row a stage: how different atoms of different classes still are, and the cosine with the text.

    The cosine of every stage stands beside the same cosine with the texts of other structures.
    """
    neighbours = Neighbours.of(record)
    pairs = pairs_of_atoms(record)
    texts = {layer: (references.own(record, layer), references.others(record, layer)) for layer in references.layers}
    rows = []
    for index, stage in enumerate(stages(record)):
        values = torch.from_numpy(record.values(stage))
        row: dict[str, Any] = {"stage_index": index, "stage": stage}
        row |= diversity_columns(values, record.classes.labels)
        row |= neighbours.energies(values)
        row |= pair_distances(values, pairs)
        if texts:
            mean_unit = textflow.mean_unit_nodes(values)
            for layer, (own, others) in texts.items():
                row |= text_columns(mean_unit, layer, own, others)
        rows.append(row)
    return rows


@dataclass(frozen=True)
class Neighbours:
    """Every two bonded atoms of a structure once.

    Attributes:
        first, second: [P] int64, atoms.
        differ: [P] bool, whether they are of different classes.
        atoms: N.
    """

    first: Tensor
    second: Tensor
    differ: Tensor
    atoms: int

    @classmethod
    def of(cls, record: StructureRecord) -> Neighbours:
        """Bonds of a record, without repeats, directions and bonds of an atom to its own image."""
        source, target, atoms = record.graph.bond_source, record.graph.bond_target, record.graph.number_of_atoms
        low, high = torch.minimum(source, target), torch.maximum(source, target)
        codes = torch.unique((low * atoms + high)[low != high])
        first, second = codes // atoms, codes % atoms
        labels = torch.from_numpy(record.classes.labels)
        return cls(first, second, labels[first] != labels[second], atoms)

    def energies(self, values: Tensor) -> dict[str, float]:
        """Dirichlet energies of [N, d] features, as :func:`interpret.metrics.nodes.dirichlet_energy` defines them.

        The one between classes is over the mean square norm, so that stages of different scale can be compared.
        NaN without neighbours.
        """
        squares = (values[self.first] - values[self.second]).square().sum(dim=1)
        between = squares[self.differ]

        def energy(terms: Tensor) -> float:
            return 2 * float(terms.sum()) / self.atoms if len(terms) else np.nan

        scale = float(values.square().sum(dim=1).mean())
        return {
            "dirichlet_energy": energy(squares),
            "between_class_dirichlet_energy": energy(between) / scale if scale > 0 else np.nan,
        }


def diversity_columns(values: Tensor, classes: np.ndarray) -> dict[str, float]:
    """Diversity of [N, d] features over all atoms, and what of it lies between classes [N]."""
    distance = nodes.mean_average_distance(values)
    return {
        "norm": float(values.norm(dim=1).mean()),
        "variance": float(spectrum.feature_variance(values).value),
        "pairwise_correlation": float(nodes.pairwise_correlation(values).value),
        "mean_average_distance": float(distance.plain),
        "mean_average_distance_published": float(distance.published),
        "effective_rank": float(spectrum.effective_rank(values).value),
        "between_class_identical_share": float(nodes.identical_share(values, classes=classes).value),
        "between_class_variance_share": float(spectrum.between_class_variance_share(values, classes).value),
    }


def pairs_of_atoms(record: StructureRecord) -> dict[str, Tensor]:
    """Kinds of pairs of atoms, [2, P] int64 each, by the name of the column with their mean cosine distance.

    ``same_element`` and ``different_element`` pairs are of different classes; ``within_class`` pairs are alike by
    construction; ``split_orbit`` pairs are alike in the crystal and not in the graph.
    """
    first, second = torch.triu_indices(record.graph.number_of_atoms, record.graph.number_of_atoms, offset=1)

    def same(labels: np.ndarray) -> Tensor:
        own = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        return own[first] == own[second]

    element = same(record.graph.atomic_numbers.numpy())
    alike, orbit = same(record.classes.labels), same(record.orbits.labels)
    kinds = {
        "between_class": ~alike,
        "same_element": ~alike & element,
        "different_element": ~alike & ~element,
        "within_class": alike,
        "split_orbit": ~alike & orbit,
    }
    return {f"{name}_distance": torch.stack([first[keep], second[keep]]) for name, keep in kinds.items()}


def pair_distances(values: Tensor, pairs: dict[str, Tensor]) -> dict[str, float]:
    """Mean cosine distance ``1 - cos(x_i, x_k)`` of [N, d] features over each kind of pairs.

    NaN for a kind without pairs. Pairs with an atom whose features are all zero have no direction and are left out.
    """
    norm = values.norm(dim=1, keepdim=True)
    distances = squared_distances(values / norm) / 2
    none = (norm == 0).flatten()
    return {
        name: float(distances[first, second][~(none[first] | none[second])].mean())
        for name, (first, second) in pairs.items()
    }


def text_columns(mean_unit: Tensor, layer: int, own: Tensor, others: Tensor) -> dict[str, float]:
    """Mean cosine of the atoms with their own text in node space, beside that with other structures' texts.

    Args:
        mean_unit: [d], mean over atoms of the features at unit length.
        own: [d], the structure's text. others: [P, d], those of other structures.
    """
    cosine = float(mean_unit @ own / own.norm()) if float(own.norm()) > 0 else np.nan
    control = (others @ mean_unit) / others.norm(dim=1)
    prefix = f"fusion.{layer}.text_cosine"
    return {
        prefix: cosine,
        f"{prefix}_control": float(control.mean()) if len(control) else np.nan,
        f"{prefix}_control_sd": float(control.std()) if len(control) > 1 else np.nan,
        f"{prefix}_null_sd": len(mean_unit) ** -0.5,
    }
