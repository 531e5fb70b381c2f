"""What a page says in words: how far its attention can be read, what it lies on, and what was left out."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interpret.measure.attention import sink_tokens
from interpret.pages.attention_maps import top_words
from interpret.pages.quantity import Array, Quantity
from interpret.robust import RobustAnalysis, analyze_attention

if TYPE_CHECKING:
    from interpret.record import StructureRecord
    from interpret.words import Word

MOST_NAMED = 3
# Share of attention within which a map is called uniform, as for the difference between atoms.
CLOSE = 0.05
_READING = {
    "atoms differ": "Different atoms read different words: {reason}.",
    "atoms collapsed": "All atoms read the same words: {reason}. Words can be ranked, atoms cannot be compared.",
    "one class": "All atoms read the same words, and no network could do otherwise: {reason}.",
    "one atom": "There is one row to read: {reason}.",
}


def reading(record: StructureRecord, quantity: Quantity) -> dict[str, Any]:
    """Which reading of a map applies, with the words that stand out of their length.

    Args:
        quantity: attention from atoms to words, its uniform control first.
    """
    analysis = analyze_attention(record, quantity.name)
    assert quantity.over_atoms is not None
    values = quantity.over_atoms[0]
    sinks = sink_tokens(record.encoding)
    weights = record.values(quantity.name)
    pieces = weights.mean(axis=(0, 1))
    controls = {control.name: control for control in quantity.controls}
    other = controls.get("other_crystals")
    return {
        "tap": quantity.name,
        "mode": analysis.mode,
        "reason": _reason(analysis, record.classes.number_of_classes),
        "difference": analysis.difference,
        "top_words": [
            {"word": word, "value": value, "uniform": uniform}
            for word, value, uniform in top_words(quantity, record.words, MOST_NAMED)
        ],
        "from_uniform": float(np.abs(weights - 1 / weights.shape[-1]).sum(axis=-1).mean() / 2),
        "from_other_crystals": None if other is None else moved(values, other.values[0]),
        "special_and_punctuation": float(pieces[sinks].sum()),
        "special_and_punctuation_uniform": float(sinks.mean()),
    }


def isolated(word: str) -> str:
    """A word that writes from right to left, or says that what follows does, kept from turning the sentence."""
    turning = {"R", "AL", "RLE", "RLO", "LRE", "LRO", "RLI", "LRI", "FSI"}
    return f"\u2068{word}\u2069" if turning & {unicodedata.bidirectional(c) for c in word} else word


def percent(share: float) -> str:
    """A share in percent, with two digits, or three from 10 % on."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 99.5 else f"{value:.1f} %" if value >= 9.95 else f"{value:.2g} %"


def _reason(analysis: RobustAnalysis, classes: int) -> str:
    if analysis.mode in ("atoms differ", "atoms collapsed"):
        return f"those of {classes} different classes differ by {percent(analysis.difference)} of their attention"
    return analysis.reason


def moved(first: Array, second: Array) -> float:
    """Share of attention that has to move to turn one distribution over words into another."""
    return float(np.abs(first - second).sum() / 2)


def summary(read: Mapping[str, Any] | None, outcome: Mapping[str, Any]) -> list[str]:
    """Sentences for a person who opens the page, from what :func:`reading` found and what was predicted."""
    if read is None:
        return ["This network has no attention from atoms to words.", *_what_if(outcome)]
    named = [word for word in read["top_words"] if word["value"] > word["uniform"]]
    words = "; ".join(
        f"“{isolated(word['word'])}” ({word['value']:.4f}, {word['value'] / word['uniform']:.2f} times uniform)"
        for word in named
    )
    share = percent(read["from_uniform"])
    if read["from_uniform"] < CLOSE:
        lines = [
            f"It attends to nothing in particular: moving {share} of the attention of each atom and head would make it "
            "uniform."
        ]
        lines += [f"What little stands out lies on {words}."] if words else []
    else:
        lines = [f"It attends most, beyond what the words' length explains, to {words}."] if words else []
        lines.append(f"{share} of the attention of each atom and head would have to move to make it uniform.")
    lines.append(_READING[read["mode"]].format(reason=read["reason"]))
    if read["from_other_crystals"] is not None:
        own = read["from_other_crystals"]
        verdict = "hardly depends" if own < CLOSE / 2 else "depends"
        lines.append(
            f"It {verdict} on the crystal: on average over atoms and heads, moving {percent(own)} turns it into that "
            "of other crystals given this text."
        )
    lines.append(
        f"{percent(read['special_and_punctuation'])} lies on special tokens and punctuation; uniform attention would "
        f"put {percent(read['special_and_punctuation_uniform'])} there."
    )
    return lines + _what_if(outcome)


