"""How other crystals read a structure's text: attention that does not depend on the crystal says nothing about it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interpret.hooks import HookRegistry
from interpret.text_changes import with_texts
from model.batch import collate
from model.crystal import CrystalGraph, build_graph
from model.errors import InterpretError
from model.structure import read_structure

if TYPE_CHECKING:
    from interpret.record import StructureRecord
    from model.dataset import Sample
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

CRYSTALS = 8
MOST_ATOMS = 64
# Of the draw; more than are needed, since large crystals and the structure itself are passed over.
_CANDIDATES = 4 * CRYSTALS


class OtherCrystals:
    """A fixed set of crystals that read any text; drawn by hash, so it does not depend on the order of the data.

    Args:
        network: a float64 copy of it is used.
        encoder: of the network.
        samples: of the data set. spare: to fill up with where it has too few.
        seed: of the draw.
    """

    def __init__(
        self,
        network: CrystalTextNetwork,
        encoder: TextEncoder,
        samples: Sequence[Sample],
        spare: Sequence[Sample] = (),
        seed: int = 0,
    ) -> None:
        self._network = copy.deepcopy(network).double().cpu().eval()
        self._chosen = list(_small_crystals([*_drawn(samples, seed), *_drawn(spare, seed)]))
        self._encoder = encoder
        self._state = None
        if self._chosen:
            empty = encoder.encode([""])[0]
            self._batch = collate([graph for _, graph in self._chosen], [empty] * len(self._chosen))
            self._batch = self._batch.to(dtype=torch.float64)
            steps = [kind for kind, _ in self._network.steps]
            before = steps.index("fusion") if "fusion" in steps else len(steps)
            with torch.no_grad():
                self._state = self._network.advance(self._network.start(self._batch), self._batch, None, until=before)

    @property
    def names(self) -> list[str]:
        """Ids of the crystals."""
        return [name for name, _ in self._chosen]

    def attention(self, record: StructureRecord, taps: Sequence[str]) -> dict[str, tuple[Tensor, int]]:
        """Mean weights [H, T] of other crystals on the text of a record, and how many crystals these are, by tap.

        Atoms count alike within a crystal, crystals count alike; the record's own crystal is left out. Empty where
        there is no other crystal.
        """
        keep = [row for row, (name, _) in enumerate(self._chosen) if name != record.id][:CRYSTALS]
        if not keep or not taps or self._state is None:
            return {}
        batch = with_texts(self._batch, [record.encoding] * len(self._chosen))
        registry = HookRegistry(self._network).capture(*taps)
        with registry as captured, torch.no_grad():
            self._network(batch, state=self._state)
        result = {}
        for tap in taps:
            rows = captured[tap].per_structure()
            result[tap] = (torch.stack([rows[row].mean(dim=1) for row in keep]).mean(dim=0), len(keep))
        return result


def _drawn(samples: Sequence[Sample], seed: int) -> list[Sample]:
    def key(sample: Sample) -> str:
        return hashlib.sha256(f"{seed}:{sample.id}".encode("utf-8", "surrogatepass")).hexdigest()

    return sorted(samples, key=key)[:_CANDIDATES]


def _small_crystals(samples: Sequence[Sample]) -> Iterator[tuple[str, CrystalGraph]]:
    """One crystal more than are compared, for the structure that is among them itself."""
    found: set[str] = set()
    for sample in samples:
        if len(found) == CRYSTALS + 1:
            return
        if sample.id in found:
            continue
        try:
            structure = read_structure(sample.structure)
            if len(structure.elements) > MOST_ATOMS:
                continue
            graph = build_graph(structure)
        except InterpretError:
            # The run itself reports what cannot be read.
            continue
        found.add(sample.id)
        yield sample.id, graph
