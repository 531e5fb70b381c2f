"""Models whose attributions can be written down: methods must give those numbers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from interpret.attribution import AttributionError, Explanation, Target, attribute
from interpret.attribution.baselines import mask_piece, mean_atom
from interpret.attribution.explanation import COMPLETENESS
from interpret.attribution.games import Game, game_of
from interpret.attribution.players import players_of
from interpret.attribution.subject import Explained

ATOL = 1e-5


def atom_parts(model: Any, one: Any, weights: Any) -> tuple[np.ndarray, float]:
    """Contribution of each atom to a linear functional, and that of the mean atom."""
    own = (one.graph.atom_features.double() @ weights.detach()).numpy()
    return own, float(mean_atom() @ weights.detach())


@pytest.mark.parametrize("method", ["integrated-gradients", "ablation", "deeplift"])
def test_linear_model_by_atoms(method: str, linear_model: Any, random_encoder: Any, prepare_one: Any) -> None:
    one = prepare_one(random_encoder)
    found = attribute(linear_model, one, method=method, players="atoms")
    own, mean = atom_parts(linear_model, one, linear_model.w)
    np.testing.assert_allclose(found.values, own - mean, atol=ATOL)
    assert found.baseline == "mean-atom"
    assert found.players == one.graph.atom_labels


def test_linear_model_by_orbits_is_the_sum_over_their_atoms(
    linear_model: Any, random_encoder: Any, prepare_one: Any
) -> None:
    one = prepare_one(random_encoder)
    own, mean = atom_parts(linear_model, one, linear_model.w)
    for method in ("integrated-gradients", "ablation"):
        found = attribute(linear_model, one, method=method, players="orbits")
        np.testing.assert_allclose(found.values, [(own - mean)[:2].sum(), (own - mean)[2:].sum()], atol=ATOL)


def test_input_times_gradient_of_a_linear_model(linear_model: Any, random_encoder: Any, prepare_one: Any) -> None:
    one = prepare_one(random_encoder)
    own, _ = atom_parts(linear_model, one, linear_model.w)
    found = attribute(linear_model, one, method="input-x-gradient", players="atoms")
    np.testing.assert_allclose(found.values, own, atol=ATOL)


def test_polynomial_model_by_atoms(polynomial_model: Any, random_encoder: Any, prepare_one: Any) -> None:
    """f = p q with p, q linear: the path integral and the ablation in closed form."""
    one = prepare_one(random_encoder)
    p, p0 = atom_parts(polynomial_model, one, polynomial_model.w)
    q, q0 = atom_parts(polynomial_model, one, polynomial_model.u)
    dp, dq, n = p - p0, q - q0, len(p)
    path = dp * (q.sum() + n * q0) / 2 + dq * (p.sum() + n * p0) / 2
    found = attribute(polynomial_model, one, players="atoms")
    np.testing.assert_allclose(found.values, path, atol=ATOL)
    np.testing.assert_allclose(found.values.sum(), p.sum() * q.sum() - n * p0 * n * q0, atol=ATOL)
    assert found.complete
    without = attribute(polynomial_model, one, method="ablation", players="atoms")
    np.testing.assert_allclose(without.values, dp * q.sum() + dq * p.sum() - dp * dq, atol=ATOL)


def test_exact_shapley_of_the_game_of_a_polynomial(
    polynomial_model: Any, random_encoder: Any, prepare_one: Any
) -> None:
    """Mean over all orders of who joins: what the game's coalition values must give."""
    one = prepare_one(random_encoder)
    game = game_of(Explained(polynomial_model).subject(one), players_of(one, "atoms"))
    p, p0 = atom_parts(polynomial_model, one, polynomial_model.w)
    q, q0 = atom_parts(polynomial_model, one, polynomial_model.u)
    dp, dq, n = p - p0, q - q0, len(p)
    shapley = dp * (n * q0) + dq * (n * p0) + (dp * dq.sum() + dq * dp.sum()) / 2
    found = np.zeros(n)
    orders = list(permutations(range(n)))
    for order in orders:
        keep = np.zeros((n + 1, n), dtype=bool)
        for step, player in enumerate(order, start=1):
            keep[step:, player] = True
        found[list(order)] += np.diff(game.values(keep))
    np.testing.assert_allclose(found / len(orders), shapley, atol=ATOL)
    assert game.evaluated == 2**n


