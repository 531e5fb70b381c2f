"""Texts that take the place of a structure's own, for counterfactuals, and the part of a batch that gets them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from model.network import GraphState

if TYPE_CHECKING:
    from interpret.runner import Prepared
    from interpret.words import Word
    from model.batch import CrystalBatch
    from model.encoder import TextEncoder, TextEncoding

# None where a structure has no such text: its columns are undefined then.
Texts = Callable[["Prepared"], "TextEncoding | None"]

# How masked language models write the piece that stands for a hidden one: BERT and its kin, RoBERTa and its kin.
MASK_TOKENS = ("[MASK]", "<mask>")


def other_text(encoder: TextEncoder, pool: Sequence[str], seed: int) -> Texts:
    """A text of the pool for each structure, never its own, drawn by a hash of the structure's id and text."""

    def choose(one: Prepared) -> TextEncoding | None:
        others = [text for text in pool if text != one.encoding.text]
        if not others:
            return None
        return encoder.encode([others[_hash(f"{seed}:{one.sample.id}:{one.encoding.text}") % len(others)]])[0]

    return choose


def masked_text(encoder: TextEncoder, token: str, chosen: Collection[str], share: float, seed: int) -> Texts:
    """The own text with a share of its words hidden, for the structures whose text is among the chosen ones.

    Every piece of a hidden word becomes one mask token, so that all other pieces, and the end of a truncated text, keep
    their place. Special tokens and punctuation stay. The words are drawn by a hash of the text: those hidden at a
    smaller share are hidden at a larger one too.

    Args:
        encoder: of the network.
        token: its mask token, from :func:`mask_token`.
        chosen: texts to do this for; each costs a pass through the encoder.
        share: of the words, 0 to 1; rounded up.
        seed: of the draw.
    """

    def mask(one: Prepared) -> TextEncoding | None:
        words = [word for word in one.words if word.category != "special" and not word.is_punctuation]
        if one.encoding.text not in chosen or not words:
            return None
        generator = np.random.default_rng(_hash(f"{seed}:{one.encoding.text}"))
        hidden = generator.permutation(len(words))[: math.ceil(share * len(words))]
        text = hide_words(one.encoding.text, [words[i] for i in sorted(hidden)], token)
        return encoder.encode([text])[0]

    return mask


def hide_words(text: str, words: Sequence[Word], token: str) -> str:
    """The text with the given words, in their order, each replaced by as many tokens as it has pieces."""
    parts, end = [], 0
    for word in words:
        parts += [text[end : word.start], token * len(word.pieces)]
        end = word.end
    return "".join([*parts, text[end:]])


def mask_token(encoder: TextEncoder) -> str | None:
    """The encoder's mask token; None where it makes no single piece of any of the usual ones."""
    pieces = len(encoder.encode([""])[0].pieces) + 1
    for token in MASK_TOKENS:
        found = encoder.encode([token])[0].pieces
        if len(found) == pieces and token in found:
            return token
    return None


def with_texts(batch: CrystalBatch, encodings: Sequence[TextEncoding]) -> CrystalBatch:
    """The same crystals with other texts, padded to the longest."""
    longest = max(len(encoding.embeddings) for encoding in encodings)
    tokens = batch.token_embeddings.new_zeros(len(batch), longest, batch.token_embeddings.shape[-1])
    mask = torch.zeros(len(batch), longest, dtype=torch.bool, device=tokens.device)
    for row, encoding in enumerate(encodings):
        tokens[row, : len(encoding.embeddings)] = encoding.embeddings.to(tokens)
        mask[row, : len(encoding.embeddings)] = True
    return batch.with_tokens(tokens, mask)


def select_structures(
    batch: CrystalBatch, state: GraphState, rows: Sequence[int], *, bonds: bool
) -> tuple[CrystalBatch, GraphState]:
    """Some structures of a batch, in their order, with their share of a state.

    Args:
        bonds: whether the state has features of bonds and angles; a state after the last layer has those of atoms only.
    """
    keep = torch.zeros(len(batch), dtype=torch.bool, device=batch.atom_owner.device)
    keep[list(rows)] = True
    atoms = keep[batch.atom_owner]
    edges = atoms[batch.bond_source]
    angles = edges[batch.angle_source]
    new_atom, new_bond = atoms.cumsum(0) - 1, edges.cumsum(0) - 1
    chosen = replace(
        batch,
        atom_features=batch.atom_features[atoms],
        bond_source=new_atom[batch.bond_source[edges]],
        bond_target=new_atom[batch.bond_target[edges]],
        bond_vectors=batch.bond_vectors[edges],
        angle_source=new_bond[batch.angle_source[angles]],
        angle_target=new_bond[batch.angle_target[angles]],
        angle_cosines=batch.angle_cosines[angles],
        atoms_per_structure=batch.atoms_per_structure[keep],
        token_embeddings=batch.token_embeddings[keep],
        token_mask=batch.token_mask[keep],
        atomic_numbers=None if batch.atomic_numbers is None else batch.atomic_numbers[atoms],
    )
    y, z = (state.y[edges], state.z[angles]) if bonds else (state.y[atoms], state.z[atoms])
    return chosen, GraphState(state.x[atoms], y, z, state.first[atoms], state.done)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
