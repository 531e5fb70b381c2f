"""What the standard edits of the text do to predictions, in their unit, beside texts that say the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from interpret.modality.edits import EDITS, Edit
from interpret.modality.substitution import Edited
from interpret.segmentation import word_spans

if TYPE_CHECKING:
    from interpret.modality.items import Item
    from interpret.modality.passes import Crystal, FusedPasses
    from model.encoder import TextEncoder

_LONGEST_SHOWN = 40


def edit_rows(
    passes: FusedPasses, item: Item, crystal: Crystal, encoder: TextEncoder, edits: Sequence[Edit] = EDITS
) -> list[dict[str, Any]]:
    """A row for every edit that the text has something for.

    ``change`` is the prediction with the edited text minus that with the own one. An edit behind the last piece
    that the encoder reads has no effect by construction: its ``reaches_encoder`` is False and its change undefined.
    """
    text = item.sample.text
    applied: list[tuple[Edit, Edited]] = [(edit, done) for edit in edits if (done := edit.apply(text)) is not None]
    if not applied:
        return []
    encodings = encoder.encode([done.text for _, done in applied])
    own, *values = passes.predict([(crystal, encoding) for encoding in (item.encoding, *encodings)]).tolist()
    rows = []
    for (edit, done), encoding, value in zip(applied, encodings, values, strict=True):
        reaches = not np.array_equal(encoding.piece_ids, item.encoding.piece_ids)
        rows.append(
            {
                "id": item.sample.id,
                "edit": edit.name,
                "control": edit.control,
                "words_changed": sum(len(word_spans(before)) for before, _ in done.replaced),
                "before": _shown(done.replaced[0][0]),
                "after": _shown(done.replaced[0][1]),
                "reaches_encoder": reaches,
                "prediction": own,
                "edited_prediction": value,
                "change": value - own if reaches else float("nan"),
            }
        )
    return rows


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."
