"""Capture what a network computes, and intervene in it, through forward hooks that are always removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from interpret.taps import Names, Tap, TapTable, taps_of
from model.errors import TapError


@dataclass(frozen=True)
class BatchLayout:
    """Which rows of a batch's tensors belong to which structure, and which of them are padding.

    Attributes:
        atoms_per_structure: [B] int64.
        token_mask: [B, L] bool.
    """

    atoms_per_structure: Tensor
    token_mask: Tensor

    @property
    def atom_owner(self) -> Tensor:
        """[N] int64: structure of each atom."""
        count = torch.arange(len(self.atoms_per_structure), device=self.atoms_per_structure.device)
        return torch.repeat_interleave(count, self.atoms_per_structure)

    @property
    def atom_mask(self) -> Tensor:
        """[B, Nmax] bool."""
        most = int(self.atoms_per_structure.max())
        return torch.arange(most, device=self.atoms_per_structure.device) < self.atoms_per_structure[:, None]


@dataclass(frozen=True)
class Capture:
    """What one tap yielded in the last forward pass.

    Attributes:
        tap: which, with its axes.
        values: as the module returned them, padding included.
        layout: of the batch; None where the network's table has no layout function.
    """

    tap: Tap
    values: Tensor
    layout: BatchLayout | None

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes of ``values``."""
        return self.tap.axes

    @property
    def owner(self) -> Tensor:
        """[N] int64: the structure each row belongs to, for taps with a flat atom axis.

        Raises:
            TapError: the tap has no flat atom axis.
        """
        if self.axes[:1] != ("atom",):
            raise TapError(f"tap {self.tap.name!r} has axes {self.axes}, not one row an atom")
        return self._layout().atom_owner

    def _layout(self) -> BatchLayout:
        if self.layout is None:
            raise TapError(f"tap {self.tap.name!r} was captured without a batch layout: pass layout= to the registry")
        return self.layout

    def mask(self, axis: str) -> Tensor | None:
        """[B, size] bool for a padded axis (``atom`` beside ``structure``, or ``token``), else None."""
        if axis == "token" and "structure" in self.axes:
            return self._layout().token_mask
        if axis == "atom" and "structure" in self.axes:
            return self._layout().atom_mask
        return None

    def per_structure(self) -> list[Tensor]:
        """One tensor a structure without its padding; the ``structure`` axis is gone."""
        layout = self._layout()
        atoms = layout.atoms_per_structure.tolist()
        if self.axes[0] == "atom":
            return list(torch.split(self.values, atoms))
        lengths = {"atom": atoms}
        if "token" in self.axes:
            lengths["token"] = layout.token_mask.sum(dim=1).tolist()
        pieces = []
        for row, value in enumerate(self.values):
            for position, axis in enumerate(self.axes[1:]):
                if axis == "atom":
                    value = value.narrow(position, 0, lengths["atom"][row])
                elif axis == "token":
                    value = value.index_select(position, layout.token_mask[row].nonzero()[:, 0])
            pieces.append(value)
        return pieces


class Intervention(NamedTuple):
    """What an intervention sees: the tap, its values, the inputs of its module, and the batch layout."""

    tap: Tap
    values: Tensor
    inputs: tuple[Any, ...]
    layout: BatchLayout | None


Intervene = Callable[[Intervention], Tensor]
Reduce = Callable[[Capture], Mapping[str, Tensor]]
LayoutOf = Callable[[tuple[Any, ...], dict[str, Any]], BatchLayout]


class Captured(Mapping[str, Capture]):
    """Captures of the last forward pass by tap name, and the statistics of taps that were reduced in the hook."""

    def __init__(self, taps: TapTable) -> None:
        self._taps = taps
        self._captures: dict[str, Capture] = {}
        self.statistics: dict[str, Mapping[str, Tensor]] = {}
        self._requested: dict[str, bool] = {}
        self.passes = 0

    def __getitem__(self, name: str) -> Capture:
        if name in self._captures:
            return self._captures[name]
        if name in self.statistics:
            raise TapError(f"tap {name!r} was reduced in its hook: read captured.statistics[{name!r}]")
        if name in self._requested:
            why = "no forward pass ran" if not self.passes else "its module did not run in the forward pass"
            raise TapError(f"tap {name!r} was registered but never fired: {why}")
        raise TapError(
            f"tap {name!r} was not captured; captured here: {', '.join(self._requested) or 'none'}"
            + ("" if name in self._taps else f"; the network has: {', '.join(self._taps)}")
        )

    def __contains__(self, name: object) -> bool:
        return name in self._captures

    def __iter__(self) -> Iterator[str]:
        return iter(self._captures)

    def __len__(self) -> int:
        return len(self._captures)

    @property
    def never_fired(self) -> tuple[str, ...]:
        """Taps that were registered and have not fired in any forward pass so far."""
        return tuple(name for name, fired in self._requested.items() if not fired)

    def _begin_pass(self) -> None:
        self.passes += 1
        self._captures.clear()
        self.statistics.clear()

    def _store(self, capture: Capture, reduce: Reduce | None) -> None:
        name = capture.tap.name
        if name in self._captures or name in self.statistics:
            raise TapError(
                f"tap {name!r} fired twice in one forward pass: its module {capture.tap.module!r} is shared or "
                "called repeatedly, so one value cannot stand for it"
            )
        self._requested[name] = True
        if reduce is None:
            self._captures[name] = capture
        else:
            self.statistics[name] = reduce(capture)


