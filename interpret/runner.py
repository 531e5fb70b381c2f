"""A data set through a network, one record a structure, streamed; what cannot be read is skipped with its reason."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch
import xarray as xr

from interpret.cost import FORWARD, Stopwatch, pass_name
from interpret.counterfactual import Counterfactual, StateKeeper, run_counterfactual
from interpret.hooks import Captured, HookRegistry
from interpret.record import StructureRecord, to_datasets
from interpret.symmetry import graph_classes, orbits
from interpret.taps import Names
from interpret.words import group_words
from model.batch import CrystalBatch, collate
from model.crystal import build_graph
from model.dataset import Sample, Skipped
from model.errors import InterpretError
from model.structure import read_structure

if TYPE_CHECKING:
    from interpret.symmetry import GraphClasses, Orbits
    from interpret.words import Word
    from model.crystal import CrystalGraph
    from model.encoder import TextEncoder, TextEncoding
    from model.network import CrystalTextNetwork

# Arithmetic of a network, by the name options give it.
DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class Prepared:
    """A sample with everything the network and the analysis need of it."""

    sample: Sample
    graph: CrystalGraph
    encoding: TextEncoding
    words: tuple[Word, ...]
    orbits: Orbits
    classes: GraphClasses


@dataclass
class Runner:
    """Streams records of a data set.

    Results depend neither on the batch size nor on the order: texts are encoded one by one, graphs are built one by
    one, and the network runs in float64 unless told otherwise.

    Attributes:
        network: in evaluation mode; moved to ``device`` and ``dtype`` for the run.
        encoder: the text encoder the network was trained with.
        taps: what each record holds.
        batch_size: structures a forward pass.
        most_atoms: a batch is closed before it has more atoms than this, which bounds memory.
        symmetry_tolerance: angstrom, for the orbits.
        counterfactuals: extra passes; their columns are in each record.
        skipped: filled while the run goes on.
        never_fired: taps that were asked for and whose module never ran, known after the run.
        clock: where the time went.
    """

    network: CrystalTextNetwork
    encoder: TextEncoder
    taps: Sequence[Names] = ()
    batch_size: int = 16
    most_atoms: int = 4096
    device: str = "cpu"
    dtype: torch.dtype = torch.float64
    symmetry_tolerance: float = 0.01
    counterfactuals: Sequence[Counterfactual] = ()
    skipped: list[Skipped] = field(default_factory=list)
    never_fired: tuple[str, ...] = ()
    clock: Stopwatch = field(default_factory=Stopwatch)

    def prepare(self, samples: Iterable[Sample]) -> Iterator[Prepared]:
        """Read, build and encode; samples that fail go to :attr:`skipped`."""
        for sample in samples:
            stage: Literal["structure", "text"] = "structure"
            try:
                with self.clock.measure("graphs and symmetry"):
                    structure = read_structure(sample.structure)
                    graph = build_graph(structure)
                    equivalent = orbits(structure, tolerance=self.symmetry_tolerance)
                    classes = graph_classes(graph)
                stage = "text"
                with self.clock.measure("texts encoded"):
                    encoding = self.encoder.encode([sample.text])[0]
                    words = group_words(encoding)
            except InterpretError as error:
                self.skipped.append(Skipped(sample.id, sample.row, stage, str(error)))
                continue
            yield Prepared(sample, graph, encoding, words, equivalent, classes)

    def batches(self, samples: Iterable[Sample]) -> Iterator[list[Prepared]]:
        """Prepared samples in batches, in their order."""
        batch: list[Prepared] = []
        atoms = 0
        for prepared in self.prepare(samples):
            count = prepared.graph.number_of_atoms
            if batch and (len(batch) == self.batch_size or atoms + count > self.most_atoms):
                yield batch
                batch, atoms = [], 0
            batch.append(prepared)
            atoms += count
        if batch:
            yield batch

    def run(self, samples: Iterable[Sample]) -> Iterator[StructureRecord]:
        """Records in the order of the samples, one at a time.

        The network given is left as it is: a copy is converted to ``dtype`` and moved to ``device``.
        """
        network = copy.deepcopy(self.network).to(device=self.device, dtype=self.dtype).eval()
        registry = HookRegistry(network)
        if self.taps:
            registry.capture(*self.taps)
        first = True
        for batch in self.batches(samples):
            tensors = collate([one.graph for one in batch], [one.encoding for one in batch])
            tensors = tensors.to(device=self.device, dtype=self.dtype)
            # The hooks live for one forward pass: a consumer that stops reading leaves none behind.
            watched = self.clock.measure(FORWARD)
            with watched, registry as captured, StateKeeper(network) as keeper, torch.no_grad():
                predictions = network(tensors)
            silent = captured.never_fired
            self.never_fired = silent if first else tuple(name for name in self.never_fired if name in silent)
            first = False
            extra = self._counterfactual_columns(network, tensors, batch, keeper, captured)
            datasets = to_datasets(list(captured.values())) or [xr.Dataset() for _ in batch]
            for one, prediction, data, columns in zip(batch, predictions.tolist(), datasets, extra, strict=True):
                yield _record(one, prediction, data, columns)

    def _counterfactual_columns(
        self,
        network: CrystalTextNetwork,
        tensors: CrystalBatch,
        batch: list[Prepared],
        keeper: StateKeeper,
        captured: Captured,
    ) -> list[dict[str, float]]:
        rows: list[dict[str, float]] = [{} for _ in batch]
        for change in self.counterfactuals:
            with self.clock.measure(pass_name(change.name)):
                columns = run_counterfactual(change, network, tensors, batch, keeper, captured)
            for row, own in zip(rows, columns or rows, strict=True):
                if columns is not None:
                    row.update({f"counterfactual.{change.name}.{name}": value for name, value in own.items()})
        return rows


def _record(one: Prepared, prediction: float, data: xr.Dataset, columns: dict[str, float]) -> StructureRecord:
    labels = {"atom": list(one.graph.atom_labels), "token": list(one.encoding.pieces)}
    coordinates = {dim: values for dim, values in labels.items() if dim in data.dims}
    return StructureRecord(
        id=one.sample.id,
        graph=one.graph,
        encoding=one.encoding,
        words=one.words,
        orbits=one.orbits,
        classes=one.classes,
        target=one.sample.target,
        prediction=prediction,
        data=data.assign_coords(coordinates),
        counterfactuals=columns,
    )