def test_linear_model_by_words(linear_model: Any, linear_encoder: Any, prepare_one: Any) -> None:
    """Integrated gradients go through the encoder to its input embeddings; the first token passes the words on."""
    one = prepare_one(linear_encoder)
    found = attribute(linear_model, one, encoder=linear_encoder)
    table = linear_encoder.network.embedding.weight.double()
    mask = table[mask_piece(linear_encoder)]
    v = linear_model.v.detach()
    expected = []
    for word in one.words:
        if word.category == "special":
            continue
        change = table[one.encoding.piece_ids[list(word.pieces)]] - mask
        expected.append(float((change @ v + change[:, 0] * v[0]).sum()))
    np.testing.assert_allclose(found.values, expected, atol=ATOL)
    assert found.remainder == pytest.approx(0.0, abs=ATOL)
    assert found.complete
    assert found.players[0] == "TiO2"
    masked = attribute(linear_model, one, method="ablation", encoder=linear_encoder, baseline="mask-token")
    np.testing.assert_allclose(masked.values, expected, atol=ATOL)
    sentences = attribute(linear_model, one, encoder=linear_encoder, players="sentences")
    assert len(sentences.players) == 2
    np.testing.assert_allclose(sentences.values.sum(), found.values.sum(), atol=ATOL)


def test_word_ablation_writes_the_text_without_the_word(
    linear_model: Any, linear_encoder: Any, prepare_one: Any
) -> None:
    one = prepare_one(linear_encoder)
    found = attribute(linear_model, one, method="ablation", encoder=linear_encoder)
    table, v = linear_encoder.network.embedding.weight.double(), linear_model.v.detach()

    def predict(text: str) -> float:
        pieces = table[linear_encoder.encode([text])[0].piece_ids]
        atoms = one.graph.atom_features.double() @ linear_model.w.detach()
        return float((pieces @ v).sum() + pieces[:, 0].sum() * v[0] + atoms.sum())

    text = one.encoding.text
    for word in ("cubic", "Rutile", "six"):
        expected = predict(text) - predict(text.replace(f"{word} ", ""))
        assert found.values[found.players.index(word)] == pytest.approx(expected, abs=ATOL)


def test_integrated_gradients_equal_captums_layer_method(
    make_network: Callable[..., Any], random_encoder: Any, prepare_one: Any
) -> None:
    """captum's LayerIntegratedGradients on the embedding layer of the encoder, one structure in plain calls."""
    from captum.attr import LayerIntegratedGradients

    from interpret.attribution.methods import Request, explain
    from model.batch import collate

    network = make_network().double()
    one = prepare_one(random_encoder)
    request = Request(Explained(network, random_encoder).subject(one), players_of(one, "words"), steps=16)
    found = explain(request)
    batch = collate([one.graph], [one.encoding]).to(dtype=torch.float64)

    # Hooks of the layer see all points of the path in one call.
    def at_once(ids: torch.Tensor) -> torch.Tensor:
        tokens = random_encoder.network(input_ids=ids).last_hidden_state.double()
        mask = torch.ones(1, tokens.shape[1], dtype=torch.bool)
        return torch.cat([network(batch.with_tokens(t[None], mask)) for t in tokens])

    ids = torch.from_numpy(one.encoding.piece_ids)[None]
    special = torch.from_numpy(one.encoding.special)
    baseline = torch.where(special, ids[0], mask_piece(random_encoder))[None]
    method = LayerIntegratedGradients(at_once, random_encoder.network.embeddings.word_embeddings)
    pieces = method.attribute(ids, baselines=baseline, n_steps=16)[0].double().sum(dim=-1).detach().numpy()
    expected = [pieces[list(word.pieces)].sum() for word in one.words if word.category != "special"]
    np.testing.assert_allclose(found.values, expected, rtol=1e-4, atol=1e-7)
    assert found.change == pytest.approx(float((at_once(ids) - at_once(baseline)).detach()), rel=1e-4, abs=1e-8)
    assert abs(found.delta) <= COMPLETENESS * abs(found.change)


def path_through(function: Any, dtype: torch.dtype) -> Any:
    from interpret.attribution.gradients import Path

    inputs = torch.linspace(0.5, 1.0, 6, dtype=dtype).reshape(3, 2)
    return Path(function, inputs, torch.zeros_like(inputs), 64, "zero", lambda values: (values, 0.0))


