"""Every explainer by name, what it needs, and how to ask for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from interpret.attribution import inside, reference
from interpret.attribution.ablation import ablate
from interpret.attribution.deeplift import deeplift
from interpret.attribution.explanation import AttributionError, Explanation, Floats
from interpret.attribution.games import Game, game_of
from interpret.attribution.gradients import Path, input_times_gradient, integrate, path_of
from interpret.attribution.players import Players
from interpret.attribution.subject import Subject

if TYPE_CHECKING:
    pass

DEFAULT_METHOD = "integrated-gradients"


@dataclass
class Request:
    """What a method is asked for; passes that several methods need are made once.

    Attributes:
        subject, players: what is explained, by whom.
        baseline: name, None for the method's default.
        seed: of explainers that draw.
        steps: of path integrals; None raises them until the sum fits.
        frequencies: of words and elements in the data set, for the frequency explainer.
        tap: the attention to read.
    """

    subject: Subject
    players: Players
    baseline: str | None = None
    seed: int = 0
    steps: int | None = None
    frequencies: Mapping[str, reference.Frequencies] = field(default_factory=dict)
    tap: str = inside.DEFAULT_TAP
    _game: Game | None = None
    _path: Path | None = None
    _view: inside.AttentionView | None = None

    @property
    def game(self) -> Game:
        """The target by who is present."""
        if self._game is None:
            self._game = game_of(self.subject, self.players, self.baseline)
        return self._game

    @property
    def path(self) -> Path:
        """The way from the baseline to the input."""
        if self._path is None:
            self._path = path_of(self.subject, self.players, self.baseline)
        return self._path

    @property
    def view(self) -> inside.AttentionView:
        """The attention."""
        if self._view is None:
            self._view = inside.view_attention(self.subject, self.tap)
        return self._view

    def explanation(self, method: str, values: Floats, **more: object) -> Explanation:
        """An explanation of this subject by these players."""
        target = self.subject.explained.target
        return Explanation(
            id=self.subject.id,
            method=method,
            side=self.players.side,
            kind=self.players.kind,
            players=self.players.labels,
            categories=self.players.categories,
            values=values,
            target=target.name,
            **({"baseline": "", "output": self.subject.output, "unit": target.unit} | more),  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class Method:
    """An explainer.

    Attributes:
        name: public.
        kinds: of players it can explain by.
        explain: from a request to an explanation.
        meaning: one line for people.
        reads_attention: whether the network must have attention from atoms to tokens.
    """

    name: str
    kinds: frozenset[str]
    explain: Callable[[Request], Explanation]
    meaning: str
    reads_attention: bool = False

    def why_not(self, network: nn.Module, players: Players, tap: str = inside.DEFAULT_TAP) -> str | None:
        """Why the method cannot explain this network by these players; None where it can."""
        if players.kind not in self.kinds:
            return f"it explains by {', '.join(sorted(self.kinds))}, not by {players.kind}"
        if self.reads_attention and tap not in inside.attention_taps(network):
            return f"the network has no attention {tap!r} from atoms to tokens"
        return None


def _integrated(request: Request) -> Explanation:
    path = request.path
    found = integrate(path, steps=request.steps)
    units, rest = path.to_units(found.values)
    explanation = request.explanation(
        "integrated-gradients",
        request.players.collect(units),
        baseline=path.baseline_name,
        output=found.output,
        baseline_output=found.baseline_output,
        additive=True,
        remainder=rest,
        steps=found.steps,
    )
    if explanation.complete or request.steps is not None:
        return explanation
    note = f"not converged: off by {100 * explanation.relative_delta:.2g} % at {found.steps} steps"
    return replace(explanation, notes=(note,))


def _input_gradient(request: Request) -> Explanation:
    units, rest = request.path.to_units(input_times_gradient(request.path))
    return request.explanation("input-x-gradient", request.players.collect(units), remainder=rest)


def _deeplift(request: Request) -> Explanation:
    path = request.path
    values = deeplift(request.subject.network, path.function, path.inputs, path.baseline)
    units, rest = path.to_units(values)
    ends = integrate(path, steps=1)
    return request.explanation(
        "deeplift",
        request.players.collect(units),
        baseline=path.baseline_name,
        baseline_output=ends.baseline_output,
        additive=True,
        remainder=rest,
    )


def _ablation(request: Request) -> Explanation:
    game = request.game
    values = ablate(game)
    return request.explanation("ablation", values, baseline=game.baseline, output=game.full, baseline_output=game.empty)


def _from_attention(name: str, read: Callable[[Request], Floats]) -> Callable[[Request], Explanation]:
    def explain(request: Request) -> Explanation:
        pieces = read(request)
        words = request.subject.structure.words
        units = [float(pieces[list(word.pieces)].sum()) for word in words]
        owned = [i for member in request.players.members for unit in member for i in words[unit].pieces]
        values = [sum(units[unit] for unit in member) for member in request.players.members]
        rest = float(np.delete(pieces, owned).sum())
        more = {} if name == "gradient-x-attention" else {"unit": "weight"}
        return request.explanation(name, np.array(values, dtype=np.float64), remainder=rest, **more)

    return explain


def _reference(name: str, make: Callable[[Request], Floats]) -> Callable[[Request], Explanation]:
    return lambda request: request.explanation(name, make(request), unit="weight")


def _frequency(request: Request) -> Floats:
    if request.players.side not in request.frequencies:
        raise AttributionError(
            "the frequency explainer needs the data set: pass frequencies=frequencies_of(structures)"
        )
    known = request.frequencies[request.players.side]
    return known.values(request.players, reference.frequency_keys(request.players))


_TEXT = frozenset({"words", "sentences"})
_INPUTS = _TEXT | {"atoms", "orbits"}
_ALL = _INPUTS | {"bonds"}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(DEFAULT_METHOD, _INPUTS, _integrated, "gradients along the way from a baseline to the input"),
        Method("input-x-gradient", _INPUTS, _input_gradient, "input times gradient"),
        Method("deeplift", _INPUTS, _deeplift, "differences passed back through activations, where rules cover them"),
        Method("ablation", _ALL, _ablation, "what is lost without the player"),
        Method(
            "attention",
            _TEXT,
            _from_attention("attention", lambda request: inside.attention(request.view)),
            "attention received from atoms, mean over heads",
            True,
        ),
        Method(
            "attention-rollout",
            _TEXT,
            _from_attention(
                "attention-rollout", lambda request: inside.follow(request.subject, inside.attention(request.view))
            ),
            "the same, followed through the text encoder to its input",
            True,
        ),
        Method(
            "norm-based",
            _TEXT,
            _from_attention("norm-based", lambda request: inside.norm_based(request.view)),
            "length of what each token writes into the atoms",
            True,
        ),
        Method(
            "gradient-x-attention",
            _TEXT,
            _from_attention("gradient-x-attention", lambda request: inside.gradient_times_attention(request.view)),
            "attention times its gradient",
            True,
        ),
        Method(
            "value-zeroing",
            _TEXT,
            _from_attention("value-zeroing", lambda request: inside.value_zeroing(request.view)),
            "how far atoms move when a token's value is zero",
            True,
        ),
        Method(
            "random",
            _ALL,
            _reference("random", lambda r: reference.random_values(r.players, r.subject.id, r.seed)),
            "drawn",
        ),
        Method(
            "uniform", _ALL, _reference("uniform", lambda r: reference.uniform_values(r.players)), "the same for all"
        ),
        Method(
            "uniform-attention",
            _TEXT,
            _reference("uniform-attention", lambda r: reference.piece_values(r.subject.structure, r.players)),
            "words of many pieces first: what attention without any choice would give",
        ),
        Method("position", _ALL, _reference("position", lambda r: reference.position_values(r.players)), "first first"),
        Method("frequency", _INPUTS, _reference("frequency", _frequency), "rare words or elements first"),
    )
}
REFERENCES = ("random", "uniform", "uniform-attention", "position", "frequency")


def method_named(name: str) -> Method:
    """A method by name.

    Raises:
        AttributionError: there is none, with the names there are.
    """
    if name not in METHODS:
        raise AttributionError(f"expected the method to be one of {', '.join(METHODS)}, got {name!r}")
    return METHODS[name]


def explain(request: Request, method: str = DEFAULT_METHOD) -> Explanation:
    """Run a method, if it applies.

    Raises:
        AttributionError: it does not, with the reason.
    """
    chosen = method_named(method)
    reason = chosen.why_not(request.subject.network, request.players, request.tap)
    if reason is not None:
        raise AttributionError(f"{method} does not apply: {reason}")
    return chosen.explain(request)
