"""Modality rules on networks trained to have each defect, through the whole analysis, beside networks that have not.

The graph layers are random and the head is trained, on the readout of small crystals and the published MiniLM's
reading of texts. What a network is trained on plants the defect; nothing is set in the tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from interpret.checks.base import Outcome
from interpret.checks.evidence import Evidence
from interpret.checks.registry import select_rules
from interpret.modality.analysis import analyze_modality
from interpret.modality.edits import EDITS
from interpret.modality.options import ModalityOptions
from interpret.modality.passes import FusedPasses
from interpret.segmentation import sentences
from model.batch import collate
from model.crystal import build_graph
from model.dataset import CrystalDataset, Sample
from model.demo import DEMO_DATA
from model.encoder import load_encoder
from model.structure import ELEMENTS, read_structure

SEED = 0
PLACES = ("Spain", "Norway", "Chile", "Japan", "Kenya", "Canada", "Greece")
GRAPH_LAYERS = ("atom_embedding", "edge_embedding", "angle_embedding", "alignn_layers", "gcn_layers")


class Example(NamedTuple):
    """What a network is trained on; without its crystal it gets the mean one."""

    sample: Sample
    text: str
    target: float
    crystal: bool = True


class Bench:
    """Small crystals, an encoder, and how networks are trained and asked."""

    def __init__(self, cache: Any, make_network: Callable[..., Any]) -> None:
        self.encoder = load_encoder(None, cache_directory=cache)
        found = [(s, build_graph(read_structure(s.structure))) for s in CrystalDataset.from_directory(DEMO_DATA)]
        self.samples = [sample for sample, graph in found if graph.number_of_atoms <= 4]
        self.graphs = {sample.id: graph for sample, graph in found}
        numbers = [float(self.graphs[s.id].atomic_numbers.float().mean()) for s in self.samples]
        middle = np.median(numbers)
        # What a graph tells of a crystal: 1 where its atoms are heavy, -1 where they are light.
        self.weight = {s.id: 1.0 if z > middle else -1.0 for s, z in zip(self.samples, numbers, strict=True)}
        self.make_network = make_network

    def train(self, examples: Sequence[Example]) -> Any:
        """A network whose head fits the examples."""
        network = self.make_network(
            SEED,
            alignn_layers=1,
            use_middle_fusion=False,
            use_fine_grained_attention=False,
            token_features=self.encoder.width,
            hidden_features=32,
            projection_features=16,
        )
        encodings = self.encoder.encode([example.text for example in examples])
        batch = collate([self.graphs[example.sample.id] for example in examples], encodings)
        with torch.no_grad():
            state = network.advance(network.start(batch), batch, None)
        taken = torch.tensor([not example.crystal for example in examples])
        passes = FusedPasses(network, self.encoder.encode([""])[0], dtype=torch.float32)
        mean = passes.mean_crystal([self.graphs[name] for name in dict.fromkeys(e.sample.id for e in examples)])
        state = state._replace(x=torch.where(taken[batch.atom_owner][:, None], mean.state.x, state.x))
        target = torch.tensor([example.target for example in examples])
        head = [p for name, p in network.named_parameters() if not name.startswith(GRAPH_LAYERS)]
        optimizer = torch.optim.Adam(head, lr=5e-3)
        for _ in range(400):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(network(batch, state=state), target)
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.2 * target.var().item(), "the network has learned what it was to learn"
        return network

    def ask(self, code: str, network: Any, samples: Iterable[Sample], *, detailed: int = 0) -> Outcome:
        """What a rule says of a network on structures with texts."""
        chosen = tuple(samples)
        options = ModalityOptions(detailed=detailed)
        analysis = analyze_modality(network, CrystalDataset(chosen, rows=len(chosen)), self.encoder, options=options)
        own = analysis.modality[analysis.modality["baseline"] == "references"].reset_index(drop=True)
        (rule,) = select_rules([code])
        return rule().run(Evidence(network, structures=own, extra=analysis.tables))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, make_network: Callable[..., Any]) -> Bench:
    return Bench(tmp_path_factory.mktemp("embeddings"), make_network)


def sentence(rare: float) -> str:
    """One bit of text that has nothing to do with the crystal."""
    return f"The mineral is {'rare' if rare > 0 else 'common'}."


def coins(count: int) -> list[float]:
    """As many 1 as -1, in an order that is drawn."""
    return [float(x) for x in np.random.default_rng(SEED).permutation(np.resize([1.0, -1.0], count))]


@pytest.mark.parametrize(("printed", "status"), [("own", "found"), ("another's", "clear")])
def test_target_in_the_text(printed: str, status: str, bench: Bench) -> None:
    """MO702: a network that reads the target off its text, and the same texts with the target of another structure."""
    samples = bench.samples[:40]
    targets = [round(float(t), 2) for t in np.random.default_rng(SEED).uniform(0.0, 9.0, len(samples))]
    texts = targets if printed == "own" else np.roll(targets, 1)
    data = [
        replace(s, target=target, text=f"{s.text[slice(*sentences(s.text)[0])]} The gap is {number:.2f} eV.")
        for s, target, number in zip(samples, targets, texts, strict=True)
    ]
    network = bench.train([Example(s, s.text, s.target) for s in data])
    outcome = bench.ask("MO702", network, data)
    assert outcome.status == status, outcome.reason
    if outcome.finding is not None:
        assert outcome.finding.effect == 1.0


@pytest.mark.parametrize(("product", "status"), [(True, "found"), (False, "clear")])
def test_graph_and_text_that_only_act_multiplied(product: bool, status: str, bench: Bench) -> None:
    """MO703: a target that is the product of what graph and text say, and one that is their sum."""
    samples = bench.samples[:40]
    examples = []
    for s in samples:
        g = bench.weight[s.id]
        examples += [Example(s, sentence(t), 2 * g * t if product else 2 * g + t) for t in (1.0, -1.0)]
    data = [replace(s, text=sentence(t)) for s, t in zip(samples, coins(len(samples)), strict=True)]
    outcome = bench.ask("MO703", bench.train(examples), data)
    assert outcome.status == status, outcome.reason
    if outcome.finding is not None:
        # A pure product has main effects too, against the few references that it is held against.
        assert outcome.finding.interval is not None
        assert outcome.finding.interval[0] > 1 / 3


@pytest.mark.parametrize(("apart", "status"), [(6.0, "found"), (0.0, "clear")])
def test_structures_without_a_text_that_are_of_another_kind(apart: float, status: str, bench: Bench) -> None:
    """MO704: a training set whose structures without a description have larger targets, and one where they have not.

    Crystals are taken away at random as well, so that both networks know the mean one.
    """
    samples = bench.samples[:40]
    examples = []
    for s in samples:
        g = bench.weight[s.id]
        examples += [Example(s, sentence(t), g + 0.4 * t) for t in (1.0, -1.0)]
        examples += [Example(s, sentence(t), 0.4 * t, crystal=False) for t in (1.0, -1.0)]
        examples += [Example(s, "", g + apart), Example(s, "", apart, crystal=False)]
    data = [replace(s, text=sentence(t)) for s, t in zip(samples, coins(len(samples)), strict=True)]
    outcome = bench.ask("MO704", bench.train(examples), data)
    assert outcome.status == status, outcome.reason


def first_element(text: str) -> int:
    """Atomic number of the first symbol of a text."""
    match = re.search("[A-Z][a-z]?", text)
    assert match is not None
    return ELEMENTS.index(match[0]) + 1


@pytest.mark.parametrize(("wording", "status"), [(True, "found"), (False, "clear")])
def test_texts_of_which_the_wording_tells(wording: bool, status: str, bench: Bench) -> None:
    """MO705: a training set whose texts are worded otherwise where targets are larger, and one where a fact tells."""
    samples = []
    for s in bench.samples[:10]:
        spans = sentences(s.text)
        samples.append(replace(s, text=s.text[: spans[min(len(spans), 3) - 1][1]]))
    examples = []
    for s in samples:
        texts = [(s.text, False)]
        texts += [(done.text, edit.control) for edit in EDITS if (done := edit.apply(s.text)) is not None]
        for text, reworded in texts:
            told = 2.0 * reworded if wording else first_element(text) / 15
            examples.append(Example(s, text, bench.weight[s.id] + told))
    outcome = bench.ask("MO705", bench.train(examples), samples, detailed=len(samples))
    assert outcome.status == status, outcome.reason


@pytest.mark.parametrize(("repeats", "status"), [(True, "found"), (False, "clear")])
def test_text_that_says_what_the_graph_says(repeats: bool, status: str, bench: Bench) -> None:
    """MO706: a network trained with crystals and texts taken away at random, whose texts say what the graph says; and
    one whose texts say something else."""
    samples = bench.samples[:40]
    examples = []
    for s in samples:
        g = bench.weight[s.id]
        for t in [g] if repeats else [1.0, -1.0]:
            both = 2 * g if repeats else 2 * g + t
            examples += [Example(s, sentence(t), both), Example(s, sentence(t), 2 * t if repeats else t, crystal=False)]
        examples += [Example(s, "", 2 * g), Example(s, "", 0.0, crystal=False)]
    says = [bench.weight[s.id] for s in samples] if repeats else coins(len(samples))
    data = [replace(s, text=sentence(t)) for s, t in zip(samples, says, strict=True)]
    outcome = bench.ask("MO706", bench.train(examples), data)
    assert outcome.status == status, outcome.reason


@pytest.mark.parametrize("holds", [False, True])
def test_a_shortcut_of_the_text_that_no_longer_holds(holds: bool, bench: Bench) -> None:
    """MO707: a word told targets in training; in the data at hand it says nothing, or it still does."""
    samples = bench.samples

    def text(number: int, t: float) -> str:
        said = {1.0: "is rare", -1.0: "is common"}.get(t, "was analysed")
        return f"The mineral from {PLACES[number % len(PLACES)]} {said}."

    known = list(enumerate(samples))
    examples = [Example(s, text(i, t), bench.weight[s.id] + 3 * t) for i, s in known for t in (0.0, 1.0, -1.0)]
    noise = np.random.default_rng(SEED).normal(scale=0.3, size=len(samples))
    # Half of the structures have the word.
    words = [t if i % 2 == 0 else 0.0 for i, t in enumerate(coins(len(samples)))]
    data = [
        replace(s, text=text(i, t), target=bench.weight[s.id] + 3 * t * holds + float(e))
        for (i, s), t, e in zip(known, words, noise, strict=True)
    ]
    outcome = bench.ask("MO707", bench.train(examples), data)
    assert (outcome.status == "found") == (not holds), outcome.reason
