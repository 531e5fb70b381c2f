"""What can be watched in a network: a table of named tap points with their axes.

A tap names a module's output. The table of our networks is built by :func:`taps_of`; any other ``nn.Module`` works
with a table of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from model.errors import TapError

if TYPE_CHECKING:
    from model.network import CrystalTextNetwork

Axis = Literal["structure", "atom", "token", "head", "query", "key", "channel"]
Modality = Literal["graph", "text", "both"]
Names = str | Callable[[str], bool]


@dataclass(frozen=True)
class Tap:
    """One place in a network.

    Attributes:
        name: public name, e.g. ``fusion.1.gate``.
        module: dotted path of the module whose output is meant.
        axes: names of the axes of that output. ``atom`` as the only variable-length axis is flat over the batch;
            beside ``structure`` it is padded, and so is ``token``.
        space: which vector space the channels are in; channels of different spaces are never comparable, even
            where their number is the same.
        modality: whose features these are.
        index: element of the output where the module returns a tuple.
        meaning: one line for people.
    """

    name: str
    module: str
    axes: tuple[Axis, ...]
    space: str
    modality: Modality
    index: int | None = None
    meaning: str = ""


class TapTable(Mapping[str, Tap]):
    """Taps by name, in the order in which the network passes them."""

    def __init__(self, taps: Iterable[Tap]) -> None:
        self._taps: dict[str, Tap] = {}
        for tap in taps:
            if tap.name in self._taps:
                raise TapError(f"expected each tap name once, got {tap.name!r} twice")
            self._taps[tap.name] = tap

    def __getitem__(self, name: str) -> Tap:
        if name not in self._taps:
            raise TapError(f"no tap is named {name!r}; this network has: {', '.join(self._taps) or 'none'}")
        return self._taps[name]

    def __contains__(self, name: object) -> bool:
        return name in self._taps

    def __iter__(self) -> Iterator[str]:
        return iter(self._taps)

    def __len__(self) -> int:
        return len(self._taps)

    def match(self, *names: Names) -> tuple[Tap, ...]:
        """Taps whose name equals or matches one of the patterns (``fusion.*.gate``), or satisfies a callable.

        Raises:
            TapError: a plain name or a pattern fits no tap, with the names there are.
        """
        chosen: dict[str, Tap] = {}
        for name in names:
            fits = name if callable(name) else lambda candidate, pattern=name: fnmatchcase(candidate, pattern)
            found = {key: tap for key, tap in self._taps.items() if fits(key)}
            if not found and isinstance(name, str):
                raise TapError(f"no tap matches {name!r}; this network has: {', '.join(self._taps) or 'none'}")
            chosen.update(found)
        return tuple(chosen.values())

    def in_space(self, space: str, modality: Modality) -> tuple[Tap, ...]:
        """Taps of one modality whose channels are in the given space."""
        return tuple(tap for tap in self._taps.values() if tap.space == space and tap.modality == modality)


def _backbone(network: CrystalTextNetwork) -> Iterator[Tap]:
    nodes: tuple[Axis, ...] = ("atom", "channel")
    yield Tap("embedding.nodes", "atom_embedding", nodes, "node", "graph", meaning="atoms before the first layer")
    config = network.config
    regularized = len(network.graph_regularizers) > 0
    for i in range(config.alignn_layers):
        path, index = (f"graph_regularizers.{i}", None) if regularized else (f"alignn_layers.{i}", 0)
        yield Tap(f"alignn.{i}.nodes", path, nodes, "node", "graph", index, f"atoms after ALIGNN layer {i}")
        if f"layer_{i}" in network.middle_fusion_modules:
            yield from _middle_fusion(network, i)
    # A fusion module for a layer that does not exist is still listed: it never fires, and that is reported.
    for i in config.missing_fusion_layers:
        yield from _middle_fusion(network, i)
    for i in range(config.gcn_layers):
        path = f"graph_regularizers.{config.alignn_layers + i}" if regularized else f"gcn_layers.{i}"
        index = None if regularized else 0
        yield Tap(f"gcn.{i}.nodes", path, nodes, "node", "graph", index, f"atoms after GCN layer {i}")


def _middle_fusion(network: CrystalTextNetwork, i: int) -> Iterator[Tap]:
    path, config = f"middle_fusion_modules.layer_{i}", network.config
    if config.middle_fusion_type == "token-attention":
        yield Tap(
            f"fusion.{i}.attention",
            f"{path}.atom_to_token",
            ("structure", "head", "atom", "token"),
            "weight",
            "both",
            meaning=f"weights from atoms to tokens in the fusion after ALIGNN layer {i}",
        )
    else:
        yield Tap(
            f"fusion.{i}.text_transform",
            f"{path}.text_transform",
            ("structure", "channel"),
            "node",
            "text",
            meaning=f"text in node space as the fusion after ALIGNN layer {i} uses it, before text_scale",
        )
    if config.middle_fusion_type != "token-attention" or config.middle_fusion_use_gate:
        yield Tap(
            f"fusion.{i}.gate",
            f"{path}.gate",
            ("atom", "channel"),
            "gate",
            "both",
            meaning=f"gate of the fusion after ALIGNN layer {i}, in [0, 1]",
        )
    yield Tap(f"fusion.{i}.nodes", path, ("atom", "channel"), "node", "graph", meaning=f"atoms after fusion {i}")


def _fine_grained() -> Iterator[Tap]:
    path = "fine_grained_attention"
    yield Tap(
        "attention.atom_to_token",
        f"{path}.atom_to_token",
        ("structure", "head", "atom", "token"),
        "weight",
        "both",
        meaning="weights from atoms to tokens",
    )
    yield Tap(
        "attention.token_to_atom",
        f"{path}.token_to_atom",
        ("structure", "head", "token", "atom"),
        "weight",
        "both",
        meaning="weights from tokens to atoms: this branch does not reach the prediction",
    )
    yield Tap("attention.nodes", path, ("atom", "channel"), "node", "graph", meaning="atoms enhanced by tokens")
    yield Tap(
        "attention.tokens",
        f"{path}.layer_norm_token",
        ("structure", "token", "channel"),
        "token",
        "text",
        meaning="tokens enhanced by atoms: this branch does not reach the prediction",
    )


def _cross_modal(network: CrystalTextNetwork) -> Iterator[Tap]:
    gate = network.config.cross_modal_gate
    path = "gated_cross_attention.cross_attention" if gate != "none" else "cross_modal_attention"
    for name, meaning in (("graph_to_text", "graph to text"), ("text_to_graph", "text to graph")):
        yield Tap(
            f"cross_modal.{name}",
            f"{path}.{name}",
            ("structure", "head", "query", "key"),
            "weight",
            "both",
            meaning=f"weights from {meaning}: one query and one key, always 1",
        )
    vector: tuple[Axis, ...] = ("structure", "channel")
    yield Tap("cross_modal.graph", f"{path}.layer_norm_graph", vector, "projection", "graph", meaning="graph after")
    yield Tap("cross_modal.text", f"{path}.layer_norm_text", vector, "projection", "text", meaning="text after")
    if gate == "none":
        return
    gates = {
        "quality": {"quality": "text_quality_gate", "fusion": "adaptive_fusion_gate"},
        "improved-quality": {"quality": "text_quality_gate", "fusion": "adaptive_fusion_gate"},
        "balanced": {"quality": "text_quality_gate", "fusion": "fusion_gate"},
        "simplified": {"gate": "adaptive_gate"},
        "warm-up": {"gate": "adaptive_gate"},
    }[gate]
    for name, module in (*gates.items(), ("effective", "effective")):
        yield Tap(
            f"cross_modal.{name}",
            f"gated_cross_attention.{module}",
            vector,
            "gate",
            "both",
            meaning=f"{name} weight of the {gate} gate, in [0, 1]",
        )


def taps_of(network: CrystalTextNetwork) -> TapTable:
    """The taps of one of our networks, in forward order; only those its configuration has."""
    config = network.config
    vector: tuple[Axis, ...] = ("structure", "channel")
    taps = [
        Tap(
            "text.projection",
            "text_projection",
            vector,
            "projection",
            "text",
            meaning="projected first token",
        )
    ]
    taps += _backbone(network)
    if config.use_fine_grained_attention:
        taps += _fine_grained()
    taps.append(Tap("readout", "readout", vector, "node", "graph", meaning="mean over atoms"))
    taps.append(Tap("graph.projection", "graph_projection", vector, "projection", "graph", meaning="projected mean"))
    if config.use_cross_modal_attention or config.cross_modal_gate != "none":
        taps += _cross_modal(network)
    dense = config.late_fusion_type in ("concat", "average")
    taps.append(
        Tap(
            "head.hidden",
            "fc1" if dense else "fusion_module",
            vector,
            "hidden",
            "both",
            meaning="fused features",
        )
    )
    taps.append(Tap("head.output", "fc", vector, "output", "both", meaning="output before the link function"))
    return TapTable(taps)
