"""A diagnosis with the modality analysis and what the rules say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from interpret.checks.base import Rule
from interpret.further_rules import with_further_rules
from interpret.modality.analysis import ModalityAnalysis, analyze_modality
from interpret.modality.options import ModalityOptions
from model.dataset import CrystalDataset
from model.demo import DEMO_DATA

if TYPE_CHECKING:
    from interpret.diagnose import DiagnoseOptions
    from interpret.results import Diagnosis
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

FAMILY = "MO"


def diagnose_modality(
    result: Diagnosis,
    network: CrystalTextNetwork,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    *,
    options: DiagnoseOptions,
    rules: Sequence[type[Rule]],
    work: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Diagnosis, ModalityAnalysis]:
    """Analyse the modalities of a data set that has been diagnosed, and judge.

    References that a small data set lacks are shipped crystals.

    Args:
        result: of the diagnosis, with the same network, data, encoder and options.
        rules: those that were asked; the modality rules among them are asked again.
        work: folder for the rows of a run that can be resumed; None keeps them in a temporary folder.
        progress: called with the number of structures done since the last call.
    """
    chosen = ModalityOptions(device=options.device, dtype=options.dtype, seed=options.seed)
    spare = CrystalDataset.from_directory(DEMO_DATA)
    analysis = analyze_modality(network, dataset, encoder, options=chosen, spare=spare, work=work, progress=progress)
    return with_modality(result, network, analysis, rules), analysis


def with_modality(
    result: Diagnosis, network: CrystalTextNetwork, analysis: ModalityAnalysis, rules: Iterable[type[Rule]]
) -> Diagnosis:
    """The diagnosis with what the modality rules among ``rules`` say of the analysis; its verdict counts them."""
    return with_further_rules(result, network, analysis.tables, rules, FAMILY)
