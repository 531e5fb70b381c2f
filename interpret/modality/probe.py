"""One structure, one changed text: what moves, beside texts that say the same and beside another structure's text."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from interpret.hooks import Captured, HookRegistry
from interpret.modality.edits import EDITS
from interpret.modality.items import nothing_cached
from interpret.modality.passes import FusedPasses
from interpret.modality.substitution import Edited, apply_replacements
from interpret.provenance import describe_run
from interpret.segmentation import word_spans
from interpret.tables import write_json, write_table
from interpret.words import Word, group_words, merge_pieces
from model.batch import collate
from model.crystal import build_graph
from model.structure import read_structure

if TYPE_CHECKING:
    from model.crystal import CrystalGraph
    from model.dataset import CrystalDataset
    from model.encoder import TextEncoder, TextEncoding
    from model.network import CrystalTextNetwork

ATTENTION = "attention.atom_to_token"
REPLACEMENT, OTHER_TEXT, EMPTY_TEXT = "replacement", "another structure's text", "empty text"
# Each word taken out costs a pass of the encoder.
MOST_WORDS = 200


@dataclass(frozen=True)
class Probe:
    """What a changed text does to one structure.

    Attributes:
        id, formula, target: of the structure; the target NaN where there is none.
        text, edited: before and after.
        before, after: predictions, in the unit of the target.
        changes: a row a text: the replacement, the controls, another structure's text and an empty one. ``change`` of
            the prediction; ``attention_moved``, the share of the attention that went from some words to others; and
            ``gate_moved.LAYER``, the mean absolute change of the gate.
        words: a row a word of both texts, aligned. ``attention_before`` and ``attention_after`` are means over atoms
            and heads, ``uniform`` what uniform attention gives; ``left_out`` is the change of the prediction when the
            word alone is taken out of the text as given.
        provenance: checkpoint, structure, encoder, versions.
    """

    id: str
    formula: str
    target: float
    text: str
    edited: Edited
    before: float
    after: float
    changes: pd.DataFrame
    words: pd.DataFrame
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def largest_control(self) -> float:
        """Largest absolute change of the prediction by a text that says the same; NaN where there is none."""
        controls = self.changes.loc[self.changes["control"], "change"].abs()
        return float(controls.max()) if len(controls) else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, tables as lists of rows."""
        return {
            "id": self.id,
            "formula": self.formula,
            "target": self.target,
            "text": self.text,
            "edited_text": self.edited.text,
            "replaced": [list(pair) for pair in self.edited.replaced],
            "prediction_before": self.before,
            "prediction_after": self.after,
            "largest_control_change": self.largest_control,
            "changes": self.changes.to_dict("records"),
            "words": self.words.to_dict("records"),
            "provenance": self.provenance,
        }

    def save(self, folder: Path) -> None:
        """Write probe.json and the two tables, probe_changes and probe_words."""
        write_table(self.changes, folder, "probe_changes")
        write_table(self.words, folder, "probe_words")
        write_json(folder / "probe.json", self.to_dict())