def _what_if(outcome: Mapping[str, Any]) -> list[str]:
    changes = {change["name"]: change["change"] for change in outcome["what_if"]}
    parts = []
    if "attention_uniform" in changes:
        parts.append(f"made uniform, attention would change the prediction by {changes['attention_uniform']:+.3g}")
    if "other_texts" in changes:
        parts.append(f"texts of other structures change it by {changes['other_texts']:+.3g} on average")
    line = "; ".join(parts)
    return [f"{line[0].upper()}{line[1:]}."] if line else []


def rests_on(quantities: Sequence[Quantity], words: Sequence[Word]) -> str:
    """What an attribution says the prediction rests on, or that none was computed: attention does not say it."""
    found = [quantity for quantity in quantities if quantity.axes == ("word",) and quantity.signed]
    if not found:
        return "What the prediction rests on was not computed here, and attention does not say it."
    values = np.nan_to_num(found[0].values)
    largest = np.abs(values).argsort(kind="stable")[::-1][:MOST_NAMED]
    named = "; ".join(f"“{isolated(words[index].text)}” ({values[index]:+.3g})" for index in largest if values[index])
    return (
        f"By {found[0].label}, the prediction rests most on {named}." if named else f"{found[0].label} is 0 throughout."
    )


def what_if(counterfactuals: Mapping[str, float], prediction: float) -> list[dict[str, Any]]:
    """Predictions of the counterfactual passes that a page shows, with what they change.

    Args:
        counterfactuals: columns ``counterfactual.NAME.prediction``; those that are missing or NaN are left out.
    """
    shuffled = [
        value
        for name, value in counterfactuals.items()
        if name.startswith("counterfactual.text_shuffled_") and name.endswith(".prediction")
    ]
    rows = [
        ("other_texts", "texts of other structures (mean)", float(np.mean(shuffled)) if shuffled else np.nan),
        *(
            (name, label, float(counterfactuals.get(f"counterfactual.{name}.prediction", np.nan)))
            for name, label in (
                ("text_empty", "no text"),
                ("fusion_off", "middle fusion off"),
                ("attention_uniform", "uniform attention"),
                ("attention_permuted", "attention weights permuted among words"),
            )
        ),
    ]
    return [
        {"name": name, "label": label, "prediction": value, "change": value - prediction}
        for name, label, value in rows
        if np.isfinite(value)
    ]


def left_out(record: StructureRecord, rows: Sequence[Sequence[int]], text_shown: int, maps: bool) -> list[str]:
    """What the page does not show, and what the network did not see.

    Args:
        rows: atoms of each row of the maps.
        text_shown: characters of the text.
        maps: whether there are any.
    """
    lines = []
    atoms_shown = sum(map(len, rows))
    encoding, atoms = record.encoding, record.graph.number_of_atoms
    if encoding.truncated:
        lines.append(
            f"The encoder read {len(encoding.pieces)} of {encoding.pieces_total} word-pieces: the end of the text, in "
            "grey, never reached the network."
        )
    if encoding.normalized.lost_characters:
        characters = ", ".join(f"{character!r} ({count})" for character, count in encoding.normalized.lost[:5])
        lines.append(f"{encoding.normalized.lost_characters} characters were lost in normalisation: {characters}.")
    if text_shown < len(encoding.text):
        lines.append(f"{text_shown} of {len(encoding.text)} characters of the text are shown.")
    if maps and atoms_shown < atoms:
        lines.append(
            f"The maps have the rows of {atoms_shown} of {atoms} atoms, {len(rows)} different ones, chosen to differ "
            "most; means over atoms are over all of them."
        )
    elif maps and len(rows) < atoms:
        lines.append(
            f"{atoms} atoms have {len(rows)} different row{'s' if len(rows) > 1 else ''} in the maps: atoms that are "
            "alike share one."
        )
    if record.orbits.reason:
        lines.append(f"Orbits are not known ({record.orbits.reason}): every atom counts as one of its own.")
    return lines
