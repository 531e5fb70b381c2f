"""What the rules on attention measure: columns of attention maps, padding, and branches of the network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np
import torch

from interpret.checks.base import Measured
from interpret.checks.estimates import Detailed, Values, column, ids
from interpret.checks.evidence import Evidence
from interpret.gradients import probe_batch
from interpret.hooks import HookRegistry
from interpret.root_cause import TAP
from model.network import CrystalTextNetwork

REINITIALIZED = "counterfactual.attention_reinitialized_{}"
SINGLE_KEY_TAPS = ("cross_modal.graph_to_text", "cross_modal.text_to_graph")
FINE_GRAINED = "fine_grained_attention"
TOKEN_TO_ATOM = ("t2a_query", "t2a_key", "t2a_value", "token_output", "layer_norm_token")
ATOM_TO_TOKEN = ("a2t_query", "a2t_key", "a2t_value", "node_output", "layer_norm_node")
# Beyond this share of a structure's rows the heads are saturated, and how alike atoms are cannot be read from them.
MOSTLY_SATURATED = 0.5


def maps(evidence: Evidence) -> list[str]:
    """Attention maps from atoms to tokens in the structures table, the one before the readout first."""
    suffix = ".averaged.entropy"
    found = sorted(str(name).removesuffix(suffix) for name in evidence.structures if str(name).endswith(suffix))
    return sorted(found, key=lambda name: name != TAP)


def no_map(evidence: Evidence) -> str | None:
    """Why a rule about maps cannot run; None where it can."""
    if not len(evidence.structures):
        return "no structure was analysed"
    return None if maps(evidence) else "the network has no attention from atoms to tokens"


def lacks_column(evidence: Evidence, name: str) -> str | None:
    """Why a rule that reads a column of counterfactuals cannot run; None where it can."""
    return None if name in evidence.structures else f"the run has no column {name}"


def by_map(
    evidence: Evidence,
    what: str,
    values: Callable[[str], Values],
    details: Callable[[str], Mapping[str, float | Values]] = lambda _: {},
) -> Detailed:
    """A measure of several maps: units are ``TAP ID``."""
    names, taps = ids(evidence), maps(evidence)
    return Detailed(
        values=np.concatenate([values(tap) for tap in taps]),
        units=tuple(f"{tap} {name}" for tap in taps for name in names),
        what=what,
        details={tap: details(tap) for tap in taps},
    )


def quotient(above: Values, below: Values) -> Values:
    """Elementwise ``above / below``, [n]; NaN where ``below`` is not positive."""
    result: Values = np.divide(above, below, out=np.full(len(below), np.nan), where=below > 0)
    return result


def unsaturated(evidence: Evidence, tap: str, name: str) -> Values:
    """A column of a map, [n]; NaN for structures most of whose rows are saturated."""
    saturated = column(evidence, f"{tap}.saturation") >= MOSTLY_SATURATED
    return np.where(saturated, np.nan, column(evidence, f"{tap}.{name}"))


def saturated_heads(evidence: Evidence, tap: str) -> Mapping[str, float | Values]:
    """Number of heads, of those with a majority of saturated rows, and share of rows with the fingerprint."""
    figures: dict[str, float | Values] = {}
    if len(evidence.heads) and "saturation" in evidence.heads:
        heads = evidence.heads[evidence.heads["tap"] == tap].groupby("head")["saturation"].mean()
        figures |= {"heads": float(len(heads)), "saturated": float((heads > MOSTLY_SATURATED).sum())}
    fingerprint = column(evidence, f"{tap}.averaged.one_hot_fingerprint")
    if np.isfinite(fingerprint).any():
        figures["fingerprint"] = float(np.nanmean(fingerprint))
    return figures


def draws(evidence: Evidence, name: str) -> Values:
    """A column of the passes with re-initialised queries and keys, [draws, n]."""
    found: list[Values] = []
    while f"{REINITIALIZED.format(len(found))}.{name}" in evidence.structures:
        found.append(column(evidence, f"{REINITIALIZED.format(len(found))}.{name}"))
    return np.stack(found) if found else np.zeros((0, len(evidence.structures)))


def moved(evidence: Evidence, change: str) -> Values:
    """How far one change of the attention moves each prediction, [n], in the unit of the target."""
    change_to = column(evidence, f"counterfactual.attention_{change}.prediction")
    return np.asarray(np.abs(column(evidence, "prediction") - change_to))


def moved_untrained(evidence: Evidence) -> Values:
    """How far making the attention uniform moves the prediction of re-initialised queries and keys, [n]."""
    uniform = column(evidence, "counterfactual.attention_uniform.prediction")
    return np.asarray(np.abs(draws(evidence, "prediction") - uniform).mean(axis=0))


def spread(evidence: Evidence) -> float:
    """Standard deviation of the predictions over structures; NaN for fewer than two."""
    predictions = column(evidence, "prediction")
    known = predictions[np.isfinite(predictions)]
    return float(np.std(known, ddof=1)) if len(known) > 1 else float("nan")


def padded_statistics(evidence: Evidence, tap: str) -> dict[str, tuple[Values, Values]]:
    """Statistics of a map as they are and as a padded computation would have them, ([n], [n]) by name.

    The padded array is as large as the largest structure and the longest text of the data set. Padded tokens have
    weight 0: they leave the entropy as it is, raise its largest possible value, and raise the Gini coefficient of a row
    from G to ``1 - T / L + G T / L``. Padded atoms have a query of zero: their rows are uniform over the real tokens,
    and count in the mean over atoms.
    """
    atoms, tokens = column(evidence, "atoms"), column(evidence, "tokens")
    most_atoms, most_tokens = np.nanmax(atoms), np.nanmax(tokens)
    real, kept = atoms / most_atoms, tokens / most_tokens
    own = {name: column(evidence, f"{tap}.{name}") for name in ("gini", "entropy", "max_weight", "effective_tokens")}
    uniform = {
        "gini": np.zeros(len(tokens)),
        "entropy": np.log(tokens),
        "max_weight": 1 / tokens,
        # Of the count of weights above 0.1.
        "effective_tokens": np.where(1 / tokens > 0.1, tokens, 0.0),
    }
    mixed = {name: real * own[name] + (1 - real) * uniform[name] for name in own}
    mixed["gini"] = 1 - kept * (1 - mixed["gini"])
    return {name: (own[name], mixed[name]) for name in own}


def single_key_weights(network: CrystalTextNetwork, what: str) -> Measured:
    """Least weight that each cross-modal map takes over probe crystals, heads and queries; no unit without a map."""
    twin = copy.deepcopy(network).cpu().double().eval()
    registry = HookRegistry(twin)
    names = [name for name in SINGLE_KEY_TAPS if name in registry.taps]
    if not names:
        return Measured(np.zeros(0), (), what)
    registry.capture(*names)
    with registry as captured, torch.no_grad():
        twin(probe_batch(network.config))
    fired = [name for name in names if name in captured]
    weights = [float(captured[name].values.min()) for name in fired]
    return Measured(np.array(weights, dtype=np.float64), tuple(fired), what)
