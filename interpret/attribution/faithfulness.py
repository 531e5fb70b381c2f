"""Hold an explanation against the network: take out what it names, keep what it names, and look."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interpret.attribution.ablation import Function
from interpret.attribution.explanation import Explanation, Floats
from interpret.attribution.games import Coalitions, Game
from interpret.metrics import faithfulness as kernels

# Draws over which an order with ties is averaged: one draw would be one random explainer. Where all are tied, chance is
# all there is to the order.
ALL_TIED_DRAWS = 10
TIE_DRAWS = 3
# Random coalitions for infidelity, the same for every explainer, each player absent with probability one half.
PERTURBATIONS = 16
SEED = 0


@dataclass(frozen=True)
class Removal:
    """An explanation's order, as coalitions to evaluate.

    Attributes:
        without: [draws, S, P] without the first players of each share.
        only: [draws, S, P] with nothing but them.
    """

    without: Coalitions
    only: Coalitions


def removal_of(explanation: Explanation) -> Removal:
    """The coalitions that decide whether an explanation is faithful; several orders where it has ties."""
    players = len(explanation.values)
    counts = kernels.removal_counts(players)
    ties = kernels.tie_levels(explanation.values)
    draws = 1 if not explanation.tied else ALL_TIED_DRAWS if np.ptp(ties) == 0 else TIE_DRAWS
    without = np.ones((draws, len(counts), players), dtype=bool)
    for draw in range(draws):
        order = explanation.order(seed=SEED + draw)
        for row, count in enumerate(counts):
            without[draw, row, order[:count]] = False
    return Removal(without, ~without)


def perturbations(players: int, seed: int = SEED) -> Coalitions:
    """Random coalitions for infidelity, [K, P]."""
    return np.random.default_rng((seed, players)).random((PERTURBATIONS, players)) < 0.5


def prepare(game: Game, explanations: list[Explanation]) -> None:
    """Evaluate everything that measuring these explanations asks for, in as few passes as fit memory."""
    players = len(game.players)
    rows = [np.ones((1, players), dtype=bool), np.zeros((1, players), dtype=bool), ~np.eye(players, dtype=bool)]
    rows.append(perturbations(players))
    for explanation in explanations:
        removal = removal_of(explanation)
        rows += [removal.without.reshape(-1, players), removal.only.reshape(-1, players)]
    game.values(np.concatenate(rows))


def measure(explanation: Explanation, game: Game) -> dict[str, Any]:
    """Columns of the faithfulness table for one explanation.

    ``change`` is ``|m(all) - m(none)|``. Comprehensiveness, sufficiency and areas are in the unit of the target. Where
    a structure has fewer than two players there is no order to be right or wrong about, and all is NaN.
    """
    players = len(explanation.values)
    full, empty = game.full, game.empty
    columns: dict[str, Any] = {"players": players, "change": abs(full - empty)}
    if players < 2:
        return columns | _undefined("fewer than two players")
    removal = removal_of(explanation)
    draws, shares, _ = removal.without.shape
    lost = _values(game, removal.without, draws, shares)
    alone = _values(game, removal.only, draws, shares)
    whole = np.full(draws, full)
    comprehensiveness = kernels.comprehensiveness(whole, lost).mean(axis=0)
    sufficiency = kernels.sufficiency(whole, alone).mean(axis=0)
    agreement = kernels.rank_agreement(explanation.values, full - game.without_each())
    ends = abs(full - empty)
    columns |= {
        "comprehensiveness": float(kernels.aopc(comprehensiveness)),
        "sufficiency": float(kernels.aopc(sufficiency)),
        **{f"comprehensiveness_{100 * s:g}": float(v) for s, v in zip(kernels.SHARES, comprehensiveness, strict=True)},
        **{f"sufficiency_{100 * s:g}": float(v) for s, v in zip(kernels.SHARES, sufficiency, strict=True)},
        "deletion_area": kernels.curve_area((0.0, *kernels.SHARES, 1.0), np.array([0.0, *comprehensiveness, ends])),
        "insertion_area": kernels.curve_area((0.0, *kernels.SHARES, 1.0), np.array([ends, *sufficiency, 0.0])),
        **_as_shares(ends, comprehensiveness, sufficiency),
        # Ablation is what the others are held against.
        "tau_leave_one_out": math.nan if explanation.method == "ablation" else agreement.tau,
        "infidelity": infidelity(explanation, game),
        "reason": agreement.reason or "",
    }
    return columns


def _values(game: Game, keep: Coalitions, draws: int, shares: int) -> Floats:
    return game.values(keep.reshape(draws * shares, -1)).reshape(draws, shares)


def _as_shares(change: float, comprehensiveness: Floats, sufficiency: Floats) -> dict[str, float]:
    """Figures of Amara et al. (arXiv 2206.09677), of shares of the change; NaN where players cancel."""
    found = {"characterization": math.nan, "fidelity_area": math.nan}
    if not change > 0:
        return found
    lost, missed = comprehensiveness / change, sufficiency / change
    found["characterization"] = float(kernels.characterization_score(kernels.aopc(lost), kernels.aopc(missed)))
    if (missed < 1).all():
        found["fidelity_area"] = kernels.fidelity_curve_area(lost, missed, kernels.SHARES)
    return found


def _undefined(reason: str) -> dict[str, Any]:
    names = ["comprehensiveness", "sufficiency", "deletion_area", "insertion_area", "characterization", "fidelity_area"]
    names += [f"{name}_{100 * share:g}" for name in ("comprehensiveness", "sufficiency") for share in kernels.SHARES]
    return dict.fromkeys([*names, "tau_leave_one_out", "infidelity"], math.nan) | {"reason": reason}


def infidelity(explanation: Explanation, game: Game) -> float:
    """Infidelity (Yeh et al., NeurIPS 2019) by captum, in the squared unit of the target.

    Mean square of what an explanation says random coalitions lose, minus what they lose, after the best scaling of the
    explanation: weights have no unit, and only their proportions can be judged.
    """
    from captum.metrics import infidelity as captum_infidelity

    absent = torch.from_numpy(~perturbations(len(game.players))).double()

    def take_out(everyone: Tensor) -> tuple[Tensor, Tensor]:
        rows = absent[: len(everyone)]
        return rows, everyone - rows

    everyone = torch.ones(1, len(game.players), dtype=torch.float64)
    values = torch.from_numpy(explanation.values)[None]
    found = captum_infidelity(
        Function(game), take_out, everyone, values, n_perturb_samples=PERTURBATIONS, normalize=True
    )
    return float(found)


def sensitivity(explain: Any, inputs: Tensor, *, share: float = 0.05, samples: int = 2, seed: int = SEED) -> float:
    """Sensitivity (Yeh et al., NeurIPS 2019) by captum: change of an explanation under a small change of input.

    Args:
        explain: inputs [K, U, C] to values [K, U].
        inputs: [U, C].
        share: radius of the change, over the root mean square of the inputs.
        samples: changes drawn; the largest effect counts.
    """
    from captum.metrics import sensitivity_max

    radius = share * float(inputs.square().mean().sqrt())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        found = sensitivity_max(
            lambda given: (explain(given[0] if isinstance(given, tuple) else given),),
            inputs[None],
            perturb_radius=radius,
            n_perturb_samples=samples,
        )
    return float(found)


def order_agreement(a: Explanation, b: Explanation) -> float:
    """Spearman's correlation of the sizes of two explanations; NaN where one is the same for every player."""
    from scipy import stats

    first, second = kernels.tie_levels(a.values), kernels.tie_levels(b.values)
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(stats.spearmanr(first, second).statistic)
