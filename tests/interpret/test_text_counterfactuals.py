"""Counterfactual passes equal whole forward passes of the network they speak of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from interpret.counterfactual import MASKED_SHARES, Counterfactual, standard_counterfactuals
from interpret.record import StructureRecord
from interpret.runner import Prepared, Runner
from interpret.text_changes import hide_words, mask_token, masked_text, other_text, select_structures, with_texts
from interpret.words import group_words
from model.batch import collate
from model.dataset import CrystalDataset
from model.encoder import TransformersEncoder, load_encoder


def watched(name: str) -> bool:
    """Taps that the columns are measured at."""
    return name.endswith(".nodes") or name.startswith("fusion.")


@pytest.fixture(scope="module")
def encoder() -> TransformersEncoder:
    return load_encoder(None, cache_directory=False)


@pytest.fixture
def network(make_network: Callable[..., Any]) -> Any:
    return make_network(token_features=384).double()


@pytest.fixture(scope="module")
def prepared(textbook_data: Path, encoder: TransformersEncoder, make_network: Any) -> list[Prepared]:
    return list(Runner(make_network(token_features=384), encoder).prepare(CrystalDataset.from_directory(textbook_data)))


@pytest.fixture(scope="module")
def pool(prepared: list[Prepared]) -> list[str]:
    return [one.encoding.text for one in prepared]


def records(network: Any, encoder: Any, data: Path, changes: list[Counterfactual], **options: Any) -> Any:
    runner = Runner(network, encoder, taps=[watched], counterfactuals=changes, **options)
    return {record.id: record for record in runner.run(CrystalDataset.from_directory(data))}


def whole(network: Any, one: Prepared, encoding: Any = None) -> float:
    """The prediction of a full pass for one structure alone, with its own text or another."""
    batch = collate([one.graph], [one.encoding if encoding is None else encoding])
    with torch.no_grad():
        return float(network(batch))


def columns(record: StructureRecord, name: str) -> float:
    return record.counterfactuals[f"counterfactual.{name}.prediction"]


@pytest.mark.parametrize("middle", [True, False], ids=["middle fusion", "no middle fusion"])
def test_other_texts_equal_a_full_pass_with_that_text(
    middle: bool, make_network: Any, encoder: Any, textbook_data: Path, prepared: list[Prepared], pool: list[str]
) -> None:
    network = make_network(token_features=384, use_middle_fusion=middle).double()
    changes = standard_counterfactuals(encoder, pool)
    result = records(network, encoder, textbook_data, changes)
    for change in changes:
        if change.texts is None:
            continue
        for one in prepared:
            encoding = change.texts(one)
            got = columns(result[one.sample.id], change.name)
            if encoding is None:
                assert np.isnan(got)
            else:
                assert got == pytest.approx(whole(network, one, encoding), abs=1e-10), change.name


class Passing(nn.Module):
    """Gives back its first input."""

    def forward(self, nodes: torch.Tensor, *_: Any) -> torch.Tensor:
        return nodes


class Closed(nn.Module):
    """A gate that is zero."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(inputs[..., : inputs.shape[-1] // 2])


def test_fusion_off_equals_a_network_without_its_fusion(
    network: Any, encoder: Any, textbook_data: Path, prepared: list[Prepared], pool: list[str]
) -> None:
    result = records(network, encoder, textbook_data, standard_counterfactuals(encoder, pool))
    bypassed, closed = copy.deepcopy(network), copy.deepcopy(network)
    bypassed.middle_fusion_modules["layer_1"] = Passing()
    closed.middle_fusion_modules["layer_1"].gate = Closed()
    for one in prepared:
        record = result[one.sample.id]
        assert columns(record, "fusion_off") == pytest.approx(whole(bypassed, one), abs=1e-10)
        assert columns(record, "gate_closed") == pytest.approx(whole(closed, one), abs=1e-10)
        assert abs(columns(record, "gate_closed") - record.prediction) > 1e-6


