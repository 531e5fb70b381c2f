"""The target as a function of who is present: many coalitions in one forward pass, none computed twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interpret.attribution.baselines import baseline_for, mask_piece, mean_atom
from interpret.attribution.explanation import AttributionError, Floats
from interpret.attribution.players import Players, kept_text
from interpret.attribution.subject import Subject, in_passes
from model.batch import CrystalBatch

Coalitions = NDArray[np.bool_]
Evaluate = Callable[[Coalitions], Floats]


class Game:
    """Who is present to the value of the target.

    Args:
        players: P.
        evaluate: presence [K, P] to float64 [K].
        baseline: name of what stands for the absent.

    Attributes:
        evaluated: different coalitions evaluated so far.
    """

    def __init__(self, players: Players, evaluate: Evaluate, baseline: str) -> None:
        self.players = players
        self.baseline = baseline
        self._evaluate = evaluate
        self._known: dict[bytes, float] = {}

    @property
    def evaluated(self) -> int:
        """Different coalitions evaluated so far."""
        return len(self._known)

    def values(self, keep: Coalitions) -> Floats:
        """The target [K] with only the players of each row of ``keep`` [K, P] present.

        Raises:
            AttributionError: the rows are not of P players, or a value is not finite.
        """
        if keep.ndim != 2 or keep.shape[1] != len(self.players) or keep.dtype != np.bool_:
            raise AttributionError(f"expected bool [K, {len(self.players)}], got {keep.dtype} of shape {keep.shape}")
        keys = [row.tobytes() for row in np.ascontiguousarray(keep)]
        new = list(dict.fromkeys(key for key in keys if key not in self._known))
        if new:
            rows = np.frombuffer(b"".join(new), dtype=np.bool_).reshape(len(new), -1)
            found = self._evaluate(rows)
            if found.shape != (len(new),) or not np.isfinite(found).all():
                raise AttributionError(f"the target is not finite for {int((~np.isfinite(found)).sum())} coalitions")
            self._known |= dict(zip(new, found.tolist(), strict=True))
        return np.array([self._known[key] for key in keys], dtype=np.float64)

    @property
    def full(self) -> float:
        """The target with everyone present."""
        return float(self.values(np.ones((1, len(self.players)), dtype=bool))[0])

    @property
    def empty(self) -> float:
        """The target with everyone absent."""
        return float(self.values(np.zeros((1, len(self.players)), dtype=bool))[0])

    def without_each(self) -> Floats:
        """The target with one player absent, [P]."""
        return self.values(~np.eye(len(self.players), dtype=bool))


def game_of(subject: Subject, players: Players, baseline: str | None = None) -> Game:
    """The game of a structure's players.

    Raises:
        AttributionError: the baseline does not fit the players.
    """
    chosen = baseline_for(baseline, players.side, "ablation", players.kind).name
    if players.side == "text":
        masked = chosen == "mask-token"
        evaluate = _mask_evaluation(subject, players) if masked else _text_evaluation(subject, players)
    elif players.kind == "bonds":
        evaluate = _bond_evaluation(subject, players)
    else:
        evaluate = _atom_evaluation(subject, players, chosen)
    return Game(players, evaluate, chosen)


def _text_evaluation(subject: Subject, players: Players) -> Evaluate:
    words, text, path = subject.structure.words, subject.structure.encoding.text, subject.path

    def evaluate(keep: Coalitions) -> Floats:
        texts = [kept_text(text, words, present.tolist()) for present in players.spread(keep)]
        # Different coalitions write the same text where a word occurs twice.
        unique = list(dict.fromkeys(texts))
        found = dict(zip(unique, subject.with_token_list(path.encode(unique)).tolist(), strict=True))
        return np.array([found[one] for one in texts], dtype=np.float64)

    return evaluate


def _mask_evaluation(subject: Subject, players: Players) -> Evaluate:
    path, words = subject.path, subject.structure.words
    embedded = path.inputs(subject.structure.encoding)
    mask = path.table()[mask_piece(path.encoder)]
    owner = torch.full((len(embedded),), -1)
    for number, word in enumerate(words):
        owner[list(word.pieces)] = number

    def evaluate(keep: Coalitions) -> Floats:
        present = torch.from_numpy(players.spread(keep))
        # Pieces of no word are special tokens: the last column, always there.
        present = torch.cat([present, torch.ones(len(present), 1, dtype=torch.bool)], dim=1)
        kept = present[:, owner].to(embedded.device)

        def tokens(rows: Tensor) -> Tensor:
            return subject.with_tokens(path.run(torch.where(rows[..., None], embedded, mask)))

        return _floats(in_passes(tokens, kept, _text_rows(subject, len(embedded))))

    return evaluate


def _atom_evaluation(subject: Subject, players: Players, baseline: str) -> Evaluate:
    features = subject.batch.atom_features
    absent = atom_baseline(subject, baseline)

    def evaluate(keep: Coalitions) -> Floats:
        present = torch.from_numpy(players.spread(keep)).to(features.device)
        return _floats(
            in_passes(
                lambda rows: subject.with_features(torch.where(rows[..., None], features, absent)),
                present,
                subject.rows_per_pass,
            )
        )

    return evaluate


def atom_baseline(subject: Subject, baseline: str) -> Tensor:
    """Features [F] of an absent atom."""
    features = subject.batch.atom_features
    if baseline == "zero-atom":
        return features.new_zeros(features.shape[1])
    mean = subject.explained.mean_features
    mean = mean_atom() if mean is None else mean
    if mean.shape != features.shape[1:]:
        raise AttributionError(
            f"the mean atom has {mean.shape[0]} features, the atoms have {features.shape[1]}: pass mean_features"
        )
    return mean.to(features)


def _bond_evaluation(subject: Subject, players: Players) -> Evaluate:
    def evaluate(keep: Coalitions) -> Floats:
        batches = [without_bonds(subject.batch, torch.from_numpy(row)) for row in players.spread(keep)]
        return _floats(torch.cat([subject.with_batch(batch) for batch in batches]))

    return evaluate


def without_bonds(batch: CrystalBatch, keep: Tensor) -> CrystalBatch:
    """A batch with only some of its bonds [E], and the angles between them."""
    keep = keep.to(batch.bond_source.device)
    angles = keep[batch.angle_source] & keep[batch.angle_target]
    number = keep.cumsum(0) - 1
    return replace(
        batch,
        bond_source=batch.bond_source[keep],
        bond_target=batch.bond_target[keep],
        bond_vectors=batch.bond_vectors[keep],
        angle_source=number[batch.angle_source[angles]],
        angle_target=number[batch.angle_target[angles]],
        angle_cosines=batch.angle_cosines[angles],
    )


def _text_rows(subject: Subject, pieces: int) -> int:
    return max(1, min(subject.rows_per_pass, 1024 // max(1, pieces)))


def _floats(values: Tensor) -> Floats:
    array: Floats = values.detach().double().cpu().numpy()
    return array


def presence(absent: Sequence[Sequence[int]], players: int) -> Coalitions:
    """Coalitions [K, P] from the players that are absent in each."""
    keep = np.ones((len(absent), players), dtype=bool)
    for row, who in enumerate(absent):
        keep[row, list(who)] = False
    return keep
