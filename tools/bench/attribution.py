"""What attribution costs: ours against captum called in a plain loop, one structure and one baseline at a time.

``python -m tools.bench.attribution [FOLDER] [--checkpoint PATH] [--structures 50] [--naive 6] [--threads 2]``

Both explain a network, the default one as it was drawn if no checkpoint is given, with its text encoder in float32:
integrated gradients and ablation by words and by atoms, and the faithfulness of orders of words (comprehensiveness and
sufficiency at five shares, and captum's infidelity), of which every structure has 33: 30 random ones, position,
frequency and ablation. Integrated gradients converge to 1 % in both: the plain loop begins with captum's default of 50
steps and doubles them, as captum's documentation advises. It evaluates one at a time and encodes each text by itself;
of its 33 orders, which cost the same, it measures three. Both are run on the same few structures, in turns and in the
same process; wall and processor time are compared, because wall time on a shared machine measures the neighbours. Ours
is then run on all structures.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import FeatureAblation, IntegratedGradients
from captum.metrics import infidelity
from torch import Tensor

from interpret.attribution.baselines import mask_piece, mean_atom
from interpret.attribution.dataset import spread
from interpret.attribution.explanation import COMPLETENESS, Explanation
from interpret.attribution.faithfulness import measure, perturbations, prepare, removal_of
from interpret.attribution.gradients import MOST_STEPS
from interpret.attribution.methods import Request, explain
from interpret.attribution.players import kept_text, players_of
from interpret.attribution.reference import frequencies_of
from interpret.attribution.subject import Explained
from interpret.runner import Prepared, Runner
from model.batch import CrystalBatch, collate
from model.checkpoint import load_checkpoint
from model.config import ModelConfig
from model.dataset import CrystalDataset
from model.demo import DEMO_DATA
from model.encoder import TransformersEncoder, load_encoder
from model.network import CrystalTextNetwork

CAPTUM_STEPS = 50
ORDERS = 33
PLAIN_ORDERS = 3
JOBS = (
    ("words", "integrated-gradients"),
    ("words", "ablation"),
    ("atoms", "integrated-gradients"),
    ("atoms", "ablation"),
)
Explain = Callable[[], np.ndarray]


def setting(
    folder: Path, structures: int, checkpoint: Path | None
) -> tuple[CrystalTextNetwork, TransformersEncoder, list[Prepared]]:
    """A network, its encoder without a cache, and structures spread over the folder."""
    if checkpoint is None:
        encoder = load_encoder(None, cache_directory=False)
        config = ModelConfig(token_features=encoder.width, use_middle_fusion=True, use_fine_grained_attention=True)
        torch.manual_seed(0)
        network = CrystalTextNetwork(config).eval()
    else:
        network = load_checkpoint(checkpoint)
        encoder = load_encoder(None, width=network.config.token_features, cache_directory=False)
    network.requires_grad_(False)
    dataset = CrystalDataset.from_directory(folder)
    chosen = (dataset[i] for i in spread(len(dataset), structures))
    return network, encoder, list(Runner(network, encoder).prepare(chosen))


class PlainLoop:
    """captum as its documentation calls it."""

    def __init__(self, network: CrystalTextNetwork, encoder: TransformersEncoder) -> None:
        self.network = network
        self.encoder = encoder
        self.text_model: Any = encoder.network
        self.table: Tensor = self.text_model.get_input_embeddings().weight.detach()
        self.mask = self.table[mask_piece(encoder)]
        self.mean = mean_atom().float()

    def job(self, one: Prepared, kind: str, method: str) -> Explain:
        """One explanation of one structure."""
        batch = collate([one.graph], [one.encoding])
        if method == "ablation":
            return lambda: self._ablate(one, batch, kind)
        return lambda: self._integrate(one, batch, kind)

    def _integrate(self, one: Prepared, batch: CrystalBatch, kind: str) -> np.ndarray:
        if kind == "words":
            own = self.table[torch.from_numpy(one.encoding.piece_ids)]
            baseline = torch.where(torch.from_numpy(one.encoding.special)[:, None], own, self.mask)
        else:
            own = batch.atom_features
            baseline = self.mean.expand_as(own)

        def forward(rows: Tensor) -> Tensor:
            return torch.cat([self._predict(batch, kind, row) for row in rows])

        method, steps = IntegratedGradients(forward), CAPTUM_STEPS
        while True:
            values, delta = method.attribute(
                own[None],
                baselines=baseline[None],
                n_steps=steps,
                internal_batch_size=1,
                return_convergence_delta=True,
            )
            rows = values[0].sum(dim=-1).detach().double().numpy()
            change = float(rows.sum()) - float(delta)
            if abs(float(delta)) <= COMPLETENESS * abs(change) or steps >= MOST_STEPS:
                break
            steps *= 2
        if kind == "atoms":
            return rows
        return np.array([rows[list(w.pieces)].sum() for w in one.words if w.category != "special"])

    def _predict(self, batch: CrystalBatch, kind: str, row: Tensor) -> Tensor:
        if kind == "atoms":
            return self.network(replace(batch, atom_features=row))
        tokens = self.text_model(inputs_embeds=row[None]).last_hidden_state
        return self.network(batch.with_tokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool)))

    def _ablate(self, one: Prepared, batch: CrystalBatch, kind: str) -> np.ndarray:
        forward = self._game(one, batch, kind)
        everyone = torch.ones(1, len(players_of(one, kind)))
        return np.asarray(FeatureAblation(forward).attribute(everyone, baselines=0.0)[0].double().numpy())

    def _game(self, one: Prepared, batch: CrystalBatch, kind: str) -> Callable[[Tensor], Tensor]:
        """Presence of players [K, P] to predictions [K], one at a time."""
        players = players_of(one, kind)

        def single(keep: np.ndarray) -> Tensor:
            if kind == "atoms":
                row = torch.where(torch.from_numpy(keep)[:, None], batch.atom_features, self.mean)
                return self._predict(batch, kind, row)
            text = kept_text(one.encoding.text, one.words, keep.tolist())
            return self.network(collate([one.graph], self.encoder.encode([text])))

        def forward(present: Tensor) -> Tensor:
            with torch.no_grad():
                return torch.cat([single(keep) for keep in players.spread(present.numpy() > 0.5)])

        return forward

    def faithfulness(self, one: Prepared, order: Explanation) -> np.ndarray:
        """Comprehensiveness, sufficiency and infidelity of an order of words."""
        forward = self._game(one, collate([one.graph], [one.encoding]), "words")
        everyone = torch.ones(1, len(order.values))
        full = float(forward(everyone))
        removal = removal_of(order)
        lost, alone = (
            np.mean([abs(full - float(forward(torch.from_numpy(keep)[None].float()))) for keep in coalitions[0]])
            for coalitions in (removal.without, removal.only)
        )
        absent = torch.from_numpy(~perturbations(len(order.values))).float()
        unfaithful = infidelity(
            forward,
            lambda rows: (absent[: len(rows)], rows - absent[: len(rows)]),
            everyone,
            torch.from_numpy(order.values)[None].float(),
            n_perturb_samples=len(absent),
            normalize=True,
        )
        return np.array([lost, alone, float(unfaithful)])


class Ours:
    """The same explanations as ``attribute_dataset`` makes them."""

    def __init__(self, network: CrystalTextNetwork, encoder: TransformersEncoder) -> None:
        self.explained = Explained(network, encoder, dtype=torch.float32)

    def job(self, one: Prepared, kind: str, method: str) -> Explain:
        """One explanation of one structure."""
        return lambda: explain(Request(self.explained.subject(one), players_of(one, kind)), method).values

    def orders(self, one: Prepared) -> tuple[Request, list[Explanation]]:
        """The orders of words whose faithfulness is measured, with a game that knows nothing yet."""
        request = Request(self.explained.subject(one), players_of(one, "words"), frequencies=frequencies_of([one]))
        drawn = [explain(replace(request, seed=seed), "random") for seed in range(ORDERS - 3)]
        return request, [*drawn, *(explain(request, name) for name in ("position", "frequency", "ablation"))]

    def faithfulness(self, request: Request, orders: list[Explanation]) -> np.ndarray:
        """The same figures of all orders, [orders, 3]."""
        prepare(request.game, orders)
        rows = [measure(order, request.game) for order in orders]
        return np.array([[row[name] for name in ("comprehensiveness", "sufficiency", "infidelity")] for row in rows])


def timed(job: Explain) -> tuple[np.ndarray, np.ndarray]:
    """Wall and processor seconds, and the result."""
    wall, processor = time.perf_counter(), time.process_time()
    values = job()
    return np.array([time.perf_counter() - wall, time.process_time() - processor]), values


class Costs:
    """Seconds a structure of each part, wall and processor, plain and ours, and how far results differ."""

    def __init__(self, structures: int) -> None:
        self.structures = structures
        self.seconds: dict[str, dict[str, np.ndarray]] = defaultdict(lambda: defaultdict(lambda: np.zeros(2)))
        self.difference: dict[str, float] = defaultdict(float)

    def add(self, part: str, who: str, elapsed: np.ndarray) -> None:
        """Add what one structure took."""
        self.seconds[part][who] += elapsed / self.structures

    def compare(self, part: str, plain: np.ndarray, ours: np.ndarray) -> None:
        """Keep the largest difference, over the largest value."""
        gap = float(np.abs(plain - ours).max() / np.abs(plain).max())
        self.difference[part] = max(self.difference[part], gap)

    def lines(self) -> list[str]:
        """The table."""
        names = ("plain, wall", "ours, wall", "ratio", "plain, cpu", "ours, cpu", "ratio", "difference")
        head = " ".join(f"{name:>{width}}" for name, width in zip(names, (12, 11, 6, 11, 10, 6, 11), strict=True))
        lines = [f"{'':32} {head}"]
        for part, costs in self.seconds.items():
            lines.append(f"{_line(part, costs)} {self.difference[part]:11.1e}")
        total = {who: sum((c[who] for c in self.seconds.values()), np.zeros(2)) for who in ("plain", "ours")}
        return [*lines, _line("all", total)]


def _line(name: str, costs: Mapping[str, np.ndarray]) -> str:
    (plain_wall, plain_cpu), (own_wall, own_cpu) = costs["plain"], costs["ours"]
    return (
        f"{name:32} {plain_wall:12.2f} {own_wall:11.2f} {plain_wall / own_wall:6.2f} {plain_cpu:11.2f} {own_cpu:10.2f} "
        f"{plain_cpu / own_cpu:6.2f}"
    )


def compare(ours: Ours, plain: PlainLoop, one: Prepared, costs: Costs) -> None:
    """All parts of one structure, in turns."""
    for kind, method in JOBS:
        part = f"{method} by {kind}"
        elapsed, expected = timed(plain.job(one, kind, method))
        costs.add(part, "plain", elapsed)
        elapsed, found = timed(ours.job(one, kind, method))
        costs.add(part, "ours", elapsed)
        costs.compare(part, expected, found)
    part = f"faithfulness of {ORDERS} orders"
    request, orders = ours.orders(one)
    # The ablation among the orders has filled the game: it is asked again from nothing.
    fresh = Request(request.subject, request.players)
    elapsed, found = timed(lambda: ours.faithfulness(fresh, orders))
    costs.add(part, "ours", elapsed)
    for number in range(PLAIN_ORDERS):
        elapsed, expected = timed(partial(plain.faithfulness, one, orders[number]))
        costs.add(part, "plain", elapsed * ORDERS / PLAIN_ORDERS)
        costs.compare(part, expected[:2], found[number, :2])


def main(arguments: list[str]) -> None:
    """Print the comparison and the cost of all structures."""
    parser = argparse.ArgumentParser(description="What attribution costs.")
    parser.add_argument("folder", nargs="?", type=Path, default=DEMO_DATA)
    parser.add_argument("--checkpoint", type=Path, help="the default network, untrained, if not given")
    parser.add_argument("--structures", type=int, default=50, help="structures that ours explains")
    parser.add_argument("--naive", type=int, default=6, help="structures, of those, that both explain")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    network, encoder, structures = setting(options.folder, options.structures, options.checkpoint)
    ours, plain = Ours(network, encoder), PlainLoop(network, encoder)
    some = [structures[i] for i in spread(len(structures), options.naive)]
    words = np.mean([len(one.words) for one in structures])
    atoms = np.mean([one.graph.number_of_atoms for one in structures])
    name = "default network, untrained" if options.checkpoint is None else str(options.checkpoint)
    print(f"{name}, {options.threads} threads, mean of {words:.0f} words and {atoms:.1f} atoms a structure")
    print(f"seconds a structure, {len(some)} structures:", flush=True)
    # The first call of either pays for what is set up once.
    for kind, method in JOBS:
        ours.job(some[0], kind, method)()
    costs = Costs(len(some))
    for one in some:
        compare(ours, plain, one, costs)
    print("\n".join(costs.lines()), flush=True)
    start, processor = time.perf_counter(), time.process_time()
    for one in structures:
        for kind, method in JOBS:
            ours.job(one, kind, method)()
        ours.faithfulness(*ours.orders(one))
    print(
        f"ours, {len(structures)} structures, all of it: {time.perf_counter() - start:.0f} s wall, "
        f"{time.process_time() - processor:.0f} s processor time"
    )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
