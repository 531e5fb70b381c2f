"""The share of each modality over a data set: shares, parts of the text, edits and leakage, streamed to tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from interpret.modality.edit_effects import edit_rows
from interpret.modality.items import Item, draw_graphs, draw_items, drawn, nothing_cached, read_items
from interpret.modality.leakage import leakage_rows, property_word_rows
from interpret.modality.part_shares import part_rows
from interpret.modality.passes import MOST_ATOMS, FusedPasses
from interpret.modality.share import BASELINES, UNTRAINED, Baselines, mismatched_rows, reference_rows, share_rows
from interpret.modality.summary import summarize
from interpret.tables import read_table, write_json, write_table
from model.dataset import Skipped
from model.errors import DataError

if TYPE_CHECKING:
    from model.dataset import CrystalDataset, Sample
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

CHUNK = 32
# Of the tables that may have no row: their files still say what a row would be.
COLUMNS = {
    "modality_pairs": ["crystal_id", "text_id", "prediction", "graph_shapley", "text_shapley", "interaction", "whole"],
    "text_parts": ["id", "part", "characters", "joint", "with_graph", "without_graph", "left_out", "alone"],
    "text_edits": [
        "id", "edit", "control", "words_changed", "before", "after", "reaches_encoder", "prediction",
        "edited_prediction", "change",
    ],
    "leakage_words": ["word", "structures", "mean_with", "mean_without", "separation", "p_value"],
}  # fmt: skip
DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class ModalityOptions:
    """How to run.

    Attributes:
        references: structures that stand in for a crystal or text taken away.
        untrained_references: the same for the control, a network of this architecture as it was before training.
        averaged: structures that the mean crystal is the mean of.
        detailed: structures whose text is taken apart and edited; each costs some fifty passes of the encoder.
        chunk: structures read at a time; changes no figure.
        device: torch device of the network. dtype: ``float64`` or ``float32``.
        seed: of every draw; draws are by hash of id and text, so that order does not matter.
    """

    references: int = 8
    untrained_references: int = 2
    averaged: int = 64
    detailed: int = 32
    chunk: int = CHUNK
    device: str = "cpu"
    dtype: str = "float64"
    seed: int = 0


@dataclass(frozen=True)
class ModalityAnalysis:
    """What graph and text contribute to the predictions of a checkpoint.

    Attributes:
        modality: a row a structure and baseline (``references``, ``empty``, and ``untrained``, the control).
        modality_pairs: a row a pair of a crystal and a text that do not belong together.
        text_parts: a row a structure and kind of part, and one for its graph.
        text_edits: a row a structure and edit.
        leakage: a row a structure. leakage_words: a row a property word.
        facts: baselines, figures with intervals, counts and cost.
        skipped: structures that could not be read.
    """

    modality: pd.DataFrame
    modality_pairs: pd.DataFrame
    text_parts: pd.DataFrame
    text_edits: pd.DataFrame
    leakage: pd.DataFrame
    leakage_words: pd.DataFrame
    facts: Mapping[str, Any]
    skipped: tuple[Skipped, ...] = field(default=())

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name, as rules read them."""
        return {name: getattr(self, name) for name in TABLE_NAMES}

    def save(self, folder: Path) -> None:
        """Write each table as CSV and parquet, and modality.json."""
        for name, table in self.tables.items():
            write_table(table, folder, name)
        write_json(folder / "modality.json", dict(self.facts))

    @classmethod
    def load(cls, folder: Path) -> ModalityAnalysis:
        """Read the tables that :meth:`save` wrote; the facts are computed from them again.

        Raises:
            RecordError: a table is not there.
        """
        tables: dict[str, Any] = {name: read_table(folder, name) for name in TABLE_NAMES}
        return cls(**tables, facts=summarize(tables))


TABLE_NAMES = tuple(f.name for f in fields(ModalityAnalysis) if f.name not in ("facts", "skipped"))


def analyze_modality(
    network: CrystalTextNetwork,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    *,
    options: ModalityOptions | None = None,
    spare: Iterable[Sample] = (),
    progress: Callable[[int], None] | None = None,
) -> ModalityAnalysis:
    """Shares of graph and text over a data set.

    Args:
        network: as loaded; it is not changed.
        dataset: structures with their texts; targets where there are any.
        encoder: the text encoder the network was trained with.
        options: how to run.
        spare: other structures with texts, for references where the data set has too few.
        progress: called with the number of structures done since the last call.

    Raises:
        DataError: no structure could be read.
    """
    options = options or ModalityOptions()
    start = time.perf_counter()
    skipped: list[Skipped] = []
    counted = _CountingEncoder(encoder)
    with nothing_cached(encoder):
        run = _Run.of(network, dataset.samples, list(spare), counted, options)
        for chunk in _chunks(read_items(dataset.samples, counted, skipped), options.chunk):
            run.add(chunk)
            if progress is not None:
                progress(len(chunk))
    if not run.rows["modality"]:
        raise DataError(f"no structure could be analysed ({len(skipped)} skipped)")
    tables = run.tables()
    facts = summarize(tables) | {
        "references": list(run.baselines.ids),
        "options": asdict(options),
        "cost": {
            "seconds": time.perf_counter() - start,
            "structures": run.structures,
            "detailed": run.detailed,
            "passes": run.passes.pairs + run.untrained.pairs,
            "texts_encoded": counted.texts,
        },
    }
    return ModalityAnalysis(**tables, facts=facts, skipped=tuple(skipped))


