"""One explanation of one structure, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from interpret.attribution.explanation import Explanation
from interpret.attribution.methods import DEFAULT_METHOD, Request, explain
from interpret.attribution.players import Described, players_of
from interpret.attribution.reference import frequencies_of
from interpret.attribution.subject import Explained, Target

if TYPE_CHECKING:
    from model.encoder import TextEncoder


def attribute(
    network: nn.Module,
    record: Described,
    *,
    method: str = DEFAULT_METHOD,
    players: str = "words",
    encoder: TextEncoder | None = None,
    target: Target | None = None,
    baseline: str | None = None,
    seed: int = 0,
) -> Explanation:
    """Explain one structure.

    The network given is left as it is: a frozen copy in float64 is explained.

    Args:
        network: one of ours, or any module that takes a CrystalBatch and returns [B].
        record: of :class:`interpret.runner.Runner`: ``StructureRecord`` or ``Prepared``.
        method: a name of :data:`interpret.attribution.METHODS`.
        players: ``words``, ``sentences``, ``atoms``, ``orbits`` or ``bonds``.
        encoder: the text encoder, for words and sentences.
        target: the prediction, or a tap.
        baseline: a name of :data:`interpret.attribution.BASELINES`; None for the method's default.
        seed: of explainers that draw.

    Raises:
        AttributionError: the method, the players, the target or the baseline do not exist or do not fit.
        TapError: the target is no tap, or its module runs twice in a pass.
    """
    explained = Explained(network, encoder, target or Target())
    frequencies = frequencies_of([record])
    request = Request(explained.subject(record), players_of(record, players), baseline, seed, frequencies=frequencies)
    return explain(request, method)