def test_points_are_put_where_the_path_needs_them_and_no_further_than_helps() -> None:
    from interpret.attribution.gradients import MOST_STEPS, integrate

    smooth = integrate(path_through(lambda rows: rows.sum(dim=(1, 2)) ** 3, torch.float64))
    assert smooth.steps == 24
    # A steep step: 1,000 points spread over the whole path would be needed to have as many on it.
    steep = integrate(path_through(lambda rows: torch.sigmoid(800 * (rows.sum(dim=(1, 2)) - 2.2)), torch.float64))
    assert 24 < steep.steps < 150
    assert abs(steep.values.sum() - (steep.output - steep.baseline_output)) < 0.01
    # Each row has its share of a function of their sum.
    rows = torch.linspace(0.5, 1.0, 6, dtype=torch.float64).reshape(3, 2).sum(dim=1).numpy()
    np.testing.assert_allclose(steep.values / steep.values.sum(), rows / rows.sum(), rtol=1e-9)
    # A small change on top of a large number is lost in float32: points cannot bring it back.
    lost = integrate(path_through(lambda rows: 1e5 + 0.011 * rows.sum(dim=(1, 2)), torch.float32))
    assert abs(lost.values.sum() - (lost.output - lost.baseline_output)) > 0.01 * abs(lost.values.sum())
    assert lost.steps < 150
    # A jump has no gradient anywhere: it is looked for down to the shortest part, and what it makes stays missing.
    jump = integrate(path_through(lambda rows: rows.sum(dim=(1, 2)).ge(2.2) + 0 * rows.sum(dim=(1, 2)), torch.float64))
    assert jump.values.sum() == 0
    assert jump.output - jump.baseline_output == 1
    assert jump.steps <= MOST_STEPS


def test_parts_of_a_path_do_not_make_up_for_each_other() -> None:
    from interpret.attribution.gradients import integrate

    # Two steep steps, up and down, after a slow rise: the change is small and what the steps are off by cancels.
    def function(rows: torch.Tensor) -> torch.Tensor:
        total = rows.sum(dim=(1, 2))
        return 0.01 * total + torch.sigmoid(300 * (total - 1.03)) - torch.sigmoid(300 * (total - 3.41))

    path = path_through(function, torch.float64)
    found = integrate(path)
    change = found.output - found.baseline_output
    assert abs(found.values.sum() - change) < 0.01 * change
    # An independent quadrature: the integral of the gradient along the path, row by row, on a fine grid.
    shares = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    total = shares * float(path.inputs.sum())
    steps = [torch.sigmoid(300 * (total - place)) for place in (1.03, 3.41)]
    slope = 0.01 + 300 * (steps[0] * (1 - steps[0]) - steps[1] * (1 - steps[1]))
    expected = float(slope.mean()) * path.inputs.sum(dim=1).numpy()
    np.testing.assert_allclose(found.values, expected, rtol=0.01)


def test_values_are_right_where_any_number_of_points_has_the_right_sum() -> None:
    from interpret.attribution.gradients import Path, integrate

    # Along the path the gradients are w(t) and 1 - w(t): they sum to 1 whatever the points, and w is steep at 0.37.
    def function(rows: torch.Tensor) -> torch.Tensor:
        first, second = rows[:, 0, 0], rows[:, 1, 0]
        return second + (first - second) * torch.sigmoid(200 * ((first + second) / 2 - 0.37))

    inputs = torch.ones(2, 1, dtype=torch.float64)
    path = Path(function, inputs, torch.zeros_like(inputs), 64, "zero", lambda values: (values, 0.0))
    coarse, found = integrate(path, steps=16), integrate(path)
    assert abs(coarse.values.sum() - 1) < 1e-12
    assert abs(coarse.values[0] - 0.63) > 0.01
    np.testing.assert_allclose(found.values, [0.63, 0.37], atol=1e-3)


def test_a_target_that_nothing_moves_costs_little() -> None:
    from interpret.attribution.gradients import integrate

    still = integrate(path_through(lambda rows: 3 + 1e-16 * torch.sin(9 * rows).sum(dim=(1, 2)), torch.float64))
    assert still.steps < 100


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_a_fixed_number_of_steps_is_captums(steps: int) -> None:
    from captum.attr import IntegratedGradients

    from interpret.attribution.gradients import integrate

    path = path_through(lambda rows: torch.sin(3 * rows).sum(dim=(1, 2)) ** 2, torch.float64)
    found = integrate(path, steps=steps)
    expected = IntegratedGradients(path.function).attribute(path.inputs[None], n_steps=steps)[0].sum(dim=-1)
    np.testing.assert_allclose(found.values, expected.numpy(), rtol=1e-12)
    assert found.steps == steps


