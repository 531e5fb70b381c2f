"""What would the network have said, had one thing been otherwise: extra passes that share the unchanged layers.

Every counterfactual adds columns ``counterfactual.NAME.*`` to the structures table. A change of text goes on from
the state before the first middle fusion, a change of attention from the state after the last graph layer, so that
the ALIGNN layers, which are most of the cost, run once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from interpret import interventions
from interpret.attention_changes import Reweigh, soften, untrained_attention
from interpret.hooks import Captured, HookRegistry, Intervene
from interpret.measure.attention import difference_columns
from interpret.measure.changes import gate_change_columns, text_change_columns, text_flow_columns
from interpret.metrics import attention, nodes
from interpret.text_changes import Texts, mask_token, masked_text, other_text, select_structures, with_texts
from model.batch import CrystalBatch
from model.network import CrystalTextNetwork, GraphState

if TYPE_CHECKING:
    from interpret.runner import Prepared
    from model.encoder import TextEncoder

# Which state a counterfactual goes on from: before the first middle fusion, or after the last graph layer.
Start = Literal["fusion", "end"]
SHUFFLES = 2
MASKED_SHARES = (25, 50, 75)
# Texts whose words are masked: each costs a pass of the encoder a share, the most expensive part of a diagnosis.
MOST_MASKED_TEXTS = 8
REINITIALIZATIONS = 3
ATTENTION = "attention.atom_to_token"


@dataclass(frozen=True)
class Counterfactual:
    """One change.

    Attributes:
        name: of the columns, e.g. ``text_empty``.
        start: the state it goes on from.
        texts: the text each structure gets in place of its own; None keeps it. A structure for which it gives None is
            left out and has NaN.
        interventions: (tap pattern, function); patterns that match no tap of the network are left out.
        atoms: change of the atoms [N, d] of the state, given the batch; None keeps them.
        weights: puts other weights into the network for the pass, and its own back.
        needs: patterns of which at least one must match a tap, or the counterfactual does not apply.
        diversity: also measure how different atoms are: for the root cause of a collapse.
        gates: also measure how far the gates move: for gates that do not see the text.
        flow: also measure how much the atoms still resemble their own text, at every stage from the fusion on.
        text_change: also measure how far the text that each fusion let in moved the atoms of the ordinary pass.
        entropy: also measure the normalized entropy of the attention to tokens.
    """

    name: str
    start: Start
    texts: Texts | None = None
    interventions: tuple[tuple[str, Intervene], ...] = ()
    atoms: Callable[[Tensor, CrystalBatch], Tensor] | None = None
    weights: Reweigh | None = None
    needs: tuple[str, ...] = ()
    diversity: bool = False
    gates: bool = False
    flow: bool = False
    text_change: bool = False
    entropy: bool = False


def standardize_atoms(values: Tensor, batch: CrystalBatch) -> Tensor:
    """Each channel centred over the atoms of a structure, then all of them scaled to the norm they had.

    Removes what all atoms have in common. Structures whose atoms do not differ by more than rounding are left as they
    are: there is nothing to bring out, and scaling up would bring out the rounding.
    """
    owner, counts = batch.atom_owner, batch.atoms_per_structure
    shape = (len(counts), values.shape[1])
    means = (values.new_zeros(shape).index_add(0, owner, values) / counts[:, None])[owner]
    centred = values - means

    def norm(rows: Tensor) -> Tensor:
        return values.new_zeros(len(counts)).index_add(0, owner, rows.square().sum(dim=1)).sqrt()

    before, after = norm(values), norm(centred)
    rounding = 1e3 * torch.finfo(values.dtype).eps
    differ = after > rounding * before
    factor = torch.where(differ, before / after, 1.0)[owner]
    return torch.where(differ[owner][:, None], centred * factor[:, None], values)


def standard_counterfactuals(encoder: TextEncoder, pool: Sequence[str], seed: int = 0) -> list[Counterfactual]:
    """The counterfactuals that the rules read.

    Args:
        encoder: of the network.
        pool: texts to draw other texts from.
        seed: of the draws.
    """
    empty = encoder.encode([""])[0]
    attention = (ATTENTION,)
    changes = [
        Counterfactual("text_empty", "fusion", texts=lambda _: empty, gates=True),
        *(
            Counterfactual(
                f"text_shuffled_{i}", "fusion", texts=other_text(encoder, pool, seed + i), gates=True, flow=i == 0
            )
            for i in range(SHUFFLES)
        ),
        *masked_counterfactuals(encoder, pool, seed),
        Counterfactual(
            "gate_closed",
            "fusion",
            interventions=(("fusion.*.gate", interventions.zero()),),
            needs=("fusion.*.gate",),
            text_change=True,
        ),
        Counterfactual(
            "fusion_off",
            "fusion",
            interventions=(("fusion.*.nodes", interventions.bypass()),),
            needs=("fusion.*.nodes",),
            diversity=True,
        ),
        Counterfactual("nodes_standardized", "end", atoms=standardize_atoms, needs=attention, diversity=True),
    ]
    for name, change in (
        ("uniform", interventions.uniform()),
        ("permuted", interventions.permute(seed)),
        ("sharpened", interventions.sharpen(4.0)),
        ("softened", soften),
    ):
        changes.append(
            Counterfactual(
                f"attention_{name}",
                "end",
                interventions=((attention[0], change),),
                needs=attention,
                diversity=name in ("sharpened", "softened"),
            )
        )
    for i in range(REINITIALIZATIONS):
        untrained = untrained_attention(seed + i)
        changes.append(
            Counterfactual(f"attention_reinitialized_{i}", "end", weights=untrained, needs=attention, entropy=True)
        )
    return changes


def masked_counterfactuals(encoder: TextEncoder, pool: Sequence[str], seed: int = 0) -> list[Counterfactual]:
    """A growing share of the words hidden, for a few texts; none where the encoder has no mask token."""
    token = mask_token(encoder)
    if token is None:
        return []
    chosen = frozenset(pool[:MOST_MASKED_TEXTS])
    return [
        Counterfactual(f"text_masked_{share}", "fusion", texts=masked_text(encoder, token, chosen, share / 100, seed))
        for share in MASKED_SHARES
    ]


class StateKeeper:
    """Keeps, of an ordinary forward pass, the states that counterfactuals go on from; a context manager."""

    def __init__(self, network: CrystalTextNetwork) -> None:
        self.network = network
        steps = [kind for kind, _ in network.steps]
        self.before_fusion = steps.index("fusion") if "fusion" in steps else len(steps)
        self._first: Tensor | None = None
        self._bonds: tuple[Tensor, Tensor] | None = None
        self._atoms: Tensor | None = None
        self._last: Tensor | None = None
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> StateKeeper:
        network = self.network
        self._handles.append(network.atom_embedding.register_forward_hook(self._keep_first))
        if self.before_fusion < len(network.steps):
            layer = network.steps[self.before_fusion][1]
            self._handles.append(network.alignn_layers[layer].register_forward_hook(self._keep_layer))
            fusion = network.middle_fusion_modules[f"layer_{layer}"]
            self._handles.append(fusion.register_forward_pre_hook(self._keep_atoms))
        attention = network.config.use_fine_grained_attention
        reader = network.fine_grained_attention if attention else network.readout
        self._handles.append(reader.register_forward_pre_hook(self._keep_last))
        return self

    def __exit__(self, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _keep_first(self, _: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._first = output

    def _keep_layer(self, _: object, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        self._bonds = (output[1], output[2])

    def _keep_atoms(self, _: object, inputs: tuple[Tensor, ...]) -> None:
        self._atoms = inputs[0]

    def _keep_last(self, _: object, inputs: tuple[Tensor, ...]) -> None:
        self._last = inputs[0]

    def state(self, start: Start) -> GraphState:
        """The state before the first fusion or after the last layer, of the last forward pass."""
        assert self._first is not None
        assert self._last is not None
        if start == "fusion" and self._atoms is not None and self._bonds is not None:
            return GraphState(self._atoms, *self._bonds, self._first, self.before_fusion)
        # After the last layer only the atoms are read.
        return GraphState(self._last, self._last, self._last, self._first, len(self.network.steps))


def run_counterfactual(
    change: Counterfactual,
    network: CrystalTextNetwork,
    batch: CrystalBatch,
    prepared: Sequence[Prepared],
    keeper: StateKeeper,
    base: Captured,
) -> list[dict[str, float]] | None:
    """Columns of each structure under one change; None where the network has nothing to change.

    Args:
        batch: of the ordinary pass. keeper, base: states and captures of that pass.
    """
    registry = HookRegistry(network)
    names = list(registry.taps)
    if change.needs and not _matching(names, change.needs):
        return None
    for pattern, function in change.interventions:
        if _matching(names, (pattern,)):
            registry.intervene(pattern, function)
    registry.capture(lambda name: _measured(name, change, names))
    state, rows = keeper.state(change.start), list(range(len(prepared)))
    if change.texts is not None:
        encodings = {row: text for row, one in enumerate(prepared) if (text := change.texts(one)) is not None}
        rows = list(encodings)
        if not rows:
            return [{"prediction": float("nan")} for _ in prepared]
        if len(rows) < len(prepared):
            batch, state = select_structures(batch, state, rows, bonds=state.done < len(network.steps))
        batch = with_texts(batch, list(encodings.values()))
    if change.atoms is not None:
        state = state._replace(x=change.atoms(state.x, batch))
    reweighed = nullcontext() if change.weights is None else change.weights(network)
    with reweighed, registry as captured, torch.no_grad():
        predictions = network(batch, state=state, lean=True)
    found = [{"prediction": float(value)} for value in predictions]
    if change.diversity:
        _add_diversity(found, captured, [prepared[row] for row in rows], last_nodes(names))
    if change.gates:
        _extend(found, gate_change_columns(captured, base, rows))
    if change.flow:
        _extend(found, text_flow_columns(network, captured, base, rows))
    if change.text_change:
        _extend(found, text_change_columns(network, base, rows))
    if change.entropy:
        for column, weights in zip(found, captured[ATTENTION].per_structure(), strict=True):
            column["normalized_entropy"] = float(attention.normalized_entropy(weights.double().cpu()).mean())
    columns = dict(zip(rows, found, strict=True))
    return [columns.get(row, {"prediction": float("nan")}) for row in range(len(prepared))]


def _measured(name: str, change: Counterfactual, names: Sequence[str]) -> bool:
    """Whether a change is measured at a tap."""
    stage = name.endswith(".nodes") and name != "attention.nodes"
    return (
        (change.diversity and name in (ATTENTION, last_nodes(names)))
        or (change.entropy and name == ATTENTION)
        or (change.gates and fnmatchcase(name, "fusion.*.gate"))
        or (change.flow and (stage or name.endswith(".text_transform")))
    )


def last_nodes(names: Sequence[str]) -> str:
    """The tap of the atoms that go to the readout before any attention to tokens."""
    return [name for name in names if name.endswith(".nodes") and name != "attention.nodes"][-1]


def _matching(names: Sequence[str], patterns: tuple[str, ...]) -> list[str]:
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _add_diversity(
    columns: list[dict[str, float]], captured: Captured, prepared: Sequence[Prepared], nodes_tap: str
) -> None:
    if ATTENTION in captured:
        for row, one, weights in zip(columns, prepared, captured[ATTENTION].per_structure(), strict=True):
            row |= difference_columns(weights.double().cpu(), one.classes.labels)
    if nodes_tap in captured:
        for row, one, values in zip(columns, prepared, captured[nodes_tap].per_structure(), strict=True):
            distance = nodes.mean_average_distance(values.double().cpu(), classes=one.classes.labels)
            row["between_class_distance"] = float(distance.plain)


def _extend(rows: list[dict[str, float]], columns: Sequence[Mapping[str, float]]) -> None:
    for row, more in zip(rows, columns, strict=True):
        row.update(more)
