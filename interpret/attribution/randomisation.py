"""Does an explanation explain the network, or would it be the same without one? (Adebayo et al., NeurIPS 2018)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from interpret.attribution.explanation import AttributionError, Explanation
from interpret.attribution.faithfulness import order_agreement
from interpret.attribution.methods import Request, explain
from interpret.attribution.subject import Explained
from interpret.gradients import fresh_copy
from model.network import CrystalTextNetwork

# From the output to the input: each stage draws its modules anew and keeps all before it drawn anew.
STAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("head", ("fc.", "fc1.", "fusion_module.", "cross_modal_attention.", "gated_cross_attention.")),
    ("graph projection", ("graph_projection.",)),
    ("attention", ("fine_grained_attention.",)),
    ("gcn", ("gcn_layers.",)),
    ("alignn and fusion", ("alignn_layers.", "middle_fusion_modules.", "graph_regularizers.")),
    ("text projection", ("text_projection.",)),
    ("embedding", ("",)),
)
# Steps of integrated gradients here: orders are compared, not sums.
STEPS = 16


def check_not_shared(network: nn.Module) -> None:
    """Refuse a network in which a parameter belongs to two stages: drawing one anew would draw the other.

    Raises:
        AttributionError: with the names of the parameter.
    """
    owners: dict[int, tuple[str, str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        stage = stage_of(name)
        other = owners.setdefault(id(parameter), (name, stage))
        if other[1] != stage:
            raise AttributionError(
                f"the parameter {name!r} ({stage}) is the same tensor as {other[0]!r} ({other[1]}): the stages cannot "
                "be drawn anew one by one"
            )


def stage_of(name: str) -> str:
    """The stage a parameter is drawn anew in."""
    return next(stage for stage, prefixes in STAGES if name.startswith(prefixes))


def cascade(network: nn.Module, seed: int) -> Iterator[tuple[str, CrystalTextNetwork]]:
    """Copies of a network, drawn anew from the output down to each stage, with the weights PyTorch draws.

    Raises:
        AttributionError: the network is not of the family, or shares parameters between stages.
    """
    if not isinstance(network, CrystalTextNetwork):
        raise AttributionError(f"the randomisation test needs a CrystalTextNetwork, got {type(network).__name__}")
    check_not_shared(network)
    fresh = fresh_copy(network.config, seed).state_dict()
    current = copy.deepcopy(network)
    state = current.state_dict()
    for stage, _ in STAGES:
        own = [name for name in state if stage_of(name) == stage]
        if not own:
            continue
        with torch.no_grad():
            for name in own:
                state[name].copy_(fresh[name])
        yield stage, copy.deepcopy(current)


class Cascade:
    """The stages of one network, drawn once for all structures.

    Args:
        explained: the trained network.
        seed: of the draw; ``seed + 1`` is that of the second untrained network, the control.
    """

    def __init__(self, explained: Explained, seed: int = 0) -> None:
        self.explained = explained
        self.stages = [(name, explained.swapped(network)) for name, network in cascade(explained.network, seed)]
        *_, (_, other) = cascade(explained.network, seed + 1)
        self.other = explained.swapped(other)

    def rows(self, request: Request, original: Explanation) -> list[dict[str, Any]]:
        """One row a stage: Spearman's correlation between the explanation before and after.

        ``untrained_pair`` is the correlation between the explanations of two untrained networks: how much of an order
        the input alone decides.
        """
        method = original.method
        later = [(name, self._again(request, explained, method)) for name, explained in self.stages]
        pair = order_agreement(later[-1][1], self._again(request, self.other, method))
        return [
            {
                "id": original.id,
                "side": original.side,
                "kind": original.kind,
                "method": method,
                "stage": name,
                "depth": number,
                "spearman": order_agreement(original, explanation),
                "untrained_pair": pair,
            }
            for number, (name, explanation) in enumerate(later)
        ]

    def _again(self, request: Request, explained: Explained, method: str) -> Explanation:
        subject = explained.subject(request.subject.structure)
        again = Request(
            subject,
            request.players,
            request.baseline,
            request.seed,
            steps=STEPS,
            frequencies=request.frequencies,
            tap=request.tap,
        )
        return explain(again, method)
