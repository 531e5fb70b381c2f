"""A diagnosis with an attribution run and what the rules say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from interpret.attribution.dataset import AttributionOptions, attribute_dataset
from interpret.attribution.tables import AttributionTables
from interpret.checks.base import Rule
from interpret.further_rules import with_further_rules

if TYPE_CHECKING:
    from interpret.diagnose import DiagnoseOptions
    from interpret.results import Diagnosis
    from model.dataset import CrystalDataset
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

PREFIX = "AT62"


def diagnose_attribution(
    result: Diagnosis,
    network: CrystalTextNetwork,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    *,
    options: DiagnoseOptions,
    rules: Iterable[type[Rule]],
    attribution: AttributionOptions | None = None,
    work: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Diagnosis, AttributionTables]:
    """Explain structures of a data set that has been diagnosed, and judge the explanations.

    Args:
        result: of the diagnosis, with the same network, data, encoder and options.
        rules: those that were asked; those on attribution among them are asked again.
        attribution: what to explain; device, arithmetic and seed are those of the diagnosis.
        work: folder for the parts of a run that can be resumed.
        progress: called with the number of structures done since the last call.
    """
    chosen = as_diagnosed(attribution or AttributionOptions(), options)
    tables = attribute_dataset(network, dataset, encoder, options=chosen, work=work, progress=progress)
    return with_attribution(result, network, tables, rules), tables


def as_diagnosed(attribution: AttributionOptions, options: DiagnoseOptions) -> AttributionOptions:
    """The same on the device, in the arithmetic and with the seed of a diagnosis."""
    return replace(attribution, device=options.device, dtype=options.dtype, seed=options.seed)


def with_attribution(
    result: Diagnosis, network: CrystalTextNetwork, tables: AttributionTables, rules: Iterable[type[Rule]]
) -> Diagnosis:
    """The diagnosis with what the rules on attribution say of the tables; its verdict counts them."""
    return with_further_rules(result, network, tables.evidence, rules, PREFIX)