class _CountingEncoder:
    """An encoder that counts the texts it is given, for the cost."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self.name, self.fingerprint = encoder.name, encoder.fingerprint
        self.width, self.max_pieces = encoder.width, encoder.max_pieces
        self.texts = 0

    def encode(self, texts: Sequence[str]) -> Any:
        self.texts += len(set(texts))
        return self._encoder.encode(texts)


@dataclass
class _Run:
    """Rows on their way to tables."""

    passes: FusedPasses
    baselines: Baselines
    untrained: FusedPasses
    untrained_baselines: Baselines
    encoder: TextEncoder
    chosen: frozenset[tuple[str, str]]
    rows: dict[str, list[dict[str, Any]]]
    structures: int = 0
    detailed: int = 0

    @classmethod
    def of(
        cls,
        network: CrystalTextNetwork,
        samples: Sequence[Sample],
        spare: Sequence[Sample],
        encoder: TextEncoder,
        options: ModalityOptions,
    ) -> _Run:
        """Draw and run the references, for the network and for one like it that was never trained."""
        averaged = draw_graphs(samples, max(1, options.averaged), options.seed)
        if not averaged:
            raise DataError(f"no structure could be analysed: none of {len(samples)} can be read")
        references = draw_items(samples, spare, encoder, options.references + 1, options.seed)
        blank = encoder.encode([""])[0]
        passes = FusedPasses(network, blank, device=options.device, dtype=DTYPES[options.dtype])
        twin = FusedPasses(untrained(network), blank, device=options.device, dtype=DTYPES[options.dtype])
        few = references[: options.untrained_references + 1]
        detailed = drawn(samples, options.seed)[: options.detailed]
        baselines = Baselines.of(passes, references, averaged, blank, options.references)
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLE_NAMES}
        rows["modality_pairs"] = mismatched_rows(baselines)
        return cls(
            passes=passes,
            baselines=baselines,
            untrained=twin,
            untrained_baselines=Baselines.of(twin, few, averaged, blank, options.untrained_references),
            encoder=encoder,
            chosen=frozenset((sample.id, sample.text) for sample in detailed),
            rows=rows,
        )

    def add(self, items: Sequence[Item]) -> None:
        """Rows of some structures."""
        for group in _within(items, MOST_ATOMS):
            graphs = [item.graph for item in group]
            crystals = self.passes.crystals(graphs)
            self.rows["modality"] += share_rows(self.passes, group, crystals, self.baselines)
            twins = self.untrained.crystals(graphs)
            self.rows["modality"] += reference_rows(self.untrained, group, twins, self.untrained_baselines, UNTRAINED)
            for item, crystal in zip(group, crystals, strict=True):
                self.rows["leakage"].append(
                    {"id": item.sample.id, "text": item.sample.text, "target": item.sample.target}
                )
                if (item.sample.id, item.sample.text) in self.chosen:
                    self.rows["text_parts"] += part_rows(self.passes, item, crystal, self.baselines, self.encoder)
                    self.rows["text_edits"] += edit_rows(self.passes, item, crystal, self.encoder)
                    self.detailed += 1
        self.structures += len(items)

    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables, sorted so that they do not depend on how structures were grouped."""
        texts = pd.DataFrame(self.rows["leakage"])
        targets = texts["target"].to_numpy(dtype="float64")
        names, written = texts["id"].tolist(), texts["text"].tolist()
        rows = self.rows | {
            "leakage": leakage_rows(names, written, targets),
            "leakage_words": property_word_rows(written, targets),
        }
        tables = {name: pd.DataFrame(rows[name], columns=None if rows[name] else COLUMNS[name]) for name in TABLE_NAMES}
        # Structures in the order of the data set, one baseline after the other.
        place = tables["modality"]["baseline"].map({name: number for number, name in enumerate(BASELINES)})
        order = place.sort_values(kind="stable").index
        tables["modality"] = tables["modality"].loc[order].reset_index(drop=True)
        return tables


def untrained(network: CrystalTextNetwork) -> CrystalTextNetwork:
    """A network of the same architecture with the weights that training starts from, drawn with a fixed seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        twin = type(network)(network.config).eval()
    if network.config.element_embedding == "fixed":
        # Read from a file and never trained: without it all elements would be one.
        twin.element_table.copy_(network.element_table)
    return twin


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    chunk: list[Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _within(items: Sequence[Item], most_atoms: int) -> Iterator[list[Item]]:
    """Groups of few enough atoms that their states fit into memory together."""
    group: list[Item] = []
    atoms = 0
    for item in items:
        count = item.graph.number_of_atoms
        if group and atoms + count > most_atoms:
            yield group
            group, atoms = [], 0
        group.append(item)
        atoms += count
    if group:
        yield group
