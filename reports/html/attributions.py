"""Attributions for the pages of a report: those that lie in a folder, or a new run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from interpret.attribution.dataset import AttributionOptions, attribute_dataset, describe_attribution
from interpret.attribution.findings import as_diagnosed, with_attribution
from interpret.attribution.tables import AttributionTables
from interpret.checks.registry import select_rules
from interpret.pages.attribution_quantities import SavedAttributions
from interpret.tables import plain
from reports.html.run import same_run

if TYPE_CHECKING:
    from interpret.diagnose import DiagnoseOptions
    from interpret.results import Diagnosis
    from model.dataset import CrystalDataset, Sample
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork


def attributions_of(*folders: Path) -> SavedAttributions | None:
    """The attributions that ``--attribution`` left in the first folder that has some; None where none has."""
    found = next((folder for folder in folders if (folder / "attribution.json").is_file()), None)
    return None if found is None else SavedAttributions(AttributionTables.load(found))


def attributions_for(
    network: CrystalTextNetwork,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    folders: Sequence[Path],
    *,
    samples: Sequence[Sample],
    options: DiagnoseOptions,
    attribution: AttributionOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> AttributionTables:
    """The attributions in one of the folders where they are of these samples or of the whole data set, else new ones.

    New ones are saved in the last folder; a killed run goes on.

    Args:
        network, dataset, encoder, progress: as for :func:`interpret.attribution.attribute_dataset`.
        folders: of earlier results.
        samples: of the data set, those with a page.
        options: device, arithmetic and seed.
        attribution: what to explain.
    """
    chosen = as_diagnosed(attribution or AttributionOptions(), options)
    part = replace(dataset, samples=tuple(samples))
    wanted = plain(describe_attribution(network, part, encoder, chosen))
    for folder in folders:
        saved = attributions_of(folder)
        if saved is not None and same_run(saved.tables.provenance, wanted, (part, dataset)):
            if progress is not None:
                progress(min(chosen.limit, len(part)))
            return saved.tables
    work = folders[-1] / ".progress-attribution"
    tables = attribute_dataset(network, part, encoder, options=chosen, work=work, progress=progress)
    tables.save(folders[-1])
    return tables


def judge(
    diagnosis: Diagnosis | None, network: CrystalTextNetwork, tables: AttributionTables, folder: Path | None
) -> Diagnosis | None:
    """The diagnosis with what the rules on attribution say, saved where a folder is given; None where there is none."""
    if diagnosis is None:
        return None
    result = with_attribution(diagnosis, network, tables, select_rules([]))
    if folder is not None:
        result.save(folder)
    return result
