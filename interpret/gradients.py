"""Which modules of a network the prediction depends on: one backward pass over a few made-up crystals."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from model.batch import CrystalBatch, collate
from model.crystal import ATOM_FEATURES, build_graph
from model.encoder import TextEncoding
from model.network import CrystalTextNetwork
from model.structure import Structure
from model.text import normalize

if TYPE_CHECKING:
    from model.config import ModelConfig

# Of the network that serves as control, of crystals and texts, and of the direction predictions are pulled
# in.
SEED = 0
# Gradient norm of a module over the largest in the network below which the module is cut off. In float64 what
# is zero by construction stays below 1e-15. A gate shut at sigmoid(-30) = 1e-13 passes less than this, and in
# the float32 of training its share is lost in the rounding of what it is added to.
CUT_OFF = 1e-12
_TOKENS = 6
# Edge of the cell in angstrom, fractional coordinates, elements.
_CELLS = (
    (3.9, [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5]], "Sr Ti O F"),
    (4.1, [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.0, 0.5, 0.5]], "Cs Cl Ga"),
    (3.3, [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5]], "Si Zn"),
)


def fresh_copy(config: ModelConfig, seed: int = SEED) -> CrystalTextNetwork:
    """A network of the same configuration with the weights PyTorch draws, in evaluation mode.

    A gate that is warmed up stands at the end of its warm-up: before it, no text enters whatever the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = CrystalTextNetwork(config).eval()
    for name, buffer in network.named_buffers():
        if name.endswith(".current_step"):
            buffer.fill_(config.cross_modal_gate_warmup_steps)
    return network


def probe_batch(config: ModelConfig, seed: int = SEED) -> CrystalBatch:
    """Three distorted crystals of two to four elements with random texts of six tokens, in float64.

    Distorted, because in a cubic crystal the bonds of an atom are alike: a weighted mean over them hardly
    depends on its weights, and the gates of the graph layers, with all that feeds them, would look cut off.
    Networks with atom features of another width than the published 92 receive random zeros and ones.
    """
    draw = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    graphs, encodings = [], []
    for edge, sites, elements in _CELLS:
        lattice = edge * np.eye(3) + draw.normal(0.0, 0.25, (3, 3))
        places = np.array(sites) + draw.normal(0.0, 0.05, (len(sites), 3))
        graphs.append(build_graph(Structure(lattice, places, tuple(elements.split()))))
        encodings.append(_encoding(torch.randn(_TOKENS, config.token_features, generator=generator)))
    batch = collate(graphs, encodings)
    if config.atom_input_features != ATOM_FEATURES:
        shape = (len(batch.atom_features), config.atom_input_features)
        batch = replace(batch, atom_features=torch.randint(2, shape, generator=generator).float())
    return batch.to(dtype=torch.float64)


def _encoding(embeddings: torch.Tensor) -> TextEncoding:
    """Token embeddings [L, D] that belong to no words."""
    length = len(embeddings)
    return TextEncoding(
        text="",
        normalized=normalize(""),
        pieces=("[UNK]",) * length,
        spans=np.zeros((length, 2), dtype=np.int64),
        special=np.zeros(length, dtype=np.bool_),
        piece_ids=np.zeros(length, dtype=np.int64),
        embeddings=embeddings,
        pieces_total=length,
    )


def gradient_reach(network: CrystalTextNetwork, seed: int = SEED) -> dict[str, float]:
    """Gradient norm of each module's own parameters over the largest in the network, by module name.

    The predictions on :func:`probe_batch`, each times a random number, are differentiated in evaluation mode
    and float64, on a copy of the network. Modules without parameters of their own are left out; all values
    are NaN where the gradient is not finite.
    """
    twin = copy.deepcopy(network).cpu().double().eval().requires_grad_(True)
    batch = probe_batch(network.config, seed)
    with torch.enable_grad():
        predictions = twin(batch)
        pull = torch.Generator().manual_seed(seed)
        direction = torch.randn(predictions.shape, generator=pull, dtype=torch.float64)
        (predictions * direction).sum().backward()
    norms = {}
    for name, module in twin.named_modules():
        own = list(module.parameters(recurse=False))
        if own:
            squares = [float(p.grad.square().sum()) for p in own if p.grad is not None]
            norms[name] = float(np.sqrt(np.sum(squares)))
    largest = max(norms.values())
    if largest == 0 or not np.isfinite(list(norms.values())).all():
        return dict.fromkeys(norms, float("nan"))
    return {name: norm / largest for name, norm in norms.items()}


@lru_cache(maxsize=16)
def _fresh_reach(config: ModelConfig, seed: int) -> dict[str, float]:
    return gradient_reach(fresh_copy(config, seed), seed)


def fresh_gradient_reach(config: ModelConfig, seed: int = SEED) -> dict[str, float]:
    """:func:`gradient_reach` of a freshly initialised network, computed once a configuration and seed."""
    return dict(_fresh_reach(config, seed))


@lru_cache(maxsize=8)
def modules_without_gradient(config: ModelConfig) -> frozenset[str]:
    """Modules that no network of this configuration uses for its prediction, whatever its weights.

    Seen on freshly initialised networks: the token-to-atom branch, the edge norms of the last layers, the
    queries and keys of an attention with a single key, and middle fusions after layers that do not exist. A
    module counts when it is cut off for both of two draws of weights and crystals: in one, all units of a
    small ReLU layer may be off.
    """
    draws = (fresh_gradient_reach(config, seed) for seed in (SEED, SEED + 1))
    return frozenset.intersection(*(frozenset(n for n, reach in draw.items() if reach < CUT_OFF) for draw in draws))