def test_uniform_attention_equals_queries_of_zero(
    network: Any, encoder: Any, textbook_data: Path, prepared: list[Prepared], pool: list[str]
) -> None:
    """Scores of zero give every token the same weight, one over the number of tokens."""
    result = records(network, encoder, textbook_data, standard_counterfactuals(encoder, pool))
    flat = copy.deepcopy(network)
    module = flat.fine_grained_attention
    with torch.no_grad():
        module.a2t_query.weight.zero_()
        module.a2t_query.bias.zero_()
    seen: dict[str, Any] = {}
    handle = module.atom_to_token.register_forward_hook(keep(seen, "weights"))
    for one in prepared:
        assert columns(result[one.sample.id], "attention_uniform") == pytest.approx(whole(flat, one), abs=1e-10)
        np.testing.assert_allclose(seen["weights"].numpy(), 1 / len(one.encoding.pieces), atol=1e-12)
    handle.remove()


def test_columns_do_not_depend_on_the_batch(network: Any, encoder: Any, textbook_data: Path, pool: list[str]) -> None:
    """Some structures of a batch have a masked text and others not: the parts are put together again."""
    changes = standard_counterfactuals(encoder, [pool[0], pool[3], pool[4], pool[1], pool[2]])
    chosen = Counterfactual(
        "only", "fusion", texts=lambda one: encoder.encode(["TiO2"])[0] if "u" in one.sample.id else None
    )
    one, all_ = (records(network, encoder, textbook_data, [*changes, chosen], batch_size=size) for size in (1, 5))
    for name, record in all_.items():
        assert np.isnan(columns(record, "only")) == ("u" not in name)
        for column, value in record.counterfactuals.items():
            np.testing.assert_allclose(one[name].counterfactuals.get(column, np.nan), value, atol=1e-9, err_msg=column)


def test_a_part_of_a_batch_is_those_structures_alone(network: Any, make_batch: Any) -> None:
    batch = make_batch((1, 3, 2, 4), (4, 7, 5, 6), width=384).to(dtype=torch.float64)
    text = network.text_projection(batch.token_embeddings[:, 0])
    state = network.advance(network.start(batch), batch, text, until=1)
    part, part_state = select_structures(batch, state, [1, 3], bonds=True)
    with torch.no_grad():
        everything, some = network(batch), network(part, state=part_state)
    np.testing.assert_allclose(some.numpy(), everything[[1, 3]].numpy(), atol=1e-12)
    np.testing.assert_allclose(network(part).detach().numpy(), everything[[1, 3]].numpy(), atol=1e-12)
    last = network.advance(network.start(batch), batch, text)
    last = last._replace(y=last.x, z=last.x)
    part, part_state = select_structures(batch, last, [0, 2], bonds=False)
    np.testing.assert_allclose(network(part, state=part_state).detach().numpy(), everything[[0, 2]].numpy(), atol=1e-12)


def test_what_the_text_does_behind_the_fusion(
    network: Any, encoder: Any, textbook_data: Path, prepared: list[Prepared], pool: list[str]
) -> None:
    """Columns of the gate, the cosine and the change by text, against whole passes and numpy."""
    changes = standard_counterfactuals(encoder, pool)
    result = records(network, encoder, textbook_data, changes)
    fed = next(change.texts for change in changes if change.name == "text_shuffled_0")
    assert fed is not None
    fusion = network.middle_fusion_modules["layer_1"]
    for one in prepared:
        record = result[one.sample.id]
        seen: dict[str, Any] = {}
        handles = [
            module.register_forward_hook(keep(seen, name))
            for name, module in (
                ("gate", fusion.gate),
                ("fused", fusion),
                ("text", fusion.text_transform),
                ("last", network.gcn_layers[0]),
            )
        ]
        whole(network, one, fed(one))
        for handle in handles:
            handle.remove()
        column = {k.removeprefix("counterfactual."): v for k, v in record.counterfactuals.items()}
        gate = record.values("fusion.1.gate")
        assert column["text_shuffled_0.fusion.1.gate_change"] == pytest.approx(
            np.abs(seen["gate"].numpy() - gate).mean(), abs=1e-12
        )
        own, other = record.values("fusion.1.text_transform"), seen["text"][0].numpy()
        assert column["text_shuffled_0.fusion.1.text_similarity"] == pytest.approx(cosine(own, other), abs=1e-12)
        for stage, atoms in (
            ("alignn.1.nodes", record.values("alignn.1.nodes")),
            ("fusion.1.nodes", seen["fused"].numpy()),
            ("gcn.0.nodes", seen["last"][0].numpy()),
        ):
            expected = np.mean([cosine(atom, own) for atom in atoms])
            assert column[f"text_shuffled_0.fusion.1.text_cosine.{stage}"] == pytest.approx(expected, abs=1e-12)
        before, after = record.values("alignn.1.nodes"), record.values("fusion.1.nodes")
        centred = before - before.mean(axis=1, keepdims=True)
        norm = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + fusion.layer_norm.eps)
        silent = norm * fusion.layer_norm.weight.detach().numpy() + fusion.layer_norm.bias.detach().numpy()
        assert column["gate_closed.fusion.1.text_change"] == pytest.approx(relative(silent, after), abs=1e-9)
        assert column["gate_closed.fusion.1.norm_change"] == pytest.approx(relative(before, silent), abs=1e-9)


