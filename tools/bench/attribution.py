"""What attribution costs: ours against captum called in a plain loop, one structure and one baseline at a time.

``python -m tools.bench.attribution [FOLDER] [--structures 50] [--naive 6] [--threads 2]``

Both explain the default network with its text encoder (all-MiniLM-L6-v2) in float32: integrated gradients and ablation
by words and by atoms, and the faithfulness of orders of words (comprehensiveness and sufficiency at five shares, and
captum's infidelity), of which every structure has 33: 30 random ones, position, frequency and ablation. The plain loop
calls captum with its defaults (50 steps), evaluates one at a time and encodes each text by itself; of its 33 orders,
which cost the same, it measures three. Both are run on the same few structures, in turns and in the same process.
Processor time is compared: wall time on a shared machine measures the neighbours. Ours is then run on all structures.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import FeatureAblation, IntegratedGradients
from captum.metrics import infidelity
from torch import Tensor

from interpret.attribution.baselines import mask_piece, mean_atom
from interpret.attribution.dataset import spread
from interpret.attribution.explanation import Explanation
from interpret.attribution.faithfulness import measure, perturbations, prepare, removal_of
from interpret.attribution.methods import Request, explain
from interpret.attribution.players import kept_text, players_of
from interpret.attribution.reference import frequencies_of
from interpret.attribution.subject import Explained
from interpret.runner import Prepared, Runner
from model.batch import CrystalBatch, collate
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


def setting(folder: Path, structures: int) -> tuple[CrystalTextNetwork, TransformersEncoder, list[Prepared]]:
    """The default network with everything on, its encoder without a cache, and structures spread over the folder."""
    encoder = load_encoder(None, cache_directory=False)
    dataset = CrystalDataset.from_directory(folder)
    config = ModelConfig(token_features=encoder.width, use_middle_fusion=True, use_fine_grained_attention=True)
    torch.manual_seed(0)
    network = CrystalTextNetwork(config).eval().requires_grad_(False)
    chosen = (dataset[i] for i in spread(len(dataset), structures))
    return network, encoder, list(Runner(network, encoder).prepare(chosen))


class PlainLoop:
    """captum as its documentation calls it."""

    def __init__(self, network: CrystalTextNetwork, encoder: TransformersEncoder) -> None:
        self.network = network
        self.encoder = encoder
        self.text_model: Any = encoder._network
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

        method = IntegratedGradients(forward)
        values = method.attribute(own[None], baselines=baseline[None], n_steps=CAPTUM_STEPS, internal_batch_size=1)
        rows = values[0].sum(dim=-1).detach().double().numpy()
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

    def job(self, one: Prepared, kind: str, method: str, steps: int | None = None) -> Explain:
        """One explanation of one structure."""
        return lambda: explain(Request(self.explained.subject(one), players_of(one, kind), steps=steps), method).values

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


def timed(job: Explain) -> tuple[float, np.ndarray]:
    """Processor seconds and result."""
    start = time.process_time()
    values = job()
    return time.process_time() - start, values


def compare(ours: Ours, plain: PlainLoop, structures: list[Prepared]) -> None:
    """Print processor seconds a structure by explanation, and the ratios."""
    seconds: dict[tuple[str, str, str], float] = defaultdict(float)
    differences: dict[tuple[str, str], float] = defaultdict(float)
    for one in structures:
        for kind, method in JOBS:
            runs = {"plain": plain.job(one, kind, method), "ours": ours.job(one, kind, method)}
            fixed = CAPTUM_STEPS if method == "integrated-gradients" else None
            runs["ours, same steps"] = ours.job(one, kind, method, fixed)
            found = {}
            for name, job in runs.items():
                elapsed, found[name] = timed(job)
                seconds[kind, method, name] += elapsed / len(structures)
            gap = np.abs(found["ours, same steps"] - found["plain"]).max() / np.abs(found["plain"]).max()
            differences[kind, method] = max(differences[kind, method], float(gap))
        _compare_faithfulness(ours, plain, one, len(structures), seconds, differences)
    seconds["faithfulness", "", "ours, same steps"] = seconds["faithfulness", "", "ours"]
    print(
        f"{'':32} {'plain':>8} {'ours':>8} {'ratio':>6} {'same steps':>11} {'ratio':>6} {'difference':>11}", flush=True
    )
    totals: dict[str, float] = defaultdict(float)
    for kind, method in (*JOBS, ("faithfulness", "")):
        row = {name: seconds[kind, method, name] for name in ("plain", "ours", "ours, same steps")}
        for name, value in row.items():
            totals[name] += value
        label = f"{method} by {kind}" if method else f"faithfulness of {ORDERS} orders"
        print(_line(label, row, f"{differences[kind, method]:11.1e}"), flush=True)
    print(_line("all", totals, ""), flush=True)


def _compare_faithfulness(
    ours: Ours,
    plain: PlainLoop,
    one: Prepared,
    structures: int,
    seconds: dict[tuple[str, str, str], float],
    differences: dict[tuple[str, str], float],
) -> None:
    request, orders = ours.orders(one)
    # The ablation among the orders has filled the game: it is asked again from nothing.
    fresh = Request(request.subject, request.players)
    elapsed, found = timed(lambda: ours.faithfulness(fresh, orders))
    seconds["faithfulness", "", "ours"] += elapsed / structures
    for number in range(PLAIN_ORDERS):
        elapsed, figures = timed(lambda number=number: plain.faithfulness(one, orders[number]))
        seconds["faithfulness", "", "plain"] += elapsed * ORDERS / PLAIN_ORDERS / structures
        gap = np.abs(found[number] - figures)[:2].max() / figures[:2].max()
        differences["faithfulness", ""] = max(differences["faithfulness", ""], float(gap))


def _line(name: str, row: dict[str, float], end: str) -> str:
    plain, own, same = row["plain"], row["ours"], row["ours, same steps"]
    return f"{name:32} {plain:8.2f} {own:8.2f} {plain / own:6.2f} {same:11.2f} {plain / same:6.2f} {end}"


def main(arguments: list[str]) -> None:
    """Print the comparison and the cost of all structures."""
    parser = argparse.ArgumentParser(description="What attribution costs.")
    parser.add_argument("folder", nargs="?", type=Path, default=DEMO_DATA)
    parser.add_argument("--structures", type=int, default=50, help="structures that ours explains")
    parser.add_argument("--naive", type=int, default=6, help="structures, of those, that both explain")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    network, encoder, structures = setting(options.folder, options.structures)
    ours, plain = Ours(network, encoder), PlainLoop(network, encoder)
    some = [structures[i] for i in spread(len(structures), options.naive)]
    words = np.mean([len(one.words) for one in structures])
    atoms = np.mean([one.graph.number_of_atoms for one in structures])
    print(f"default network, {options.threads} threads, mean of {words:.0f} words and {atoms:.1f} atoms a structure")
    print(f"processor seconds a structure, {len(some)} structures:")
    # The first call of either pays for what is set up once.
    for kind, method in JOBS:
        ours.job(some[0], kind, method)()
    compare(ours, plain, some)
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
