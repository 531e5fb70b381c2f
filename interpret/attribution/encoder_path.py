"""The text encoder as part of what is explained: many texts in one pass, and gradients down to its input embeddings.

The networks of this family read the first token of the text above all others. At the encoder's output that token is
everything and the words are nothing; only through the encoder can an attribution reach the words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from interpret.attribution.explanation import AttributionError
from model.encoder import TransformersEncoder

if TYPE_CHECKING:
    from model.encoder import TextEncoder, TextEncoding

# Pieces a pass of the encoder: more gain nothing on a CPU, where the product of matrices is the cost by then.
PIECES_PER_PASS = 1024
# Largest difference, over the largest value, between embeddings by piece ids and by input embeddings.
_SAME = 1e-4


class TextPath:
    """Texts to token embeddings.

    Args:
        encoder: of the network. For any but a :class:`model.encoder.TransformersEncoder`, texts are encoded by its own
            ``encode`` and there is no way to its input embeddings.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self._network: Any = encoder.network if isinstance(encoder, TransformersEncoder) else None

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Token embeddings [L, D] of each text; texts of the same number of pieces share a pass, without padding."""
        encoder = self.encoder
        if not isinstance(encoder, TransformersEncoder):
            return [encoding.embeddings for encoding in encoder.encode(texts)]
        unique = list(dict.fromkeys(texts))
        pieces = {text: encoder.tokenize(text) for text in unique}
        by_length: dict[int, list[str]] = {}
        for text in unique:
            by_length.setdefault(len(pieces[text]["input_ids"]), []).append(text)
        results: dict[str, Tensor] = {}
        for length, group in by_length.items():
            if not length:
                raise AttributionError(f"the tokenizer of {encoder.name} makes no token of the text {group[0][:40]!r}")
            rows = max(1, PIECES_PER_PASS // length)
            for start in range(0, len(group), rows):
                part = group[start : start + rows]
                results |= dict(zip(part, encoder.run([pieces[text] for text in part]), strict=True))
        return [results[text] for text in texts]

    @property
    def differentiable(self) -> bool:
        """Whether there is a way down to input embeddings."""
        return self._network is not None and hasattr(self._network, "get_input_embeddings")

    def table(self) -> Tensor:
        """Input embeddings of the vocabulary, [V, E].

        Raises:
            AttributionError: the encoder does not show them.
        """
        if not self.differentiable:
            raise AttributionError(
                f"the encoder {self.encoder.name} gives no way to its input embeddings: use players other than words, "
                "or methods that take words out"
            )
        weight: Tensor = self._network.get_input_embeddings().weight.detach()
        return weight

    def inputs(self, encoding: TextEncoding) -> Tensor:
        """Input embeddings of a text's pieces, [L, E], held to what the encoder made of the pieces themselves.

        Raises:
            AttributionError: the encoder does not show them, or does more with pieces than look up their embedding.
        """
        embedded = self.table()[torch.from_numpy(encoding.piece_ids)]
        with torch.no_grad():
            again = self.run(embedded[None])[0]
        expected = encoding.embeddings.to(again)
        if float((again - expected).abs().max()) > _SAME * float(expected.abs().max()):
            raise AttributionError(
                f"the encoder {self.encoder.name} makes something else of input embeddings than of pieces: gradients "
                "with respect to them would belong to another text"
            )
        return embedded

    def run(self, embedded: Tensor) -> Tensor:
        """Input embeddings [K, L, E] to token embeddings [K, L, D], with gradients."""
        mask = embedded.new_ones(embedded.shape[:2])
        with torch.autocast(embedded.device.type, enabled=False):
            hidden: Tensor = self._network(inputs_embeds=embedded, attention_mask=mask).last_hidden_state
        return hidden

    def self_attention(self, encoding: TextEncoding) -> Tensor:
        """Self-attention of a text in every layer, mean over heads: float64 [layers, L, L].

        Raises:
            AttributionError: the encoder does not show it.
        """
        network = self._network
        if network is None or not hasattr(network, "set_attn_implementation"):
            raise AttributionError(f"the encoder {self.encoder.name} does not show its self-attention")
        before = network.config._attn_implementation
        ids = torch.from_numpy(encoding.piece_ids)[None].to(self.encoder.device)  # type: ignore[attr-defined]
        try:
            # The fused kernel makes no weights.
            network.set_attn_implementation("eager")
            with torch.no_grad():
                maps = network(input_ids=ids, attention_mask=torch.ones_like(ids), output_attentions=True).attentions
        finally:
            network.set_attn_implementation(before)
        if not maps or any(one is None for one in maps):
            raise AttributionError(f"the encoder {self.encoder.name} does not show its self-attention")
        return torch.stack([one[0].double().mean(dim=0).cpu() for one in maps])
