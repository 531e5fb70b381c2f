"""Several networks over one data set, side by side: the tables of each, and what needs two at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interpret.compare.heads import Similarities, head_similarity
from interpret.compare.heatmaps import HeatmapPairs
from interpret.compare.pairing import RESOLUTIONS, Run
from interpret.compare.rankings import ranking_rows, word_scores
from interpret.compare.representations import ATOM_BATCH, Representations, Stages
from interpret.diagnose import DiagnoseOptions, one_thread, text_scales, watched_taps
from interpret.gradients import fresh_copy
from interpret.measure.attention import taps_to_tokens
from interpret.measure.nodes import stages
from interpret.measure.structure import measure_structure
from interpret.metrics.similarity import check_sample_ids
from interpret.provenance import describe_run
from interpret.record import StructureRecord
from interpret.runner import DTYPES, Runner
from interpret.tables import TABLES
from interpret.text_references import TextReferences
from model.dataset import Sample
from model.errors import DataError

if TYPE_CHECKING:
    from model.dataset import CrystalDataset
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork


@dataclass
class Rows:
    """Rows of a table, packed after every minibatch: a list of dictionaries takes twenty times the memory."""

    _new: list[dict[str, Any]] = field(default_factory=list)
    _packed: list[pd.DataFrame] = field(default_factory=list)

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """More rows."""
        self._new += [dict(row) for row in rows]

    def pack(self) -> None:
        """Turn the rows added since the last time into a table."""
        if self._new:
            self._packed.append(pd.DataFrame(self._new))
            self._new = []

    def table(self) -> pd.DataFrame:
        """All rows in the order they came; columns that some lack are the union."""
        self.pack()
        return pd.concat(self._packed, ignore_index=True) if self._packed else pd.DataFrame()


@dataclass
class PairObservation:
    """What needs the records of two networks at once, of the first network and another.

    Attributes:
        similarities: [H, G] of every structure whose maps have both, by attention tap.
        rankings: rows of :func:`interpret.compare.rankings.ranking_rows`.
        representations: stages of the two against each other.
        untrained: stages of the first against an untrained copy of the other: the control of the CKA.
        heatmaps: maps of some structures in both.
    """

    similarities: dict[str, list[Similarities]] = field(default_factory=dict)
    rankings: Rows = field(default_factory=Rows)
    representations: Representations = field(default_factory=Representations)
    untrained: Representations = field(default_factory=Representations)
    heatmaps: HeatmapPairs = field(default_factory=HeatmapPairs)

    def add(self, first: StructureRecord, second: StructureRecord, options: DiagnoseOptions) -> None:
        """One structure."""
        shared = [tap for tap in taps_to_tokens(first) if tap in taps_to_tokens(second)]
        for tap in shared:
            self.similarities.setdefault(tap, []).append(head_similarity(first.values(tap), second.values(tap)))
            left, right = (
                word_scores(record, tap, stop_words=options.stop_words, punctuation=options.punctuation)
                for record in (first, second)
            )
            rows = ranking_rows(left, right, first.graph.elements)
            self.rankings.add({"id": first.id, "tap": tap, **row} for row in rows)
        if shared:
            self.heatmaps.offer(first, second, shared[-1])


@dataclass(frozen=True)
class Observation:
    """Runs of all networks, and the first of them beside each of the others."""

    runs: tuple[Run, ...]
    pairs: tuple[PairObservation, ...]


def weights_digest(network: CrystalTextNetwork) -> str:
    """SHA-256 over names, types and values of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        array = np.ascontiguousarray(value.detach().cpu().numpy())
        digest.update(f"{name}:{array.dtype}:{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def observe(
    networks: Sequence[CrystalTextNetwork],
    labels: Sequence[str],
    dataset: CrystalDataset,
    encoder: TextEncoder,
    *,
    options: DiagnoseOptions | None = None,
    spare_texts: Sequence[str] = (),
    pairs: bool = True,
    untrained: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Observation:
    """Run every network over the data, sorted by id, in minibatches that do not depend on the batch size.

    Args:
        networks, labels: one label each.
        options: how to run.
        spare_texts: as for :func:`interpret.diagnose.diagnose`.
        pairs: also observe the first beside each of the others.
        untrained: run an untrained copy of each of the others too, as the control of the representations.
        progress: called with 1 for every structure and network.

    Raises:
        DataError: no structure could be analysed, or an id is there twice.
    """
    options = options or DiagnoseOptions()
    samples = sorted(dataset, key=lambda sample: sample.id)
    observers = [
        _Observer(network, label, dataset, encoder, options, spare_texts)
        for network, label in zip(networks, labels, strict=True)
    ]
    found = [PairObservation(representations=_empty(options), untrained=_empty(options)) for _ in networks[1:]]
    fresh = [fresh_copy(network.config) for network in networks[1:]] if pairs and untrained else []
    tell = progress or (lambda count: None)
    for start in range(0, len(samples), ATOM_BATCH):
        chunk = samples[start : start + ATOM_BATCH]
        first, own = _Chunk(), _Chunk()
        for number, observer in enumerate(observers):
            records = first if number == 0 else own
            records.fill(observer, chunk, tell)
            if number == 0 or not pairs:
                continue
            pair = found[number - 1]
            records.compare(first, pair, options)
            if fresh:
                control = _node_stages(fresh[number - 1], encoder, options, chunk)
                if control.ids:
                    pair.untrained.update(first.stages(), control)
    return Observation(tuple(observer.run() for observer in observers), tuple(found) if pairs else ())


def _empty(options: DiagnoseOptions) -> Representations:
    resolution = RESOLUTIONS[options.dtype]
    return Representations(resolution.relative, resolution.absolute)


class _Chunk:
    """Records of one minibatch of structures through one network."""

    def __init__(self) -> None:
        self.records: list[StructureRecord] = []

    def fill(self, observer: _Observer, chunk: Sequence[Sample], tell: Callable[[int], None]) -> None:
        self.records = []
        for record in observer.records(chunk):
            self.records.append(record)
            tell(1)

    def stages(self) -> Stages:
        features = [{name: record.values(name) for name in stages(record)} for record in self.records]
        return Stages.of([record.id for record in self.records], features)

    def compare(self, first: _Chunk, pair: PairObservation, options: DiagnoseOptions) -> None:
        check_sample_ids([record.id for record in first.records], [record.id for record in self.records])
        with one_thread():
            for left, right in zip(first.records, self.records, strict=True):
                pair.add(left, right, options)
        pair.rankings.pack()
        if self.records:
            pair.representations.update(first.stages(), self.stages())


def _runner(network: CrystalTextNetwork, encoder: TextEncoder, options: DiagnoseOptions, taps: Sequence[str]) -> Runner:
    return Runner(
        network,
        encoder,
        taps=taps,
        batch_size=options.batch_size,
        device=options.device,
        dtype=DTYPES[options.dtype],
        symmetry_tolerance=options.symmetry_tolerance,
    )


def _node_stages(
    network: CrystalTextNetwork, encoder: TextEncoder, options: DiagnoseOptions, chunk: Sequence[Sample]
) -> Stages:
    taps = [name for name in watched_taps(network) if name.endswith(".nodes")]
    records = list(_runner(network, encoder, options, taps).run(chunk))
    features = [{name: record.values(name) for name in stages(record)} for record in records]
    return Stages.of([record.id for record in records], features)


class _Observer:
    """One network on its way through the data."""

    def __init__(
        self,
        network: CrystalTextNetwork,
        label: str,
        dataset: CrystalDataset,
        encoder: TextEncoder,
        options: DiagnoseOptions,
        spare_texts: Sequence[str],
    ) -> None:
        self._network = network
        self._encoder = encoder
        self._options = options
        self._label = label
        self._references = TextReferences(
            network, encoder, [sample.text for sample in dataset], list(spare_texts), options.seed
        )
        self._scales = text_scales(network)
        self._taps = watched_taps(network)
        self._rows = {name: Rows() for name in TABLES}
        self._texts: dict[str, str] = {}
        self._skipped = list(dataset.skipped)
        self._provenance = describe_run(network, dataset, encoder, asdict(options))

    def records(self, chunk: Sequence[Sample]) -> Iterator[StructureRecord]:
        """Records of some samples; their rows are kept."""
        runner = _runner(self._network, self._encoder, self._options, self._taps)
        for record in runner.run(chunk):
            with one_thread():
                rows = measure_structure(
                    record,
                    self._references,
                    self._scales,
                    stop_words=self._options.stop_words,
                    punctuation=self._options.punctuation,
                )
            for table, content in rows.items():
                self._rows[table].add(content)
            self._texts[record.id] = _text_digest(record)
            yield record
        for kept in self._rows.values():
            kept.pack()
        self._skipped += runner.skipped

    def run(self) -> Run:
        tables = {name: rows.table() for name, rows in self._rows.items()}
        if not len(tables["structures"]):
            reasons = "; ".join(f"{s.id}: {s.reason}" for s in self._skipped[:3])
            raise DataError(
                f"no structure could be analysed ({len(self._skipped)} skipped): {reasons or 'the data set is empty'}"
            )
        return Run(
            label=self._label,
            provenance=self._provenance,
            texts=self._texts,
            weights=weights_digest(self._network),
            skipped=tuple(self._skipped),
            **tables,
        )


def _text_digest(record: StructureRecord) -> str:
    encoding = record.encoding
    digest = hashlib.sha256(encoding.normalized.text.encode("utf-8", "surrogatepass"))
    digest.update(np.ascontiguousarray(encoding.piece_ids, dtype=np.int64).tobytes())
    return digest.hexdigest()
