"""What is explained: a network's prediction, or a tap, for one structure, as a function of many inputs at once.

One forward pass takes many copies of the structure, each with another text or other atoms. Where only texts differ,
the graph layers before the first fusion, which are most of the cost, run once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from interpret.attribution.encoder_path import TextPath
from interpret.attribution.explanation import AttributionError
from interpret.hooks import HookRegistry, layout_of_call
from interpret.taps import TapTable
from model.batch import CrystalBatch, collate
from model.network import CrystalTextNetwork, GraphState

if TYPE_CHECKING:
    from interpret.attribution.players import Described
    from model.encoder import TextEncoder

# Features of all angles of all copies in a pass. Larger tensors are no faster on a CPU: the memory of each is asked of
# the system anew, which costs more than a pass does.
BYTES_PER_PASS = 1 << 22
MOST_ROWS = 64
# Taken for the width of networks that do not state theirs.
USUAL_WIDTH = 256


@dataclass(frozen=True)
class Target:
    """What is explained.

    Attributes:
        tap: name of a tap; None for the prediction.
        channel: of the tap, mean over atoms and heads. None takes all channels along the direction they have at the
            structure's own input, so that the target there is the norm of the tap's mean.
        unit: of the values.
    """

    tap: str | None = None
    channel: int | None = None
    unit: str = "unit of the target"

    @property
    def name(self) -> str:
        """As results carry it."""
        if self.tap is None:
            return "prediction"
        return self.tap if self.channel is None else f"{self.tap}[{self.channel}]"


@dataclass
class Explained:
    """A frozen copy of a network with its encoder: what :class:`Subject` is made from, once for a data set.

    Attributes:
        network: one of ours, or any module that takes a :class:`model.batch.CrystalBatch` and returns [B].
        encoder: the text encoder the network was trained with; None where no text is changed.
        target: what is explained.
        taps: the tap table of a module that is not ours, for a target that is a tap.
        mean_features: [F] features of the mean atom; None takes the mean over the elements.
    """

    network: nn.Module
    encoder: TextEncoder | None = None
    target: Target = Target()
    device: str = "cpu"
    dtype: torch.dtype = torch.float64
    taps: TapTable | None = None
    mean_features: Tensor | None = None

    def __post_init__(self) -> None:
        frozen = copy.deepcopy(self.network).to(device=self.device, dtype=self.dtype).eval()
        self.network = frozen.requires_grad_(False)
        self.path = None if self.encoder is None else TextPath(self.encoder)

    def subject(self, structure: Described) -> Subject:
        """One structure of it."""
        return Subject(self, structure)

    def swapped(self, network: nn.Module) -> Explained:
        """The same with another network."""
        return replace(self, network=network)


class Subject:
    """The target for one structure; all methods take K variants of it and return [K] in the dtype of the network."""

    def __init__(self, explained: Explained, structure: Described) -> None:
        self.explained = explained
        self.structure = structure
        self.id = str(getattr(structure, "id", None) or structure.sample.id)  # type: ignore[attr-defined]
        self.batch = collate([structure.graph], [structure.encoding]).to(explained.device, explained.dtype)
        width = getattr(getattr(explained.network, "config", None), "hidden_features", USUAL_WIDTH)
        size = self.batch.angle_cosines.element_size() * width * max(1, len(self.batch.angle_source))
        self.rows_per_pass = min(MOST_ROWS, max(1, BYTES_PER_PASS // size))

    @property
    def network(self) -> nn.Module:
        """The frozen network."""
        return self.explained.network

    @property
    def path(self) -> TextPath:
        """The text encoder.

        Raises:
            AttributionError: none was given.
        """
        if self.explained.path is None:
            raise AttributionError("attribution to the text needs the text encoder: pass encoder=load_encoder(...)")
        return self.explained.path

    @cached_property
    def output(self) -> float:
        """The target at the structure's own input."""
        with torch.no_grad():
            return float(self._evaluate(self.batch, None)[0])

    @cached_property
    def _shared(self) -> tuple[GraphState, int] | None:
        """The state that any text can go on from; None where there is none, or a target before it needs the layers."""
        network = self.network
        if not isinstance(network, CrystalTextNetwork) or self.explained.target.tap is not None:
            return None
        kinds = [kind for kind, _ in network.steps]
        until = kinds.index("fusion") if "fusion" in kinds else len(kinds)
        with torch.no_grad():
            return network.advance(network.start(self.batch), self.batch, None, until), until

    def with_tokens(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """The target for token embeddings [K, L, D] with mask [K, L], differentiable; the atoms stay."""
        batch = copies(self.batch, len(tokens))
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        batch = batch.with_tokens(tokens.to(self.batch.token_embeddings), mask.to(self.batch.token_mask.device))
        state = None
        if self._shared is not None:
            shared, until = self._shared
            repeated = [part.repeat(len(tokens), *[1] * (part.ndim - 1)) for part in shared[:4]]
            state = GraphState(repeated[0], repeated[1], repeated[2], repeated[3], until)
        return self._evaluate(batch, state)

    def with_token_list(self, tokens: Sequence[Tensor]) -> Tensor:
        """The target for texts of different lengths, [L_k, D] each; no gradients."""
        results = []
        for start in range(0, len(tokens), self.rows_per_pass):
            part = tokens[start : start + self.rows_per_pass]
            mask = torch.arange(max(map(len, part))) < torch.tensor([len(one) for one in part])[:, None]
            with torch.no_grad():
                results.append(self.with_tokens(nn.utils.rnn.pad_sequence(list(part), batch_first=True), mask))
        return torch.cat(results)

    def with_features(self, features: Tensor) -> Tensor:
        """The target for atom features [K, N, F], differentiable; the text stays.

        Raises:
            AttributionError: the network does not read atom features.
        """
        config = getattr(self.network, "config", None)
        if getattr(config, "element_embedding", "none") != "none":
            raise AttributionError(
                "this network embeds elements and never reads atom features: changing them would change nothing. "
                "Use players 'bonds', or a network with element_embedding 'none'"
            )
        batch = copies(self.batch, len(features))
        flat = features.to(self.batch.atom_features).flatten(0, 1)
        return self._evaluate(replace(batch, atom_features=flat), None)

    def with_batch(self, batch: CrystalBatch) -> Tensor:
        """The target for a batch made elsewhere; no gradients."""
        with torch.no_grad():
            return self._evaluate(batch, None)

    def _evaluate(self, batch: CrystalBatch, state: GraphState | None) -> Tensor:
        target = self.explained.target
        if target.tap is None:
            # Nothing but the prediction is read of these passes.
            options: dict[str, Any] = {"lean": True} if isinstance(self.network, CrystalTextNetwork) else {}
            if state is not None:
                options["state"] = state
            output: Tensor = self.network(batch, **options)
            if output.shape != (len(batch),):
                raise AttributionError(
                    f"expected one prediction a structure ([{len(batch)}]), got {list(output.shape)}"
                )
            return output
        pooled = self._pooled(batch, target.tap)
        if target.channel is not None:
            if not 0 <= target.channel < pooled.shape[1]:
                raise AttributionError(
                    f"tap {target.tap!r} has channels 0..{pooled.shape[1] - 1}, not {target.channel}"
                )
            return pooled[:, target.channel]
        along: Tensor = pooled @ self._direction
        return along

    @cached_property
    def _direction(self) -> Tensor:
        with torch.no_grad():
            own = self._pooled(self.batch, str(self.explained.target.tap))[0]
        norm = own.norm()
        if not float(norm) > 0:
            raise AttributionError(f"tap {self.explained.target.tap!r} is zero for {self.id}: name a channel")
        direction: Tensor = own / norm
        return direction

    def _pooled(self, batch: CrystalBatch, tap: str) -> Tensor:
        """Mean of a tap over the atoms (and heads) of each structure, [K, channels].

        A tap that fires twice in a pass is refused by the registry: one value cannot stand for it.
        """
        layout = layout_of_call if self.explained.taps is not None else None
        registry = HookRegistry(self.network, self.explained.taps, layout).capture(tap, detach=False)
        axes = registry.taps[tap].axes
        if axes[-1] != "channel" or "token" in axes:
            raise AttributionError(
                f"tap {tap!r} has axes {axes}: a target must have channels, and no tokens, whose number changes when "
                "words are taken out"
            )
        with registry as captured:
            self.network(batch)
        return torch.stack([one.reshape(-1, one.shape[-1]).mean(dim=0) for one in captured[tap].per_structure()])


def copies(batch: CrystalBatch, count: int) -> CrystalBatch:
    """A batch of ``count`` copies of a batch of one structure."""
    offsets = {"bond_source": "atom", "bond_target": "atom", "angle_source": "bond", "angle_target": "bond"}
    sizes = {"atom": len(batch.atom_features), "bond": len(batch.bond_source)}
    parts: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if value is None:
            continue
        repeated = value.repeat(count, *[1] * (value.ndim - 1))
        if field.name in offsets:
            number = torch.arange(count, device=value.device)
            repeated = repeated + torch.repeat_interleave(number * sizes[offsets[field.name]], len(value))
        parts[field.name] = repeated
    return CrystalBatch(**parts)


def in_passes(function: Callable[[Tensor], Tensor], values: Tensor, rows: int) -> Tensor:
    """A function of [K, ...] to [K], at most ``rows`` at a time, without gradients."""
    with torch.no_grad():
        return torch.cat([function(part) for part in torch.split(values, rows)])
