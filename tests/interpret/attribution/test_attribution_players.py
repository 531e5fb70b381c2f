"""Who can be absent, and how a text reads without some of its words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interpret.attribution import AttributionError, attribute
from interpret.attribution.baselines import BASELINES, baseline_for, mean_atom
from interpret.attribution.games import game_of
from interpret.attribution.players import Players, kept_text, players_of
from interpret.attribution.reference import Frequencies, frequencies_of, frequency_keys, random_values
from interpret.attribution.subject import Explained, copies
from interpret.words import group_words
from model.batch import collate


def without(one: Any, *words: str) -> str:
    return kept_text(one.encoding.text, one.words, [word.text not in words for word in one.words])


def test_text_without_words_reads_like_a_text(random_encoder: Any, prepare_one: Any) -> None:
    one = prepare_one(random_encoder, "SrTiO3 is (Cubic) Perovskite structured, in Pm-3m. Ti-O is 1.95 Å long.")
    assert without(one) == one.encoding.text
    assert without(one, "Perovskite") == "SrTiO3 is (Cubic) structured, in Pm-3m. Ti-O is 1.95 Å long."
    assert without(one, "SrTiO3", "is") == "(Cubic) Perovskite structured, in Pm-3m. Ti-O 1.95 Å long."
    assert without(one, "structured", "Pm-3m") == "SrTiO3 is (Cubic) Perovskite, in. Ti-O is 1.95 Å long."
    assert without(one, *(word.text for word in one.words)) == ""


@given(st.data())
def test_what_is_kept_is_the_words_in_their_order(random_encoder: Any, data: st.DataObject) -> None:
    encoding = random_encoder.encode(["Na(1)-Cl(1) is 2.82 Å; NaCl is Halite structured (cubic, Fm-3m). It is one."])[0]
    words = group_words(encoding)
    keep = data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    kept = kept_text(encoding.text, words, keep)
    expected = [w.text for w, stays in zip(words, keep, strict=True) if stays and w.category != "special"]
    assert kept.replace(" ", "") == "".join(expected).replace(" ", "")
    assert "  " not in kept
    assert kept == kept.strip()


def test_words_behind_the_cut_do_not_move_up(random_encoder: Any, prepare_one: Any) -> None:
    one = prepare_one(random_encoder, "NaCl is Halite structured. " * 200)
    assert one.encoding.truncated
    words = [word for word in one.words if word.category != "special"]
    assert len(without(one).split()) < len(one.encoding.text.split())
    assert without(one).endswith(words[-1].text)


def test_players_of_rutile(random_encoder: Any, prepare_one: Any) -> None:
    one = prepare_one(random_encoder)
    assert players_of(one, "atoms").labels == ("Ti1", "Ti2", "O1", "O2", "O3", "O4")
    orbits = players_of(one, "orbits")
    assert orbits.members == ((0, 1), (2, 3, 4, 5))
    bonds = players_of(one, "bonds")
    assert sum(map(len, bonds.members)) == one.graph.number_of_bonds
    assert bonds.labels[0].startswith("O-Ti 1.9")
    lengths = one.graph.bond_vectors.norm(dim=1).numpy()
    for members in bonds.members:
        assert np.diff(np.sort(lengths[list(members)])).max(initial=0.0) <= 0.1
    assert players_of(one, "sentences").labels[1] == "Ti is bonded to six O atoms."
    with pytest.raises(AttributionError, match="words, sentences, atoms, orbits, bonds, got 'tokens'"):
        players_of(one, "tokens")
    empty = prepare_one(random_encoder, "")
    with pytest.raises(AttributionError, match="no words"):
        players_of(empty, "words")


def test_units_have_one_player_at_most() -> None:
    with pytest.raises(AttributionError, match="one player at most"):
        Players("graph", "atoms", ("a", "b"), ("x", "x"), ((0, 1), (1,)), 2)


def test_bonds_taken_out_take_their_angles_along(make_network: Any, random_encoder: Any, prepare_one: Any) -> None:
    import dataclasses

    one = prepare_one(random_encoder)
    network = make_network().double()
    subject = Explained(network).subject(one)
    players = players_of(one, "bonds")
    keep = np.ones((1, len(players)), dtype=bool)
    keep[0, 0] = False
    found = game_of(subject, players).values(keep)[0]
    graph = one.graph
    rest = [b for b in range(graph.number_of_bonds) if b not in players.members[0]]
    number = {bond: i for i, bond in enumerate(rest)}
    angles = [
        (number[a], number[b], cosine)
        for a, b, cosine in zip(
            graph.angle_source.tolist(), graph.angle_target.tolist(), graph.angle_cosines.tolist(), strict=True
        )
        if a in number and b in number
    ]
    smaller = dataclasses.replace(
        collate([graph], [one.encoding]),
        bond_source=graph.bond_source[rest],
        bond_target=graph.bond_target[rest],
        bond_vectors=graph.bond_vectors[rest],
        angle_source=torch.tensor([a for a, _, _ in angles]),
        angle_target=torch.tensor([b for _, b, _ in angles]),
        angle_cosines=torch.tensor([c for _, _, c in angles]),
    )
    with torch.no_grad():
        assert found == pytest.approx(network(smaller).item(), abs=1e-9)
    with pytest.raises(AttributionError, match="not by bonds"):
        attribute(network, one, players="bonds", method="integrated-gradients", baseline="no-bond")


def test_copies_are_the_structure_again_and_again(make_batch: Any, make_network: Any) -> None:
    batch = make_batch((3,), (5,))
    network = make_network()
    with torch.no_grad():
        alone, many = network(batch), network(copies(batch, 4))
    np.testing.assert_allclose(many, alone.expand(4), rtol=1e-5)


def test_baselines_are_named_with_a_reason_and_refused_where_they_do_not_fit() -> None:
    assert all(b.reason and b.meaning for b in BASELINES.values())
    with pytest.raises(AttributionError, match="baselines that do: mask-token, mean-embedding"):
        baseline_for("empty-text", "text", "gradient", "words")
    with pytest.raises(AttributionError, match="empty-text, mask-token"):
        baseline_for("mean-atom", "text", "ablation", "words")
    assert baseline_for(None, "graph", "gradient", "atoms").name == "mean-atom"


def test_the_mean_atom_is_within_every_feature(random_encoder: Any, prepare_one: Any) -> None:
    one = prepare_one(random_encoder)
    own = mean_atom([one.graph])
    np.testing.assert_allclose(own, one.graph.atom_features.double().mean(dim=0))
    general = mean_atom()
    assert general.shape == (92,)
    assert bool((general >= 0).all())
    assert bool((general <= 1).all())


def test_a_network_that_never_reads_atom_features_is_refused(
    make_network: Any, random_encoder: Any, prepare_one: Any
) -> None:
    network = make_network(element_embedding="learned", atom_input_features=92)
    with pytest.raises(AttributionError, match="never reads atom features"):
        attribute(network, prepare_one(random_encoder), players="atoms")


def test_random_values_belong_to_the_structure_and_frequencies_to_the_data(
    random_encoder: Any, prepare_one: Any
) -> None:
    one = prepare_one(random_encoder)
    words = players_of(one, "words")
    first = random_values(words, "a", 0)
    assert np.array_equal(first, random_values(words, "a", 0))
    assert not np.array_equal(first, random_values(words, "b", 0))
    assert not np.array_equal(first, random_values(words, "a", 1))
    other = prepare_one(random_encoder, "Si is diamond structured.")
    known = frequencies_of([one, other])["text"]
    assert known.count["structured"] == 2
    values = dict(zip(words.labels, known.values(words, frequency_keys(words)), strict=True))
    assert values["structured"] == 0.0
    assert values["Rutile"] == pytest.approx(np.log(3 / 2))
    assert Frequencies([["A", "a"]]).count["a"] == 1
