"""From a checkpoint and a data set to a report: numbers, then pages, one structure at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interpret.diagnose import DiagnoseOptions, diagnose
from interpret.pages.store import MANIFEST, PageStore
from interpret.pages.stream import PageOptions, PageStream, weights_digest
from interpret.provenance import describe_run
from interpret.results import Diagnosis
from interpret.tables import plain
from model.errors import DataError, RecordError
from reports.html.report import Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from interpret.pages.attribution_quantities import SavedAttributions
    from interpret.pages.quantity import Quantity
    from interpret.record import StructureRecord
    from model.dataset import CrystalDataset, Sample
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork


def write_report(
    network: CrystalTextNetwork,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    folder: Path,
    *,
    samples: Sequence[Sample] | None = None,
    options: PageOptions | None = None,
    diagnosis: Diagnosis | None = None,
    spare: Sequence[Sample] = (),
    attributions: SavedAttributions | None = None,
    extra: Callable[[StructureRecord], Sequence[Quantity]] | None = None,
    extra_name: str = "",
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Write the report of a data set; a report that was killed goes on, and one that exists is added to.

    Args:
        network, dataset, encoder: as for :func:`interpret.diagnose.diagnose`.
        folder: of the report; nothing is written outside it.
        samples: those of the data set that get a page; None takes all.
        options: how to run.
        diagnosis: of the same checkpoint, for findings and counterfactual predictions; None for none.
        spare: samples of another data set, for the controls of a small one.
        attributions: of an earlier run on this checkpoint, for the structures that have them.
        extra: further quantities of a record, of an analysis of its own; ``extra_name`` tells it from others, so that
            pages without them are computed again.
        progress: called with 1 after every structure.

    Raises:
        DataError: no structure could be analysed.
        RecordError: the diagnosis is of another checkpoint.
    """
    options = options or PageOptions()
    provenance = describe_run(network, dataset, encoder, asdict(options))
    if diagnosis is not None:
        _check_same_checkpoint(diagnosis.provenance, provenance, "a diagnosis")
    explainers = None
    if attributions is not None:
        _check_same_checkpoint(attributions.tables.provenance, provenance, "attributions")
        explainers = attributions.explainers
        extra, extra_name = _joined(attributions, extra), f"{attributions.name} {extra_name}"
    manifest = _manifest(provenance, diagnosis) | {"network": weights_digest(network), "explainers": explainers}
    store = PageStore(folder)
    _check_same_report(store, manifest)
    stream = PageStream(network, dataset, encoder, store, options, samples, spare, counterfactuals_of(diagnosis))
    stream.extra, stream.extra_name = extra, extra_name
    return _write(Report(store, manifest), manifest, stream, progress)


def _write(
    report: Report, manifest: dict[str, Any], stream: PageStream, progress: Callable[[int], None] | None
) -> Report:
    """Numbers and pages; the pages are drawn while the numbers come, so that a killed run leaves some to look at."""
    written = 0
    for row in stream.run():
        if not written:
            report.store.write_manifest(manifest)
        report.draw(row["id"])
        written += 1
        if progress is not None:
            progress(1)
    skipped = [*stream.dataset.skipped, *stream.skipped]
    manifest["skipped"] = [asdict(item) for item in skipped]
    if not written:
        reasons = "; ".join(f"{item.id}: {item.reason}" for item in skipped[:3]) or "the data set is empty"
        raise DataError(f"no structure could be analysed ({len(skipped)} skipped): {reasons}")
    report.store.write_manifest(manifest)
    # Those of earlier runs too, where the findings have changed.
    for _ in report.draw_all():
        pass
    return report


def choose(dataset: CrystalDataset, ids: Sequence[str], limit: int | None = None) -> list[Sample]:
    """The samples with the given ids, in that order, or all; the first ``limit`` of them.

    Raises:
        DataError: there is no sample with an id, with the ids that come close.
    """
    known = {sample.id: sample for sample in dataset}
    missing = [identifier for identifier in ids if identifier not in known]
    if missing:
        close = get_close_matches(missing[0], known, n=3)
        why = next((f" ({item.stage}: {item.reason})" for item in dataset.skipped if item.id == missing[0]), "")
        hint = f"; close to it: {', '.join(close)}" if close else ""
        raise DataError(f"no structure has the id {missing[0]!r}{why} among {len(known)} in the data{hint}")
    return [known[identifier] for identifier in dict.fromkeys(ids)][:limit] if ids else list(dataset)[:limit]


