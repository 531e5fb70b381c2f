"""Feature ablation: what the target loses with one player absent (captum ``FeatureAblation`` on the game)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from interpret.attribution.explanation import Floats
from interpret.attribution.games import Game


class Function:
    """A game as a function of tensors; a number above one half means present."""

    def __init__(self, game: Game) -> None:
        self.game = game

    def __call__(self, present: Tensor) -> Tensor:
        """[K, P] to float64 [K]."""
        return torch.from_numpy(self.game.values(present.detach().cpu().numpy() > 0.5))


def ablate(game: Game) -> Floats:
    """Target with everyone minus target without each player, [P]; all coalitions in as few passes as fit memory.

    Zeiler and Fergus, ECCV 2014; the leave-one-out importance of Jain and Wallace, NAACL 2019. Values do not sum to
    the change of the target where players interact.
    """
    from captum.attr import FeatureAblation

    everyone = torch.ones(1, len(game.players), dtype=torch.float64)
    values = FeatureAblation(Function(game)).attribute(
        everyone, baselines=0.0, perturbations_per_eval=len(game.players)
    )
    return np.asarray(values[0].numpy(), dtype=np.float64)
