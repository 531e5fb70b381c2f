"""Two checkpoints on the same structures: one answer with its uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interpret.compare.accuracy import attention_against_error, compare_errors, prediction_table
from interpret.compare.comparison import Comparison
from interpret.compare.differences import Inference, compare_figures, describe_movement
from interpret.compare.gates import gates_by_element
from interpret.compare.heads import compare_heads, match_heads, match_table
from interpret.compare.hypothesis import Hypothesis, judge, read_hypothesis
from interpret.compare.observe import PairObservation, observe
from interpret.compare.pairing import Run, check_labels, check_pair
from interpret.compare.rankings import summarise_rankings
from interpret.compare.trained import check_trained_encoders
from interpret.diagnose import DiagnoseOptions
from model.errors import DataError

if TYPE_CHECKING:
    from model.dataset import CrystalDataset
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

SEEDS_NOTE = (
    "intervals and p-values are over structures: they say whether these two checkpoints differ, not whether the two "
    "ways of training do; two seeds of one variant differ too (compare groups of seeds with --group)"
)


def compare(
    a: CrystalTextNetwork | Path | str,
    b: CrystalTextNetwork | Path | str,
    dataset: CrystalDataset,
    encoder: TextEncoder | None = None,
    *,
    labels: Sequence[str] = ("a", "b"),
    **options: Any,
) -> Comparison:
    """Compare two models on the same structures.

    Args:
        a, b: networks, or checkpoints to load.
        dataset: structures with their texts.
        encoder: of both; None takes the one that fits their width, as for ``interpret diagnose``.
        labels: how reports call the two.
        options: of :func:`compare_all`.

    Raises:
        DataError: the two cannot be held against each other, or no structure could be analysed.
    """
    return compare_all([a, b], dataset, encoder, labels=labels, **options)[0]


def compare_all(
    models: Sequence[CrystalTextNetwork | Path | str],
    dataset: CrystalDataset,
    encoder: TextEncoder | None = None,
    *,
    labels: Sequence[str],
    options: DiagnoseOptions | None = None,
    inference: Inference | None = None,
    hypothesis: Hypothesis | None = None,
    untrained: bool = True,
    spare_texts: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> list[Comparison]:
    """Compare the first model with each of the others; each runs once.

    Args:
        models: networks, or checkpoints to load; two or more.
        options: how to run. inference: how to test. hypothesis: what to judge; None takes the one that is shipped.
        untrained: also hold the representations against untrained copies, which costs a forward pass more.
        spare_texts: as for :func:`interpret.diagnose.diagnose`.
        progress: called with 1 for every structure and model.

    Raises:
        DataError: as for :func:`compare`.
    """
    if len(models) < 2:
        raise DataError(f"expected two or more checkpoints to compare, got {len(models)}")
    names = check_labels(labels, len(models))
    networks, text_encoder = load_models(models, names, encoder)
    observed = observe(
        networks,
        names,
        dataset,
        text_encoder,
        options=options,
        spare_texts=spare_texts,
        untrained=untrained,
        progress=progress,
    )
    middle = [bool(network.config.use_middle_fusion) for network in networks]
    first = observed.runs[0]
    return [
        compare_runs(first, run, pair=pair, middle_fusion=(middle[0], has), inference=inference, hypothesis=hypothesis)
        for run, pair, has in zip(observed.runs[1:], observed.pairs, middle[1:], strict=True)
    ]


def load_models(
    models: Sequence[CrystalTextNetwork | Path | str], labels: Sequence[str], encoder: TextEncoder | None
) -> tuple[list[CrystalTextNetwork], TextEncoder]:
    """The networks, and the encoder that serves all of them.

    Raises:
        DataError: no one encoder can serve them.
    """
    from model.checkpoint import load_checkpoint
    from model.encoder import load_encoder

    networks = [load_checkpoint(model) if isinstance(model, Path | str) else model for model in models]
    width = common_width(networks, labels)
    encoder = encoder or load_encoder(None, width=width)
    if encoder.width != width:
        raise DataError(f"expected an encoder of width {width}, as the models have, got {encoder.width}")
    check_trained_encoders([Path(model) for model in models if isinstance(model, Path | str)], encoder)
    return networks, encoder


def common_width(networks: Sequence[CrystalTextNetwork], labels: Sequence[str]) -> int:
    """Width of the token embeddings that all networks read.

    Raises:
        DataError: they read embeddings of different width.
    """
    widths = [network.config.token_features for network in networks]
    if len(set(widths)) > 1:
        listed = ", ".join(f"{label!r} {width}" for label, width in zip(labels, widths, strict=True))
        raise DataError(
            f"expected models for one text encoder, got token embeddings of different width ({listed}): they read "
            "different tokens, so their attention cannot be paired"
        )
    return widths[0]


def compare_runs(
    first: Run,
    second: Run,
    *,
    pair: PairObservation | None = None,
    middle_fusion: tuple[bool, bool] | None = None,
    inference: Inference | None = None,
    hypothesis: Hypothesis | None = None,
) -> Comparison:
    """Compare two runs, also such as were computed apart or read back from a diagnosis.

    Args:
        pair: what needs both at once; None leaves out head matches, rankings, representations and heat maps.
        middle_fusion: which of the two models have it; None reads their configurations.

    Raises:
        DataError: they are not of the same inputs.
    """
    check_pair(first, second)
    inference, hypothesis = inference or Inference(), hypothesis or read_hypothesis()
    statistics, pairs = compare_figures(first, second, inference)
    predictions = prediction_table(first, second)
    labels = (first.label, second.label)
    middle = middle_fusion or (_has_middle_fusion(first), _has_middle_fusion(second))
    matches = {}
    if pair is not None:
        matches = {tap: match_heads(np.stack(maps), inference) for tap, maps in pair.similarities.items()}
    compared = statistics[statistics["structures"] > 0]
    same = not predictions["disagreement"].any() and bool(compared["identical"].all())
    complete = not ((statistics["structures"] == 0) & statistics["gap"].str.contains("has no tap")).any()
    return Comparison(
        labels=labels,
        identical=same and complete,
        movement=describe_movement(statistics, first, second, inference),
        hypothesis=judge(hypothesis, pairs, labels, middle, inference),
        statistics=statistics,
        pairs=pairs,
        heads=compare_heads(first, second, matches, inference),
        matches=match_table(matches),
        predictions=predictions,
        errors=compare_errors(predictions, first, inference),
        attention_error=attention_against_error(pairs, predictions, first, second),
        rankings=summarise_rankings(pd.DataFrame() if pair is None else pair.rankings.table(), inference),
        representations=_representations(pair),
        gates=gates_by_element(first, second),
        heatmaps=pd.DataFrame() if pair is None else pair.heatmaps.table(),
        structures=len(first.structures),
        skipped=tuple({"id": s.id, "stage": s.stage, "reason": s.reason} for s in first.skipped),
        notes=_notes(first, second, pair, same),
        provenance={
            "a": first.provenance,
            "b": second.provenance,
            "inference": asdict(inference),
            "resolution": asdict(first.resolution),
        },
    )


def _has_middle_fusion(run: Run) -> bool:
    return bool(run.provenance.get("checkpoint", {}).get("config", {}).get("use_middle_fusion"))


def _representations(pair: PairObservation | None) -> pd.DataFrame:
    """CKA of the two, with that of the first and an untrained copy of the second in ``cka_untrained``."""
    if pair is None:
        return pd.DataFrame()
    table, control = pair.representations.table(), pair.untrained.table()
    keys = ["level", "stage_a", "stage_b"]
    columns = control.rename(columns={"cka": "cka_untrained", "procrustes": "procrustes_untrained"})
    merged: pd.DataFrame = table.merge(
        columns[[*keys, "cka_untrained", "procrustes_untrained"]], on=keys, how="left", validate="one_to_one"
    )
    return merged


def _notes(first: Run, second: Run, pair: PairObservation | None, same: bool) -> tuple[str, ...]:
    notes = []
    resolution = first.resolution
    limit = f"{resolution.absolute:g} + {resolution.relative:g} times the larger figure"
    if first.weights and first.weights == second.weights:
        notes.append("the two checkpoints hold the same weights")
        if not same:
            notes.append(f"yet their figures differ by more than {limit}: the forward pass does not repeat itself here")
    else:
        notes.append(SEEDS_NOTE)
    notes.append(f"differences up to {limit} are the rounding of the computation and count as zero")
    if pair is None:
        notes.append(
            "read from saved tables: heads are not matched, and rankings, representations and heat maps are not there, "
            "for they need the maps of both models at once"
        )
    for run in (first, second):
        encoder = run.provenance.get("encoder", {})
        if not encoder.get("trained", True):
            notes.append(f"{run.label}: the text encoder is {encoder.get('name')}, an untrained stand-in")
        if run.provenance.get("checkpoint", {}).get("partial"):
            notes.append(f"{run.label} was loaded partially: some of its weights are random")
    return tuple(dict.fromkeys(notes))