def keep(seen: dict[str, Any], name: str) -> Callable[..., None]:
    def hook(module: Any, inputs: Any, output: Any) -> None:
        seen[name] = output

    return hook


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def relative(before: np.ndarray, after: np.ndarray) -> float:
    return float((np.linalg.norm(after - before, axis=1) / np.linalg.norm(before, axis=1)).mean())


def test_masked_texts(encoder: Any, prepared: list[Prepared], pool: list[str]) -> None:
    token = mask_token(encoder)
    assert token == "[MASK]"
    for one in prepared:
        hidden: set[int] = set()
        words = [w for w in one.words if w.category != "special" and not w.is_punctuation]
        for share in MASKED_SHARES:
            masked = masked_text(encoder, token, set(pool), share / 100, seed=0)(one)
            if not words:
                assert masked is None
                continue
            assert masked is not None
            # Every other piece stays where it was, and so does the end of a truncated text.
            assert len(masked.pieces) == len(one.encoding.pieces)
            new = {i for i, piece in enumerate(masked.pieces) if piece == token}
            kept = [i for i in range(len(masked.pieces)) if i not in new]
            assert [masked.pieces[i] for i in kept] == [one.encoding.pieces[i] for i in kept]
            assert not new & set(np.flatnonzero(one.encoding.special))
            count = sum(set(word.pieces) <= new for word in words)
            assert count == int(np.ceil(share / 100 * len(words)))
            assert hidden <= new
            hidden = new
        assert masked_text(encoder, token, set(), 0.5, seed=0)(one) is None


def test_words_are_hidden_where_they_stand(encoder: Any) -> None:
    text = "Ba(1) is 12-coordinate, in F-43m."
    words = [w for w in group_words(encoder.encode([text])[0]) if w.text in ("12-coordinate", "F-43m")]
    sizes = [len(word.pieces) for word in words]
    assert hide_words(text, words, "#") == f"Ba(1) is {'#' * sizes[0]}, in {'#' * sizes[1]}."


def test_an_encoder_without_a_mask_token_has_no_curve(encoder: Any, pool: list[str]) -> None:
    class Plain:
        """Cuts texts at every character."""

        def encode(self, texts: list[str]) -> list[Any]:
            return [encoder.encode([text.replace("[MASK]", "mask it")])[0] for text in texts]

    assert mask_token(Plain()) is None
    names = {change.name for change in standard_counterfactuals(Plain(), pool)}
    assert not any(name.startswith("text_masked") for name in names)
    assert "text_empty" in names


def test_another_text_is_never_the_own_one(encoder: Any, prepared: list[Prepared], pool: list[str]) -> None:
    for seed in range(5):
        choose = other_text(encoder, pool, seed)
        assert all(choose(one).text != one.encoding.text for one in prepared)
    alone = other_text(encoder, [prepared[0].encoding.text], 0)
    assert alone(prepared[0]) is None
    assert alone(prepared[1]) is not None


def test_texts_of_different_length_are_padded(encoder: Any, make_batch: Any) -> None:
    batch = make_batch((1, 2), (4, 3), width=384)
    long, short = encoder.encode(["MgO crystallizes in the cubic Fm-3m space group.", "MgO"])
    changed = with_texts(batch, [short, long])
    assert changed.token_mask.sum(dim=1).tolist() == [len(short.pieces), len(long.pieces)]
    assert torch.equal(changed.token_embeddings[0, : len(short.pieces)], short.embeddings)
    assert float(changed.token_embeddings[0, len(short.pieces) :].abs().max()) == 0
    assert changed.atom_features is batch.atom_features
