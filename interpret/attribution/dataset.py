"""Attribution over a data set: every explainer that applies, held against the network, in tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from interpret.attribution import reference
from interpret.attribution.baselines import mean_atom
from interpret.attribution.explanation import AttributionError, Explanation
from interpret.attribution.faithfulness import measure, prepare, sensitivity
from interpret.attribution.gradients import integrate
from interpret.attribution.inside import attention_taps, head_importance
from interpret.attribution.methods import METHODS, REFERENCES, Request, explain, method_named
from interpret.attribution.players import KINDS, SIDES, players_of
from interpret.attribution.randomisation import STEPS, Cascade
from interpret.attribution.subject import Explained
from interpret.attribution.tables import TABLE_NAMES, AttributionTables
from interpret.cost import Stopwatch
from interpret.provenance import describe_run
from interpret.resume import resumable, run_fingerprint
from interpret.runner import DTYPES, Prepared, Runner
from interpret.tables import ORDER

if TYPE_CHECKING:
    from pathlib import Path

    from model.dataset import CrystalDataset
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

RANDOMISED = ("integrated-gradients", "attention")
FAITHFULNESS = "faithfulness by {kind}, all explainers"


@dataclass(frozen=True)
class AttributionOptions:
    """How to run.

    Attributes:
        methods: explainers to run where they apply; the reference explainers are always run.
        kinds: players, one kind a side: figures of words and of sentences are not means over each other.
        limit: structures at most, spread evenly over the data set.
        randomised: structures, of those, for the randomisation test and for sensitivity.
        random_seeds: of the random explainer.
        device: torch device of the network.
        dtype: ``float64`` or ``float32``, of the network; the text encoder is float32 always.
        seed: of every other draw.

    Raises:
        AttributionError: a method or a kind of players does not exist, or two kinds are of one side.
    """

    methods: tuple[str, ...] = tuple(name for name in METHODS if name not in REFERENCES)
    kinds: tuple[str, ...] = ("words", "atoms")
    limit: int = 50
    randomised: int = 10
    random_seeds: int = reference.RANDOM_SEEDS
    device: str = "cpu"
    dtype: str = "float64"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.methods:
            method_named(name)
        for kind in self.kinds:
            if kind not in KINDS:
                raise AttributionError(f"expected players to be one of {', '.join(KINDS)}, got {kind!r}")
        sides = [SIDES[kind] for kind in self.kinds]
        if not sides or len(set(sides)) < len(sides):
            raise AttributionError(
                f"expected at most one kind of players of the text ({', '.join(_kinds_of('text'))}) and one of the "
                f"graph ({', '.join(_kinds_of('graph'))}), got {', '.join(self.kinds) or 'none'}"
            )


def _kinds_of(side: str) -> list[str]:
    return [kind for kind, own in SIDES.items() if own == side]


def spread(count: int, limit: int) -> list[int]:
    """At most ``limit`` of ``count`` positions, evenly spread."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, limit))}) if count else []