def diagnosis_of(
    network: CrystalTextNetwork,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    folder: Path,
    *,
    options: DiagnoseOptions,
    samples: Sequence[Sample],
    spare_texts: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> Diagnosis:
    """The diagnosis in a folder where it is of these samples or of the whole data set, else a new one of the samples.

    A new one is saved there; it can be resumed.

    Args:
        network, dataset, encoder, options, spare_texts, progress: as for :func:`interpret.diagnose.diagnose`.
        folder: of the diagnosis.
        samples: of the data set.
    """
    part = replace(dataset, samples=tuple(samples))
    provenance = plain(describe_run(network, part, encoder, asdict(options)))
    try:
        found = Diagnosis.load(folder)
    except RecordError:
        found = None
    if found is not None and same_run(found.provenance, provenance, (part, dataset)):
        if progress is not None:
            progress(len(part))
        return found
    result = diagnose(
        network,
        part,
        encoder,
        options=options,
        work=folder / ".progress",
        spare_texts=spare_texts,
        progress=progress,
    )
    result.save(folder)
    return result


def same_run(found: Mapping[str, Any], wanted: Mapping[str, Any], data: Sequence[CrystalDataset]) -> bool:
    """Whether a diagnosis is of the same network, encoder, options and versions, on one of these data sets."""
    same = all(found.get(name) == value for name, value in wanted.items() if name not in ("data", "options"))
    return (
        same
        and _lasting(found.get("options")) == _lasting(wanted["options"])
        and found["data"]["fingerprint"] in [one.fingerprint for one in data]
    )


def counterfactuals_of(diagnosis: Diagnosis | None) -> dict[str, dict[str, float]]:
    """The columns ``counterfactual.*.prediction`` of a diagnosis by id."""
    if diagnosis is None:
        return {}
    columns = [
        name
        for name in diagnosis.structures.columns
        if str(name).startswith("counterfactual.") and str(name).endswith(".prediction")
    ]
    values = diagnosis.structures[["id", *columns]]
    return {str(row["id"]): {name: float(row[name]) for name in columns} for row in values.to_dict("records")}


def _manifest(provenance: dict[str, Any], diagnosis: Diagnosis | None) -> dict[str, Any]:
    checkpoint = provenance["checkpoint"]
    content: dict[str, Any] = {
        "checkpoint": {
            "name": Path(checkpoint.get("path", checkpoint.get("source", "made in memory"))).name,
            "sha256": checkpoint.get("sha256"),
            "partial": checkpoint.get("partial", False),
        },
        "encoder": provenance["encoder"],
        "versions": provenance["versions"],
        "options": provenance["options"],
        "notes": [],
        "skipped": [],
        "diagnosis": None,
    }
    if checkpoint.get("partial"):
        content["notes"].append("the checkpoint was loaded partially: some weights are random")
    if diagnosis is not None:
        accuracy = diagnosis.statistics.get("accuracy") or {}
        content["notes"] = list(diagnosis.facts["notes"])
        content["diagnosis"] = {
            "verdict": diagnosis.verdict,
            "reason": diagnosis.reason,
            "findings": diagnosis.to_dict()["findings"],
            "structures": len(diagnosis.structures),
            "mean_absolute_error": accuracy.get("mean_absolute_error"),
        }
    return content


def _check_same_report(store: PageStore, manifest: Mapping[str, Any]) -> None:
    """Pages of two networks in one folder would be taken for those of one."""
    if not (store.folder / MANIFEST).is_file():
        return
    found = store.manifest()
    names = {"network": "network", "encoder": "text encoder", "options": "options"}
    for part, name in names.items():
        own, other = (_lasting(content.get(part)) for content in (manifest, found))
        if plain(own) != plain(other):
            raise RecordError(
                f"expected {store.folder} to be empty or to hold a report of the same {name}: write this one to "
                "another folder"
            )


def _lasting(value: Any) -> Any:
    """What numbers depend on."""
    if isinstance(value, Mapping):
        return {name: item for name, item in value.items() if name not in ("batch_size", "device")}
    return value


def _joined(
    first: Callable[[StructureRecord], Sequence[Quantity]],
    second: Callable[[StructureRecord], Sequence[Quantity]] | None,
) -> Callable[[StructureRecord], Sequence[Quantity]]:
    return first if second is None else lambda record: [*first(record), *second(record)]


def _check_same_checkpoint(found: Mapping[str, Any], provenance: Mapping[str, Any], what: str) -> None:
    own, other = provenance["checkpoint"].get("sha256"), found["checkpoint"].get("sha256")
    if own != other:
        raise RecordError(
            f"expected {what} of this checkpoint (sha256 {str(own)[:12]}), got one of another ({str(other)[:12]}): "
            "run diagnose on this checkpoint, or leave --diagnosis out"
        )
