"""Results as lines of text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interpret.cost import cost_lines
from interpret.results import Diagnosis


def diagnosis_lines(result: Diagnosis, output: Path) -> list[str]:
    """Findings with their remedies, figures worth a look, the verdict, and where the files are."""
    lines = []
    for finding in result.findings:
        lines.append(f"{finding.code} {finding.severity} {finding.text}")
        lines.append(f"    control: {finding.control:.3g} ({finding.control_what})")
        lines.append(f"    remedy: {finding.remedy}")
    lines += [f"note: {note}" for note in result.facts["notes"]]
    lines += [f"note: tap {name} never fired" for name in result.facts["taps_never_fired"]]
    lines += _figures(result)
    if result.cost:
        lines += cost_lines(result.cost, result.outcomes)
    skipped = f", {len(result.skipped)} skipped (see skipped.csv)" if result.skipped else ""
    lines.append(f"{len(result.structures)} structures{skipped}; results in {output}")
    lines.append(f"verdict: {result.verdict} ({result.reason})")
    return lines


def _figures(result: Diagnosis) -> list[str]:
    lines = []
    accuracy = result.statistics.get("accuracy")
    if accuracy:
        lines.append(
            f"mean absolute error {accuracy['mean_absolute_error']:.3g} on {accuracy['labelled']} labelled structures "
            f"(predicting their mean: {accuracy['mean_predictor_absolute_error']:.3g})"
        )
    modes = [c for c in result.structures.columns if c.endswith(".mode")]
    for column in modes:
        counted = result.structures[column].value_counts()
        parts = ", ".join(f"{name} {number}" for name, number in counted.items())
        lines.append(f"{column.removesuffix('.mode')}: {parts}")
    cause = result.statistics.get("root_cause")
    if cause:
        lines.append(f"difference between atoms: {cause['sentence']}")
    return lines


def inspection_lines(inspection: Mapping[str, Any]) -> list[str]:
    """What a checkpoint holds."""
    lines = [f"{key}: {value}" for key, value in inspection["file"].items()]
    lines.append(f"parameters: {inspection['parameters']:,}")
    lines += [f"config.{key}: {value}" for key, value in inspection["config"].items()]
    lines.append("taps:")
    lines += [f"  {tap['name']} ({', '.join(tap['axes'])}): {tap['meaning']}" for tap in inspection["taps"]]
    for finding in inspection["findings"]:
        lines.append(f"{finding['code']} {finding['severity']} {finding['text']}")
        lines.append(f"    remedy: {finding['remedy']}")
    lines += [f"note: {note}" for note in inspection["notes"]]
    return lines