def attribute_dataset(
    network: CrystalTextNetwork,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    *,
    options: AttributionOptions | None = None,
    work: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> AttributionTables:
    """Explain structures of a data set by every method that applies, and measure each explanation.

    Args:
        network: as :func:`model.checkpoint.load_checkpoint` returns it; left as it is.
        dataset: structures with their texts. encoder: that the network was trained with.
        options: how to run.
        work: folder for the parts of a run that can be resumed; None keeps them in a temporary folder.
        progress: called with the number of structures done since the last call.

    Raises:
        AttributionError: no structure can be explained.
    """
    options = options or AttributionOptions()
    positions = spread(len(dataset), options.limit)
    runner = Runner(network, encoder)
    prepared = list(runner.prepare(dataset[i] for i in positions))
    if not prepared:
        reasons = "; ".join(f"{s.id}: {s.reason}" for s in runner.skipped[:3])
        raise AttributionError(f"no structure can be explained: {reasons or 'the data set is empty'}")
    job = _Job(network, encoder, prepared, options)
    marked = asdict(options) | {"analysis": "attribution"}
    with resumable(work, lambda: run_fingerprint(network, dataset, encoder, marked)) as shards:
        done = shards.done()
        if progress is not None:
            progress(len(done))
        for number, one in enumerate(prepared):
            if number in done:
                continue
            rows = job.rows(number, one)
            shards.write([number], {name: _ordered(number, rows[name]) for name in rows}, [], job.notes)
            if progress is not None:
                progress(1)
        notes = {f"{skipped.stage} of {skipped.id}": skipped.reason for skipped in runner.skipped}
        for extra in shards.extras():
            notes |= extra
        tables = {name: shards.table(name) for name in TABLE_NAMES}
    provenance = describe_attribution(network, dataset, encoder, options)
    return AttributionTables(notes=notes, provenance=provenance, cost=dict(job.watch.seconds), **tables)


def describe_attribution(
    network: CrystalTextNetwork, dataset: CrystalDataset, encoder: TextEncoder, options: AttributionOptions
) -> dict[str, Any]:
    """The provenance of a run: what its figures depend on."""
    return describe_run(network, dataset, encoder, asdict(options) | {"analysis": "attribution"})


def _ordered(number: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{ORDER: number} | row for row in rows]


class _Job:
    """What all structures of a run share.

    Attributes:
        notes: why something was left out, by what.
    """

    def __init__(
        self,
        network: CrystalTextNetwork,
        encoder: TextEncoder,
        prepared: Sequence[Prepared],
        options: AttributionOptions,
    ) -> None:
        self.options = options
        mean = mean_atom([one.graph for one in prepared])
        dtype = DTYPES[options.dtype]
        self.explained = Explained(network, encoder, device=options.device, dtype=dtype, mean_features=mean)
        self.frequencies = reference.frequencies_of(prepared)
        self.randomised = set(spread(len(prepared), options.randomised))
        self.cascade = Cascade(self.explained, options.seed) if self.randomised else None
        self.taps = attention_taps(self.explained.network)
        self.notes: dict[str, str] = {}
        self.refused: set[str] = set()
        self.watch = Stopwatch()

    def rows(self, number: int, one: Prepared) -> dict[str, list[dict[str, Any]]]:
        """Rows of one structure by table."""
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLE_NAMES}
        subject = self.explained.subject(one)
        for kind in self.options.kinds:
            try:
                players = players_of(one, kind)
                request = Request(
                    subject, players, frequencies=self.frequencies, tap=self.taps[-1] if self.taps else ""
                )
                explanations = self._explain(request)
            except AttributionError as error:
                self.notes.setdefault(f"{kind} of {subject.id}", str(error))
                continue
            references = self._references(request)
            with self.watch.measure(FAITHFULNESS.format(kind=kind)):
                prepare(request.game, [*explanations, *references])
                found["faithfulness"] += [self._row(request, one) for one in (*explanations, *references)]
            if number in self.randomised:
                self._add_sensitivity(request, found["faithfulness"])
            for explanation in (*explanations, *(r for r in references if r.method != "random")):
                found["attribution"] += explanation.rows()
            if self.cascade is not None and number in self.randomised:
                with self.watch.measure("randomised weights"):
                    for explanation in explanations:
                        if explanation.method in RANDOMISED:
                            found["randomisation"] += self.cascade.rows(request, explanation)
            if players.side == "text" and self.taps:
                found["head_importance"] += _head_rows(request)
        return found

    def _explain(self, request: Request) -> list[Explanation]:
        """Explanations by every method that applies; why one does not is noted once, for the first structure."""
        explanations = []
        for name in self.options.methods:
            key = f"{name} by {request.players.kind}"
            if key in self.refused:
                continue
            reason = METHODS[name].why_not(self.explained.network, request.players, request.tap)
            if reason is None:
                try:
                    with self.watch.measure(key):
                        explanations.append(explain(request, name))
                    continue
                except AttributionError as error:
                    reason = str(error)
            if name == "deeplift":
                # Whether its rules cover the network does not depend on the structure.
                self.refused.add(key)
            self.notes.setdefault(key, reason)
        return explanations

    def _references(self, request: Request) -> list[Explanation]:
        names = [name for name in REFERENCES if name != "random" and request.players.kind in METHODS[name].kinds]
        drawn = [explain(replace(request, seed=seed), "random") for seed in range(self.options.random_seeds)]
        return [*drawn, *(explain(request, name) for name in names)]

    def _row(self, request: Request, explanation: Explanation) -> dict[str, Any]:
        return {
            "id": explanation.id,
            "side": explanation.side,
            "kind": explanation.kind,
            "method": explanation.method,
            "baseline": explanation.baseline,
            "removal": request.game.baseline,
            "unit": explanation.unit,
            "output": explanation.output,
            "remainder": explanation.remainder,
            "convergence_delta": explanation.delta,
            "relative_delta": explanation.relative_delta if explanation.additive else float("nan"),
            "steps": float("nan") if explanation.steps is None else float(explanation.steps),
            **measure(explanation, request.game),
            "sensitivity": float("nan"),
        }

    def _add_sensitivity(self, request: Request, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            if row["method"] == "integrated-gradients" and row["kind"] == request.players.kind:
                with self.watch.measure("sensitivity of integrated gradients"):
                    row["sensitivity"] = _sensitivity(request)


def _sensitivity(request: Request) -> float:
    path = request.path

    def again(inputs: Tensor) -> Tensor:
        rows = [integrate(path, steps=STEPS, inputs=one.to(path.inputs)).values for one in inputs.detach()]
        return torch.from_numpy(np.stack(rows))

    return sensitivity(again, path.inputs, seed=request.seed)


def _head_rows(request: Request) -> list[dict[str, Any]]:
    return [
        {"id": request.subject.id, "tap": request.tap, "head": head, "importance": float(value)}
        for head, value in enumerate(head_importance(request.view))
    ]
