"""The share of each modality over a data set: shares, parts of the text, edits and leakage, streamed to tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interpret.cost import Stopwatch
from interpret.modality.items import nothing_cached
from interpret.modality.leakage import leakage_rows, property_word_rows
from interpret.modality.options import ModalityOptions
from interpret.modality.share import BASELINES
from interpret.modality.structure_rows import StructureRows
from interpret.modality.summary import summarize
from interpret.resume import resumable, run_fingerprint
from interpret.tables import ORDER, Shards, read_result, read_table, write_json, write_table
from model.dataset import CrystalDataset, Sample, Skipped
from model.errors import DataError

if TYPE_CHECKING:
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

SCHEMA_VERSION = 1
TABLE_NAMES = ("modality", "modality_pairs", "text_parts", "text_edits", "leakage", "leakage_words")
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


@dataclass(frozen=True)
class ModalityAnalysis:
    """What graph and text contribute to the predictions of a checkpoint.

    Attributes:
        modality: a row a structure and baseline (``references``, ``empty``, and ``untrained``, the control).
        modality_pairs: a row a pair of a crystal and a text that do not belong together.
        text_parts: a row a structure and kind of part, and one for its graph.
        text_edits: a row a structure and edit.
        leakage: a row a structure. leakage_words: a row a property word.
        facts: baselines, figures with intervals, options, and counts of what was computed.
        skipped: structures that could not be read.
        cost: seconds by part of the run that made this; empty where it was read back, as no two runs agree on it.
    """

    modality: pd.DataFrame
    modality_pairs: pd.DataFrame
    text_parts: pd.DataFrame
    text_edits: pd.DataFrame
    leakage: pd.DataFrame
    leakage_words: pd.DataFrame
    facts: Mapping[str, Any]
    skipped: tuple[Skipped, ...] = field(default=())
    cost: Mapping[str, float] = field(default_factory=dict)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name, as rules read them."""
        return {name: getattr(self, name) for name in TABLE_NAMES}

    def save(self, folder: Path) -> None:
        """Write each table as CSV and parquet, and modality.json: the facts and what was skipped."""
        for name, table in self.tables.items():
            write_table(table, folder, name)
        content = {"schema_version": SCHEMA_VERSION, "skipped": [asdict(one) for one in self.skipped]}
        # Last: a folder with modality.json is complete.
        write_json(folder / "modality.json", {**self.facts, **content})

    @classmethod
    def load(cls, folder: Path) -> ModalityAnalysis:
        """Read what :meth:`save` wrote; the figures among the facts are computed from the tables again.

        Raises:
            RecordError: the folder does not hold a complete analysis.
        """
        content = read_result(
            folder / "modality.json", "a modality analysis", SCHEMA_VERSION, "interpret diagnose --modality"
        )
        tables: dict[str, Any] = {name: read_table(folder, name) for name in TABLE_NAMES}
        skipped = tuple(Skipped(**one) for one in content.pop("skipped"))
        del content["schema_version"]
        return cls(**tables, facts=content | summarize(tables), skipped=skipped)


def analyze_modality(
    network: CrystalTextNetwork,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    *,
    options: ModalityOptions | None = None,
    spare: Iterable[Sample] = (),
    work: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> ModalityAnalysis:
    """Shares of graph and text over a data set.

    Args:
        network: as loaded; it is not changed.
        dataset: structures with their texts; targets where there are any.
        encoder: the text encoder the network was trained with.
        options: how to run.
        spare: other structures with texts, for references where the data set has too few.
        work: folder for the rows of a run that can be resumed; None keeps them in a temporary folder.
        progress: called with the number of structures done since the last call.

    Raises:
        DataError: no structure could be read, or, with ``work``, a structure file is gone.
    """
    options = options or ModalityOptions()
    others = tuple(spare)
    clock = Stopwatch()

    def fingerprint() -> str:
        settings = options.of_figures() | {"analysis": "modality", "spare": CrystalDataset(others).fingerprint}
        return run_fingerprint(network, dataset, encoder, settings)

    with nothing_cached(encoder):
        job = StructureRows(network, dataset.samples, others, encoder, options, clock)
        counts = Counter(job.counts)
        with resumable(work, fingerprint) as shards:
            _stream(job, dataset, shards, options.chunk, progress)
            tables = {name: shards.table(name) for name in ("modality", "text_parts", "text_edits")}
            extras, skipped = shards.extras(), tuple(shards.skipped())
    analysed = [dataset[position] for position in sorted(p for extra in extras for p in extra["analysed"])]
    if not analysed:
        raise DataError(f"no structure could be analysed ({len(skipped)} skipped)")
    for extra in extras:
        counts.update(extra["counts"])
    with clock.measure("leakage"):
        tables |= _leakage(analysed)
    with clock.measure("figures"):
        tables = _ordered(tables | {"modality_pairs": pd.DataFrame(job.pairs())})
        figures = summarize(tables)
    detailed = sum(job.is_detailed(sample) for sample in analysed)
    facts = figures | {
        "references": list(job.baselines.ids),
        "options": options.of_figures(),
        "counts": {"structures": len(analysed), "detailed": detailed, **counts},
    }
    return ModalityAnalysis(**tables, facts=facts, skipped=skipped, cost=dict(clock.seconds))


def _stream(
    job: StructureRows,
    dataset: CrystalDataset,
    shards: Shards,
    size: int,
    progress: Callable[[int], None] | None,
) -> None:
    """Rows of every structure that no shard has yet, a shard for every ``size`` of them."""
    done = shards.done()
    if progress is not None:
        progress(len(done))
    todo = [position for position in range(len(dataset)) if position not in done]
    for start in range(0, len(todo), size):
        chunk = todo[start : start + size]
        rows: dict[str, list[dict[str, Any]]] = {}
        skipped, analysed = [], []
        before = Counter(job.counts)
        for position in chunk:
            found = job.of(dataset[position])
            if isinstance(found, Skipped):
                skipped.append((position, found))
                continue
            analysed.append(position)
            for table, own in found.items():
                rows.setdefault(table, []).extend({ORDER: position} | row for row in own)
        counts = Counter(job.counts)
        counts.subtract(before)
        shards.write(chunk, rows, skipped, {"analysed": analysed, "counts": counts})
        if progress is not None:
            progress(len(chunk))


def _leakage(samples: Sequence[Sample]) -> dict[str, pd.DataFrame]:
    """Whether texts carry their targets: of all structures at once, for each is held against the others."""
    names, texts = [sample.id for sample in samples], [sample.text for sample in samples]
    targets = np.array([sample.target for sample in samples], dtype=np.float64)
    return {
        "leakage": pd.DataFrame(leakage_rows(names, texts, targets)),
        "leakage_words": pd.DataFrame(property_word_rows(texts, targets)),
    }


def _ordered(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Tables with a row at least of column names, that of shares with one baseline after the other."""
    found = {name: table if len(table) else pd.DataFrame(columns=COLUMNS[name]) for name, table in tables.items()}
    # Within a baseline structures are in the order of the data set.
    place = found["modality"]["baseline"].map({name: number for number, name in enumerate(BASELINES)})
    found["modality"] = found["modality"].loc[place.sort_values(kind="stable").index].reset_index(drop=True)
    return found