class HookRegistry:
    """Captures taps of a module and intervenes at them while its ``with`` block runs.

    Example::

        with HookRegistry(network).capture("fusion.*.gate", "attention.*") as captured:
            predictions = network(batch)
        captured["fusion.1.gate"].per_structure()

    Args:
        module: the network.
        taps: its tap table; that of our networks is found by itself.
        layout: ``(args, kwargs)`` of the forward call to the batch's layout; found by itself for our networks.
    """

    def __init__(self, module: nn.Module, taps: TapTable | None = None, layout: LayoutOf | None = None) -> None:
        self.module = module
        self.taps = taps if taps is not None else taps_of(_ours(module))
        self._layout_of = layout if layout is not None else (layout_of_call if taps is None else None)
        self._captures: dict[str, tuple[Tap, Reduce | None, bool]] = {}
        self._interventions: list[tuple[Tap, Intervene]] = []
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._layout: BatchLayout | None = None

    def capture(self, *names: Names, reduce: Reduce | None = None, detach: bool = True) -> HookRegistry:
        """Watch the taps that match; ``reduce`` keeps only the statistics it returns, computed inside the hook.

        Args:
            names: tap names, patterns or callables on names.
            reduce: from a :class:`Capture` to named tensors.
            detach: False keeps the graph for gradients with respect to the captured values.

        Raises:
            TapError: nothing matches.
        """
        for tap in self.taps.match(*names):
            self._captures[tap.name] = (tap, reduce, detach)
        return self

    def intervene(self, names: Names, function: Intervene) -> HookRegistry:
        """Replace the values at the taps that match by what ``function`` returns, before they are captured."""
        self._interventions += [(tap, function) for tap in self.taps.match(names)]
        return self

    def __enter__(self) -> Captured:
        if self._handles:
            raise TapError("this registry is already active: make a second HookRegistry to nest")
        captured = Captured(self.taps)
        captured._requested = dict.fromkeys(self._captures, False)
        try:
            self._handles.append(self.module.register_forward_pre_hook(self._begin(captured), with_kwargs=True))
            for tap, function in self._interventions:
                self._register(tap, self._replace(tap, function))
            for tap, reduce, detach in self._captures.values():
                self._register(tap, self._keep(tap, reduce, detach, captured))
        except BaseException:
            self._remove()
            raise
        return captured

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        while self._handles:
            self._handles.pop().remove()
        self._layout = None

    def _register(self, tap: Tap, hook: Callable[..., Any]) -> None:
        try:
            module = self.module.get_submodule(tap.module)
        except AttributeError as error:
            raise TapError(f"tap {tap.name!r} points at {tap.module!r}, which this network does not have") from error
        self._handles.append(module.register_forward_hook(hook))

    def _begin(self, captured: Captured) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            captured._begin_pass()
            self._layout = self._layout_of(args, kwargs) if self._layout_of is not None else None

        return hook

    def _replace(self, tap: Tap, function: Intervene) -> Callable[..., Any]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
            old = _select(tap, output)
            new = function(Intervention(tap, old, inputs, self._layout))
            if new.shape != old.shape:
                raise TapError(
                    f"an intervention at tap {tap.name!r} returned shape {list(new.shape)}, expected {list(old.shape)}"
                )
            if tap.index is None:
                return new
            return (*output[: tap.index], new, *output[tap.index + 1 :])

        return hook

    def _keep(self, tap: Tap, reduce: Reduce | None, detach: bool, captured: Captured) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            values = _select(tap, output)
            captured._store(Capture(tap, values.detach() if detach else values, self._layout), reduce)

        return hook


def _select(tap: Tap, output: Any) -> Tensor:
    value = output if tap.index is None else output[tap.index]
    if not isinstance(value, Tensor) or value.ndim != len(tap.axes):
        shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise TapError(f"tap {tap.name!r} expects axes {tap.axes}, its module {tap.module!r} returned {shape}")
    return value


def _ours(module: nn.Module) -> Any:
    from model.network import CrystalTextNetwork

    if not isinstance(module, CrystalTextNetwork):
        raise TapError(f"{type(module).__name__} has no tap table of its own: pass taps=TapTable([...])")
    return module


def layout_of_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> BatchLayout:
    """Layout of a forward call of one of our networks, whichever form its batch came in."""
    from model.network import as_batch

    batch = as_batch(*args, **{name: value for name, value in kwargs.items() if name not in ("state", "lean")})
    return BatchLayout(batch.atoms_per_structure, batch.token_mask)
