"""Diagnose a checkpoint on a data set: stream records, measure, hold against controls, settle a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from interpret.checks.base import Rule
from interpret.checks.evidence import Evidence
from interpret.checks.registry import run_rules, select_rules
from interpret.cost import Stopwatch
from interpret.counterfactual import standard_counterfactuals
from interpret.heatmap import heatmap_rows, preference
from interpret.measure.gates import fusion_layers
from interpret.measure.structure import measure_structure
from interpret.metrics.gates import GateMoments
from interpret.provenance import describe_run
from interpret.record import StructureRecord
from interpret.results import Diagnosis
from interpret.resume import resumable, run_fingerprint
from interpret.runner import DTYPES, Runner
from interpret.summary import facts, statistics, verdict
from interpret.tables import ORDER, TABLES, Shards
from interpret.taps import taps_of
from interpret.text_references import TextReferences
from model.dataset import CrystalDataset, Sample
from model.errors import DataError

if TYPE_CHECKING:
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

SHARD_SIZE = 64


@dataclass(frozen=True)
class DiagnoseOptions:
    """How to run; none of these but ``dtype`` and the word filters changes a figure.

    Attributes:
        batch_size: structures a forward pass.
        device: torch device of the network.
        dtype: ``float64``, so that figures do not depend on how structures are batched, or ``float32``.
        symmetry_tolerance: angstrom, for the orbits of equivalent atoms.
        stop_words, punctuation: keep them in word rankings; what filtering removes is reported either way.
        seed: of every draw.
    """

    batch_size: int = 16
    device: str = "cpu"
    dtype: str = "float64"
    symmetry_tolerance: float = 0.01
    stop_words: bool = False
    punctuation: bool = False
    seed: int = 0


def watched_taps(network: CrystalTextNetwork) -> list[str]:
    """Taps a diagnosis needs: node features, gates, text_transform outputs and attention to tokens.

    Branches that do not reach the prediction and weights that are 1 by construction are left out.
    """
    needed = ("embedding.", "alignn.", "gcn.", "fusion.", "attention.atom_to_token", "attention.nodes")
    gates = ("cross_modal.quality", "cross_modal.fusion", "cross_modal.gate", "cross_modal.effective")
    return [name for name in taps_of(network) if name.startswith(needed) or name in gates]


def text_scales(network: CrystalTextNetwork) -> dict[int, float]:
    """Factor on the transformed text of each middle fusion that has one."""
    scales = {}
    for index in range(network.config.alignn_layers):
        key = f"layer_{index}"
        if key in network.middle_fusion_modules and hasattr(network.middle_fusion_modules[key], "text_scale"):
            scale = network.middle_fusion_modules[key].text_scale
            assert isinstance(scale, torch.Tensor)
            scales[index] = float(scale.detach())
    return scales


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: statistics are many small operations, for which waking threads costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def diagnose(
    network: CrystalTextNetwork,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    *,
    options: DiagnoseOptions | None = None,
    work: Path | None = None,
    rules: Iterable[type[Rule]] | None = None,
    spare_texts: Iterable[str] = (),
    gate_history: pd.DataFrame | None = None,
    progress: Callable[[int], None] | None = None,
) -> Diagnosis:
    """Diagnose a checkpoint.

    Args:
        network: as :func:`model.checkpoint.load_checkpoint` returns it.
        dataset: structures with their texts.
        encoder: the text encoder the network was trained with.
        options: how to run.
        work: folder for the shards of a run that can be resumed; None keeps them in a temporary folder.
        rules: to ask; None asks all.
        spare_texts: other descriptions, for the shuffled-text control of a small data set.
        gate_history: what the monitor wrote during training, see :func:`interpret.gate_history.history_beside`.
        progress: called with the number of structures done since the last call.

    Raises:
        DataError: no structure could be analysed.
    """
    options = options or DiagnoseOptions()
    provenance = describe_run(network, dataset, encoder, asdict(options))
    clock = Stopwatch()
    spare = list(spare_texts)
    # What changes no figure may differ between a run that was killed and the one that goes on.
    lasting = {key: value for key, value in asdict(options).items() if key not in ("batch_size", "device")}
    marked = lasting | {"analysis": "diagnosis", "spare_texts": spare}
    with resumable(work, lambda: run_fingerprint(network, dataset, encoder, marked)) as shards:
        _stream(network, dataset, encoder, options, spare, shards, clock, progress)
        never_fired = _never_fired(shards.extras())
        tables: dict[str, Any] = {name: shards.table(name) for name in TABLES}
        skipped = (*dataset.skipped, *shards.skipped())
        moments = _merge_moments(shards.extras())
        heatmap = _best_heatmap(shards)
    if not len(tables["structures"]):
        reasons = "; ".join(f"{s.id}: {s.reason}" for s in skipped[:3])
        raise DataError(
            f"no structure could be analysed ({len(skipped)} skipped): {reasons or 'the data set is empty'}"
        )
    extra = {} if gate_history is None else {"gate_history": gate_history}
    evidence = Evidence(network=network, moments=moments, never_fired=never_fired, extra=extra, **tables)
    outcomes = run_rules(select_rules() if rules is None else rules, evidence)
    findings = tuple(outcome.finding for outcome in outcomes if outcome.finding is not None)
    word, reason = verdict(outcomes)
    return Diagnosis(
        verdict=word,
        reason=reason,
        findings=findings,
        outcomes=tuple(outcomes),
        statistics=statistics(evidence),
        provenance=provenance,
        facts=facts(evidence, encoder),
        skipped=skipped,
        heatmap=heatmap,
        cost=dict(clock.seconds),
        **tables,
    )


def _stream(
    network: CrystalTextNetwork,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    options: DiagnoseOptions,
    spare_texts: list[str],
    shards: Shards,
    clock: Stopwatch,
    progress: Callable[[int], None] | None,
) -> None:
    """Measure every structure that no shard has yet."""
    done = shards.done()
    if progress is not None:
        progress(len(done))
    texts = [sample.text for sample in dataset]
    with clock.measure("texts encoded"):
        references = TextReferences(network, encoder, texts, spare_texts, options.seed)
    scales = text_scales(network)
    changes = standard_counterfactuals(encoder, references.texts, seed=options.seed)
    todo = [(position, sample) for position, sample in enumerate(dataset) if position not in done]
    size = max(SHARD_SIZE, options.batch_size)
    for start in range(0, len(todo), size):
        chunk = todo[start : start + size]
        runner = Runner(
            network,
            encoder,
            taps=watched_taps(network),
            batch_size=options.batch_size,
            device=options.device,
            dtype=DTYPES[options.dtype],
            symmetry_tolerance=options.symmetry_tolerance,
            counterfactuals=changes,
            clock=clock,
        )
        collected = _Collected(chunk)
        for record in runner.run(sample for _, sample in chunk):
            with clock.measure("statistics"), one_thread():
                rows = measure_structure(
                    record, references, scales, stop_words=options.stop_words, punctuation=options.punctuation
                )
            collected.add(record, rows)
            if progress is not None:
                progress(1)
        if progress is not None:
            progress(len(runner.skipped))
        collected.write(shards, runner)


class _Collected:
    """Rows of one shard on their way to disk."""

    def __init__(self, chunk: list[tuple[int, Sample]]) -> None:
        self.position = {sample.id: position for position, sample in chunk}
        self.rows: dict[str, list[dict[str, Any]]] = {name: [] for name in (*TABLES, "heatmap")}
        self.moments: dict[int, GateMoments] = {}
        self.preferred: int | None = None

    def add(self, record: StructureRecord, rows: dict[str, list[dict[str, Any]]]) -> None:
        order = self.position[record.id]
        for table, content in rows.items():
            self.rows[table] += [{ORDER: order} | row for row in content]
        for layer in fusion_layers(record):
            own = GateMoments.from_gate(record.values(f"fusion.{layer}.gate"))
            self.moments[layer] = self.moments[layer].merge(own) if layer in self.moments else own
        rank = preference(record)
        if rank is not None and (self.preferred is None or rank < self.preferred):
            self.preferred = rank
            self.rows["heatmap"] = [{ORDER: order, "rank": rank} | row for row in heatmap_rows(record)]

    def write(self, shards: Shards, runner: Runner) -> None:
        skipped = [(self.position[s.id], s) for s in runner.skipped]
        moments = {str(layer): _moments_to_json(value) for layer, value in self.moments.items()}
        extra = {"moments": moments, "never_fired": list(runner.never_fired), "ran": bool(self.rows["structures"])}
        shards.write(sorted(self.position.values()), self.rows, skipped, extra)


def _never_fired(extras: list[Any]) -> tuple[str, ...]:
    """Taps that no structure fired; shards without a structure that ran say nothing."""
    silent = [set(extra["never_fired"]) for extra in extras if extra["ran"]]
    return tuple(sorted(set.intersection(*silent))) if silent else ()


def _moments_to_json(moments: GateMoments) -> dict[str, Any]:
    return {
        "atoms": moments.atoms,
        "channel_mean": moments.channel_mean.tolist(),
        "channel_squares": moments.channel_squares.tolist(),
        "alpha_mean": float(moments.alpha_mean),
        "alpha_squares": float(moments.alpha_squares),
        "within_squares": float(moments.within_squares),
    }


def _merge_moments(extras: list[dict[str, Any]]) -> dict[int, GateMoments]:
    merged: dict[int, GateMoments] = {}
    for extra in extras:
        for layer, content in extra["moments"].items():
            tensors = {k: torch.tensor(v, dtype=torch.float64) for k, v in content.items() if k != "atoms"}
            own = GateMoments(atoms=content["atoms"], **tensors)
            index = int(layer)
            merged[index] = merged[index].merge(own) if index in merged else own
    return dict(sorted(merged.items()))


def _best_heatmap(shards: Shards) -> pd.DataFrame:
    table = shards.table("heatmap")
    if not len(table):
        return table
    best = table["rank"].min()
    first = table.loc[table["rank"] == best, "id"].iloc[0]
    chosen: pd.DataFrame = table[table["id"] == first].drop(columns="rank").reset_index(drop=True)
    return chosen
