"""The zoo: checkpoints with one known defect each, made from a healthy trained network of the demo's
configuration."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.config import ModelConfig
from model.network import CrystalTextNetwork

SEED = 0
# Layers of pure diffusion that the over-smoothed member has on top of those it was trained with.
DIFFUSION_LAYERS = 12
# Far into the linear part of SiLU: silu(z) = z - z exp(-z) + ..., an error of 1e-9 at 25.
LINEAR_RANGE = 25.0

# Rules that speak of every network with the demo's architecture, healthy or not, as information: two branches whose
# weights mean nothing (CK105, AT607), the one weight that is 1 (AT606), and what padding would do to the statistics.
ALWAYS = frozenset({"AT606", "AT607", "AT609", "CK105"})

Change = Callable[[CrystalTextNetwork], CrystalTextNetwork]


@dataclass(frozen=True)
class Member:
    """One checkpoint of the zoo.

    Attributes:
        name: also of its file.
        defect: what was done, in words.
        change: healthy network to defective one; None where ``config`` says it all and the member is trained.
        config: changes of the configuration it is trained with.
        lost: prefixes of keys left out of the file, which then loads only partially.
        expected: codes of the rules that must speak, separated by spaces, without those of ``ALWAYS``.
    """

    name: str
    defect: str
    change: Change | None = None
    config: dict[str, Any] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    expected: str = ""

    @property
    def is_trained(self) -> bool:
        """Whether it needs a training run of its own."""
        return self.change is None and not self.lost

    @property
    def codes(self) -> frozenset[str]:
        """Codes that must speak."""
        return ALWAYS | frozenset(self.expected.split())

    def file(self, folder: Path) -> Path:
        """Where it lies: a directory of ``save_pretrained``, or a plain file where keys are lost."""
        return folder / (f"{self.name}.pt" if self.lost else self.name)

    def save(self, network: CrystalTextNetwork, folder: Path) -> None:
        """Write the checkpoint."""
        if not self.lost:
            network.save_pretrained(self.file(folder))
            return
        state = {name: value for name, value in network.state_dict().items() if not name.startswith(self.lost)}
        torch.save({"model": state, "config": network.config.model_dump(mode="json")}, self.file(folder))


def _fusions(network: CrystalTextNetwork) -> Iterator[nn.Module]:
    yield from network.middle_fusion_modules.values()


def _rebuilt(network: CrystalTextNetwork, **changes: Any) -> CrystalTextNetwork:
    """The same weights in a network of a changed configuration; what is new is drawn with the seed."""
    config = ModelConfig.model_validate({**network.config.model_dump(), **changes})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)
        other = CrystalTextNetwork(config)
    other.load_state_dict({**other.state_dict(), **network.state_dict()})
    return other.eval()


@torch.no_grad()
def over_smoothed(network: CrystalTextNetwork) -> CrystalTextNetwork:
    """Many layers without a residual: each replaces an atom by the gated mean of its neighbours.

    A convolution computes x + silu(bn(src_update(x) + mean(dst_update(x')))). With src_update = -1 and
    dst_update = 1, and the batch norm shifted into the linear range of SiLU, the residual cancels and
    mean(x') + 25 is left. Gates are those of the last trained layer. The shift, the same for every channel,
    is taken out by the bias of what reads it: the gates of the next layer, and the attention, whose layer
    norm removes the rest.
    """
    trained = network.config.gcn_layers
    deep = _rebuilt(network, gcn_layers=trained + DIFFUSION_LAYERS)
    last = deep.gcn_layers[trained - 1].state_dict()
    for number, layer in enumerate(deep.gcn_layers[trained:]):
        layer.load_state_dict(last)
        identity = torch.eye(network.config.hidden_features)
        for linear, weight in ((layer.src_update, -identity), (layer.dst_update, identity)):
            linear.weight.copy_(weight)
            linear.bias.zero_()
        norm = layer.bn_nodes
        norm.running_mean.fill_(1.0)
        norm.running_var.fill_(4.0)
        norm.weight.fill_((4.0 + norm.eps) ** 0.5)
        norm.bias.fill_(1.0 + LINEAR_RANGE)
        # The bonds, which the gates read too, would otherwise grow from layer to layer: silu(-8) is -0.003.
        layer.bn_edges.bias.fill_(-8.0)
        for gate in (layer.src_gate, layer.dst_gate):
            gate.bias -= gate.weight.sum(dim=1) * LINEAR_RANGE * number
    reader = deep.fine_grained_attention.node_proj_in
    reader.bias -= reader.weight.sum(dim=1) * LINEAR_RANGE * DIFFUSION_LAYERS
    return deep


@torch.no_grad()
def homogenised(network: CrystalTextNetwork) -> CrystalTextNetwork:
    """A text scale of 1e4: what is added to the atoms is the same for all and drowns them."""
    changed = _rebuilt(network, middle_fusion_use_learnable_scale=True)
    for fusion in _fusions(changed):
        fusion.text_scale.fill_(1e4)
    return changed


@torch.no_grad()
def saturated_heads(network: CrystalTextNetwork) -> CrystalTextNetwork:
    """Queries of the attention times 100: every head puts all its weight on one token."""
    for parameter in network.fine_grained_attention.a2t_query.parameters():
        parameter *= 100.0
    return network


def untrained_attention(network: CrystalTextNetwork) -> CrystalTextNetwork:
    """Fine-grained attention drawn anew, as if it had never been in the optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(SEED)
        for module in network.fine_grained_attention.modules():
            if isinstance(module, nn.Linear | nn.LayerNorm):
                module.reset_parameters()
    return network


@torch.no_grad()
def dead_gate(network: CrystalTextNetwork) -> CrystalTextNetwork:
    """A gate bias of -30: the gate is 1e-13 whatever it is given, and no text enters the atoms."""
    for fusion in _fusions(network):
        fusion.gate[0].bias.fill_(-30.0)
    return network


@torch.no_grad()
def text_ignored(network: CrystalTextNetwork) -> CrystalTextNetwork:
    """What reads the text is zero: the text transform, values of the attention, text columns of the head."""
    for fusion in _fusions(network):
        fusion.text_transform[3].weight.zero_()
    network.fine_grained_attention.a2t_value.weight.zero_()
    network.cross_modal_attention.g2t_value.weight.zero_()
    network.fc1.weight[:, network.config.projection_features :] = 0.0
    return network


@torch.no_grad()
def text_faint(network: CrystalTextNetwork) -> CrystalTextNetwork:
    """The text vector is its own bias, and values of the attention are small: no tensor is zero, no text gets
    in."""
    network.text_projection.layer_norm.weight *= 1e-4
    network.fine_grained_attention.a2t_value.weight *= 1e-4
    return network


@torch.no_grad()
def scaled_text_transform(network: CrystalTextNetwork) -> CrystalTextNetwork:
    """The last layer of the text transform times 12, in a finished checkpoint."""
    for fusion in _fusions(network):
        for parameter in fusion.text_transform[3].parameters():
            parameter *= 12.0
    return network


MEMBERS = (
    Member("healthy", "trained on the demo data, nothing planted"),
    Member("over-smoothed", "12 further layers without residual", over_smoothed, expected="ND501"),
    Member(
        "homogenised",
        "text scale 1e4 in the fusion",
        homogenised,
        expected="AT601 GA303 GA305 GA308 ND502",
    ),
    Member("saturated-heads", "queries of the attention times 100", saturated_heads, expected="AT602"),
    Member("untrained-attention", "attention drawn anew", untrained_attention, expected="CK104"),
    Member("dead-gate", "gate bias -30", dead_gate, expected="CK109 GA302 GA304 TF401 TF402"),
    Member(
        "text-ignored",
        "all that reads the text is zero",
        text_ignored,
        expected="AT608 CK103 CK109 GA303 GA304 GA307 TF401 TF406",
    ),
    Member(
        "text-faint",
        "text vector and attention values times 1e-4",
        text_faint,
        expected="AT608 GA303 GA304 GA307 TF406",
    ),
    Member(
        "text-transform-x12",
        "last layer of the text transform times 12",
        scaled_text_transform,
        expected="CK108 GA305",
    ),
    Member(
        "wrong-layer",
        "fusion after layer 2, of layers 0 to 1",
        config={"middle_fusion_layers": (2,)},
        expected="CK106 TF402",
    ),
    Member(
        "partially-loaded",
        "keys of the attention to tokens lost",
        lost=("fine_grained_attention.a2t_",),
        expected="CK101 CK104",
    ),
)


def make(member: Member, healthy: CrystalTextNetwork) -> CrystalTextNetwork:
    """The member's network, from a copy of the healthy one."""
    network = copy.deepcopy(healthy)
    return network if member.change is None else member.change(network)