def probe(
    network: CrystalTextNetwork,
    dataset: CrystalDataset,
    encoder: TextEncoder,
    replacements: Sequence[tuple[str, str]],
    *,
    other_text: str,
    device: str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> Probe:
    """Change the text of a structure and look.

    Args:
        network: as loaded; it is not changed.
        dataset: of one structure with its text.
        encoder: the text encoder the network was trained with.
        replacements: (old, new) words; all are made at once.
        other_text: of another structure, for the scale of what a text can do.
        device: torch device of the network, in float64.
        progress: called with the number of words taken out since the last call.

    Raises:
        DataError: a replacement fits no word. StructureError: the structure cannot be read.
    """
    sample = dataset[0]
    edited = apply_replacements(sample.text, replacements)
    graph = build_graph(read_structure(sample.structure))
    texts = {"": Edited(sample.text, ()), REPLACEMENT: edited}
    texts |= {edit.name: done for edit in EDITS if edit.control and (done := edit.apply(sample.text)) is not None}
    texts |= {OTHER_TEXT: Edited(other_text, ()), EMPTY_TEXT: Edited("", ())}
    with nothing_cached(encoder):
        encodings = dict(zip(texts, encoder.encode([each.text for each in texts.values()]), strict=True))
        views = _look(network, graph, list(encodings.values()), device)
        named = dict(zip(texts, views, strict=True))
        own, after = named[""], named[REPLACEMENT]
        without = _left_out(network, graph, own, encoder, device, progress)
    controls = {edit.name for edit in EDITS if edit.control}
    rows = [
        {
            "text": name,
            "control": name in controls,
            "words_changed": sum(len(word_spans(old)) for old, _ in texts[name].replaced) or math.nan,
            **_change_columns(own, view),
        }
        for name, view in named.items()
        if name
    ]
    return Probe(
        id=sample.id,
        formula=graph.formula,
        target=sample.target,
        text=sample.text,
        edited=edited,
        before=own.prediction,
        after=after.prediction,
        changes=pd.DataFrame(rows),
        words=pd.DataFrame(_word_rows(own, after, without)),
        provenance=describe_run(network, dataset, encoder, {"device": device, "replacements": list(replacements)}),
    )


@dataclass(frozen=True)
class _View:
    """What the network makes of the crystal with one text."""

    encoding: TextEncoding
    words: tuple[Word, ...]
    prediction: float
    attention: tuple[float, ...] | None
    gates: dict[str, torch.Tensor]


def _look(
    network: CrystalTextNetwork, graph: CrystalGraph, encodings: Sequence[TextEncoding], device: str
) -> list[_View]:
    run = copy.deepcopy(network).to(device=device, dtype=torch.float64).eval()
    registry = HookRegistry(run)
    wanted = [name for name in registry.taps if name == ATTENTION or name.endswith(".gate")]
    if wanted:
        registry.capture(*wanted)
    views = []
    for encoding in encodings:
        # One at a time: attention of many copies of a large crystal would not fit into memory.
        batch = collate([graph], [encoding]).to(device, torch.float64)
        with registry as captured, torch.no_grad():
            prediction = float(run(batch)[0])
        views.append(_view(encoding, prediction, captured))
    return views


def _view(encoding: TextEncoding, prediction: float, captured: Captured) -> _View:
    words = group_words(encoding)
    attention = None
    if ATTENTION in captured:
        weights = captured[ATTENTION].per_structure()[0].cpu()
        attention = tuple(merge_pieces(weights.mean(dim=(0, 1)), words).tolist())
    gates = {name.split(".")[1]: captured[name].values.cpu() for name in captured if name.startswith("fusion.")}
    return _View(encoding, words, prediction, attention, gates)


def _change_columns(own: _View, other: _View) -> dict[str, float]:
    columns = {"prediction": other.prediction, "change": other.prediction - own.prediction}
    if own.attention is not None:
        columns["attention_moved"] = attention_moved(own, other)
    for layer, gate in own.gates.items():
        columns[f"gate_moved.{layer}"] = float((other.gates[layer] - gate).abs().mean())
    return columns


def attention_moved(own: Any, other: Any) -> float:
    """Share of the attention that went from some words to others, 0 to 1.

    Words spelled alike are one, wherever they stand; words that only one text has are held against those that only the
    other has, so that a word that takes another's place and its attention moves nothing.
    """
    first, second = (_by_spelling(view) for view in (own, other))
    both = first.keys() & second.keys()
    moved = sum(abs(first[word] - second[word]) for word in both)
    lost = sum(weight for word, weight in first.items() if word not in both)
    gained = sum(weight for word, weight in second.items() if word not in both)
    return float(moved + abs(lost - gained)) / 2


def _by_spelling(view: Any) -> Counter[str]:
    total: Counter[str] = Counter()
    for word, weight in zip(view.words, view.attention or (), strict=False):
        total[word.text] += weight
    return total


def _left_out(
    network: CrystalTextNetwork,
    graph: CrystalGraph,
    own: _View,
    encoder: TextEncoder,
    device: str,
    progress: Callable[[int], None] | None,
) -> dict[int, float]:
    """Change of the prediction when a word of the text is taken out, by its number; the first words of a long text."""
    text = own.encoding.text
    numbers = [i for i, word in enumerate(own.words) if word.category != "special" and not word.is_punctuation]
    numbers = numbers[:MOST_WORDS]
    encodings = []
    for number in numbers:
        word = own.words[number]
        encodings += encoder.encode([" ".join((text[: word.start] + text[word.end :]).split())])
        if progress is not None:
            progress(1)
    if not numbers:
        return {}
    passes = FusedPasses(network, own.encoding, device=device)
    (crystal,) = passes.crystals([graph])
    values = passes.predict([(crystal, encoding) for encoding in encodings])
    return {number: float(value) - own.prediction for number, value in zip(numbers, values, strict=True)}


def _word_rows(own: _View, after: _View, without: dict[int, float]) -> list[dict[str, Any]]:
    """Words of both texts side by side; words in the same place of a replaced stretch are one row."""
    before_words, after_words = [w.text for w in own.words], [w.text for w in after.words]
    rows = []
    matcher = SequenceMatcher(None, before_words, after_words, autojunk=False)
    for _, start, end, first, last in matcher.get_opcodes():
        for offset in range(max(end - start, last - first)):
            i = start + offset if start + offset < end else None
            j = first + offset if first + offset < last else None
            word = own.words[i] if i is not None else after.words[j or 0]
            rows.append(
                {
                    "word": own.words[i].text if i is not None else "",
                    "word_after": after.words[j].text if j is not None else "",
                    "category": word.category,
                    "attention_before": _weight(own, i),
                    "attention_after": _weight(after, j),
                    "uniform": len(word.pieces) / len((own if i is not None else after).encoding.pieces),
                    "left_out": without.get(i, math.nan) if i is not None else math.nan,
                }
            )
    return rows


def _weight(view: _View, number: int | None) -> float:
    return math.nan if number is None or view.attention is None else view.attention[number]