def test_many_ablations_in_a_pass_equal_one_at_a_time(
    make_network: Callable[..., Any], random_encoder: Any, prepare_one: Any
) -> None:
    from interpret.attribution.players import kept_text
    from model.batch import collate
    from model.crystal import build_graph

    network = make_network().double()
    one = prepare_one(random_encoder)
    subject = Explained(network, random_encoder).subject(one)
    words, atoms = players_of(one, "words"), players_of(one, "atoms")
    generator = np.random.default_rng(0)
    keep = generator.random((12, len(words))) < 0.7
    texts = [kept_text(one.encoding.text, one.words, present.tolist()) for present in words.spread(keep)]
    with torch.no_grad():
        alone = [
            network(collate([build_graph(one.sample.structure)], random_encoder.encode([t]))).item() for t in texts
        ]
    np.testing.assert_allclose(game_of(subject, words).values(keep), alone, atol=1e-6)
    keep = generator.random((9, len(atoms))) < 0.5
    batch = collate([one.graph], [one.encoding]).to(dtype=torch.float64)
    import dataclasses

    with torch.no_grad():
        alone = [
            network(
                dataclasses.replace(
                    batch,
                    atom_features=torch.where(torch.from_numpy(row)[:, None], batch.atom_features, mean_atom()),
                )
            ).item()
            for row in keep
        ]
    np.testing.assert_allclose(game_of(subject, atoms).values(keep), alone, atol=1e-9)


def test_a_tap_as_target(make_network: Callable[..., Any], random_encoder: Any, prepare_one: Any) -> None:
    from interpret.hooks import HookRegistry
    from model.batch import collate

    network = make_network().double()
    one = prepare_one(random_encoder)
    batch = collate([one.graph], [one.encoding]).to(dtype=torch.float64)
    with HookRegistry(network).capture("fusion.1.gate", "readout") as captured, torch.no_grad():
        network(batch)
    gate = captured["fusion.1.gate"].values.mean(dim=0)
    found = attribute(network, one, encoder=random_encoder, players="atoms", target=Target("fusion.1.gate", channel=3))
    assert found.output == pytest.approx(float(gate[3]), abs=1e-9)
    assert found.target == "fusion.1.gate[3]"
    assert found.complete
    whole = attribute(network, one, encoder=random_encoder, target=Target("readout"))
    assert whole.output == pytest.approx(float(captured["readout"].values[0].norm()), abs=1e-6)
    with pytest.raises(AttributionError, match="no tokens"):
        attribute(network, one, encoder=random_encoder, target=Target("attention.atom_to_token"))


def test_a_game_is_asked_once_a_coalition() -> None:
    asked: list[int] = []

    def evaluate(keep: Any) -> Any:
        asked.append(len(keep))
        return keep.sum(axis=1).astype(float)

    from interpret.attribution.players import Players

    players = Players("text", "words", ("a", "b", "c"), ("other",) * 3, ((0,), (1,), (2,)), 3)
    game = Game(players, evaluate, "none")
    keep = np.array([[True, True, False], [True, True, False], [False, False, False]])
    assert game.values(keep).tolist() == [2.0, 2.0, 0.0]
    assert game.empty == 0.0
    assert asked == [2]
    with pytest.raises(AttributionError, match=r"expected bool \[K, 3\]"):
        game.values(np.ones((1, 2), dtype=bool))


def explanation(**changes: Any) -> Explanation:
    fields: dict[str, Any] = {
        "id": "x",
        "method": "integrated-gradients",
        "side": "text",
        "kind": "words",
        "players": ("a", "b"),
        "categories": ("other", "other"),
        "values": np.array([1.0, 2.0]),
        "target": "prediction",
        "unit": "eV",
        "baseline": "mask-token",
        "output": 3.5,
        "baseline_output": 0.5,
        "additive": True,
    }
    return Explanation(**(fields | changes))


def test_an_explanation_knows_whether_it_sums(tmp_path: Any) -> None:
    whole = explanation()
    assert whole.complete
    assert whole.delta == pytest.approx(0.0)
    off = explanation(output=3.6)
    assert not off.complete
    assert off.delta == pytest.approx(-0.1)
    off.save(tmp_path / "e.json")
    again = Explanation.load(tmp_path / "e.json")
    assert again.rows() == off.rows()
    assert again.delta == off.delta
    assert explanation(additive=False, baseline_output=float("nan")).complete is None


def test_an_explanation_refuses_what_does_not_fit() -> None:
    with pytest.raises(AttributionError, match="one float64 value for each of 2 players"):
        explanation(values=np.ones(3))
    with pytest.raises(AttributionError, match="not finite"):
        explanation(values=np.array([1.0, np.nan]))
    with pytest.raises(AttributionError, match="needs the target at its baseline"):
        explanation(baseline_output=float("nan"))


def test_ties_are_drawn_and_not_taken_by_position() -> None:
    tied = explanation(values=np.full(2, 0.3))
    assert tied.tied
    assert {tuple(tied.order(seed)) for seed in range(20)} == {(0, 1), (1, 0)}
    sure = explanation(values=np.array([-2.0, 1.0]))
    assert not sure.tied
    assert {tuple(sure.order(seed)) for seed in range(20)} == {(0, 1)}
