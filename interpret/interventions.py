"""Interventions for :meth:`interpret.hooks.HookRegistry.intervene`: each is a function of what the tap holds."""

from __future__ import annotations

import torch
from torch import Tensor

from interpret.hooks import BatchLayout, Intervene, Intervention
from model.errors import TapError


def zero() -> Intervene:
    """All values 0."""
    return lambda at: torch.zeros_like(at.values)


def scale(factor: float) -> Intervene:
    """Values times a factor."""
    return lambda at: at.values * factor


def replace(values: Tensor) -> Intervene:
    """Given values, broadcast to the tap's shape."""
    return lambda at: values.to(at.values).expand_as(at.values).clone()


def bypass() -> Intervene:
    """The module's first input in place of its output: as if the module were not there."""

    def function(at: Intervention) -> Tensor:
        given = at.inputs[0]
        if not isinstance(given, Tensor) or given.shape != at.values.shape:
            raise TapError(f"tap {at.tap.name!r} cannot be bypassed: its module's first input is not like its output")
        return given

    return function


def mean() -> Intervene:
    """Every atom gets the mean of its structure's atoms; a tap with one row a structure, the mean of the batch."""

    def function(at: Intervention) -> Tensor:
        if at.tap.axes[0] == "atom":
            layout = _layout(at)
            owner, counts = layout.atom_owner, layout.atoms_per_structure
            sums = at.values.new_zeros(len(counts), *at.values.shape[1:]).index_add(0, owner, at.values)
            return (sums / counts.view(-1, *[1] * (at.values.ndim - 1)))[owner]
        if "token" in at.tap.axes or "atom" in at.tap.axes:
            raise TapError(f"tap {at.tap.name!r} is padded: use uniform() for attention weights")
        return at.values.mean(dim=0, keepdim=True).expand_as(at.values).clone()

    return function


def shuffle(seed: int) -> Intervene:
    """Rows change places: atoms within their structure, or, for a tap with one row a structure, structures.

    The order of atoms depends on their number and the seed only, never on the batch; that of structures is the batch's.
    """

    def function(at: Intervention) -> Tensor:
        if at.tap.axes[0] == "atom":
            order, start = [], 0
            for count in _layout(at).atoms_per_structure.tolist():
                order.append(_order(count, seed) + start)
                start += count
            return at.values[torch.cat(order).to(at.values.device)]
        if "token" in at.tap.axes or "atom" in at.tap.axes:
            raise TapError(f"tap {at.tap.name!r} is padded: use permute() for attention weights")
        return at.values[_order(len(at.values), seed).to(at.values.device)]

    return function


def uniform() -> Intervene:
    """Attention weights spread evenly over the keys that exist."""

    def function(at: Intervention) -> Tensor:
        mask = _key_mask(at).to(at.values.dtype)
        return (mask / mask.sum(dim=-1, keepdim=True)).expand_as(at.values).clone()

    return function


def sharpen(factor: float) -> Intervene:
    """Attention as if its scores were multiplied by a factor: above 1 sharper, below 1 softer.

    Softmax(k s) is the k-th power of softmax(s), normalised.
    """

    def function(at: Intervention) -> Tensor:
        # Through logarithms relative to the row's maximum: a power of a small weight would underflow to an empty row.
        logs = at.values.log()
        return torch.softmax(torch.where(_key_mask(at), factor * logs, float("-inf")), dim=-1)

    return function


def permute(seed: int) -> Intervene:
    """Each structure's attention weights with its keys in another, random order; the same for every head and row.

    The order depends on the number of keys and the seed only, so that a structure's does not depend on its batch.
    """

    def function(at: Intervention) -> Tensor:
        mask = _key_mask(at).expand(len(at.values), 1, 1, at.values.shape[-1])[:, 0, 0]
        result = at.values.clone()
        for row, keys in enumerate(mask):
            where = keys.nonzero()[:, 0]
            order = where[_order(len(where), seed).to(where.device)]
            result[row][..., where] = at.values[row][..., order]
        return result

    return function


def _order(count: int, seed: int) -> Tensor:
    """A random order of ``count`` things, drawn for this number alone."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(1_000_003 * seed + count))


def _layout(at: Intervention) -> BatchLayout:
    if at.layout is None:
        raise TapError(f"an intervention at tap {at.tap.name!r} needs the batch layout: pass layout= to the registry")
    return at.layout


def _key_mask(at: Intervention) -> Tensor:
    """[B, 1, 1, K] bool: the keys that exist, for a tap of attention weights."""
    if at.tap.axes[:2] != ("structure", "head"):
        raise TapError(f"tap {at.tap.name!r} has axes {at.tap.axes}: expected attention weights")
    key = at.tap.axes[-1]
    if key == "token":
        return _layout(at).token_mask[:, None, None, :]
    if key == "atom":
        return _layout(at).atom_mask[:, None, None, :]
    return at.values.new_ones(1, 1, 1, at.values.shape[-1], dtype=torch.bool)
