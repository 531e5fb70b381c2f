"""Columns about what a change of the text did to gates and atoms, against the ordinary pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from interpret.metrics.fusion import relative_change
from interpret.metrics.textflow import cosine_with_text

if TYPE_CHECKING:
    from interpret.hooks import Captured
    from model.network import CrystalTextNetwork

Columns = list[dict[str, float]]


def gate_change_columns(captured: Captured, base: Captured, rows: Sequence[int]) -> Columns:
    """How far each gate moved: mean over atoms and channels of the absolute difference.

    Args:
        captured: of the changed pass over the structures ``rows`` of the ordinary one, ``base``.
    """
    columns: Columns = [{} for _ in rows]
    for name in captured:
        if name.startswith("fusion.") and name.endswith(".gate"):
            layer = name.split(".")[1]
            before = base[name].per_structure()
            for column, row, new in zip(columns, rows, captured[name].per_structure(), strict=True):
                column[f"fusion.{layer}.gate_change"] = float((new - before[row]).abs().mean())
    return columns


def text_flow_columns(network: CrystalTextNetwork, captured: Captured, base: Captured, rows: Sequence[int]) -> Columns:
    """How much the atoms still resemble their own text when another structure's was fed in.

    For each fusion ``I`` with a transformed text, ``fusion.I.text_similarity`` is the cosine between the own text and
    the one fed in, and ``fusion.I.text_cosine.STAGE`` the mean cosine of the atoms with the own text, at the fusion's
    input and at every stage behind it. The same cosine with the own text fed in is in the layers table; their
    difference is the text's doing alone, for the crystal is the same.
    """
    columns: Columns = [{} for _ in rows]
    for layer in (index for kind, index in network.steps if kind == "fusion"):
        name = f"fusion.{layer}.text_transform"
        stages = stages_from(network, layer)
        if name not in captured or name not in base or stages[0] not in base:
            continue
        own, fed = base[name].values[list(rows)].double().cpu(), captured[name].values.double().cpu()
        for column, value in zip(columns, torch.cosine_similarity(own, fed), strict=True):
            column[f"fusion.{layer}.text_similarity"] = float(value)
        for stage in stages:
            values = _nodes(stage, captured, base, rows)
            for column, atoms, text in zip(columns, values, own, strict=True):
                column[f"fusion.{layer}.text_cosine.{stage}"] = float(cosine_with_text(atoms.cpu(), text).nanmean())
    return columns


def stages_from(network: CrystalTextNetwork, layer: int) -> list[str]:
    """Taps of the atoms at the input of a fusion, at its output, and after every later step, in forward order."""
    steps = network.steps
    return [f"{kind}.{index}.nodes" for kind, index in steps[steps.index(("fusion", layer)) - 1 :]]


def _nodes(stage: str, captured: Captured, base: Captured, rows: Sequence[int]) -> list[Tensor]:
    if stage in captured:
        return captured[stage].per_structure()
    # A change of text goes on from the input of the first fusion, which therefore is that of the ordinary pass.
    before = base[stage].per_structure()
    return [before[row] for row in rows]


def text_change_columns(network: CrystalTextNetwork, base: Captured, rows: Sequence[int]) -> Columns:
    """How far the text that each fusion let in moved the atoms, beside what its layer norm alone does.

    ``fusion.I.text_change`` is the mean over atoms of ``|out - LN(x)| / |LN(x)|``, with ``LN(x)`` the fusion's output
    had its gate been closed; ``fusion.I.norm_change`` is that of ``|LN(x) - x| / |x|``.
    """
    columns: Columns = [{} for _ in rows]
    for layer in (index for kind, index in network.steps if kind == "fusion"):
        names = (f"alignn.{layer}.nodes", f"fusion.{layer}.nodes")
        if not all(name in base for name in names):
            continue
        norm = network.get_submodule(f"middle_fusion_modules.layer_{layer}.layer_norm")
        before, after = (base[name].per_structure() for name in names)
        for column, row in zip(columns, rows, strict=True):
            with torch.no_grad():
                silent = norm(before[row])
            column[f"fusion.{layer}.text_change"] = float(relative_change(silent, after[row]).nanmean())
            column[f"fusion.{layer}.norm_change"] = float(relative_change(before[row], silent).nanmean())
    return columns
