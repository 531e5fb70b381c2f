"""Descriptions to token embeddings, with the characters every word-piece covers.

An embedding depends on its own text and on the encoder, never on the texts it is encoded with: texts are
encoded one at a time, without padding, and equal texts once.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.embedding_cache import EmbeddingCache
from model.encoder_sources import (
    MATSCIBERT,
    MINILM,
    LoadedEncoder,
    bundled_folder,
    check_bundled,
    check_width,
    load_folder,
    locate,
    untrained_bert,
)
from model.errors import EncoderError
from model.text import NormalizedText, mappings_digest, normalize

UPSTREAM_MAX_PIECES = 512
_RANDOM = re.compile(r"random(?::(\d{1,5})(?::(\d{1,9}))?)?")
_MINILM_NAMES = (MINILM, f"sentence-transformers/{MINILM}")


@dataclass(frozen=True, eq=False)
class TextEncoding:
    """A text, its word-pieces and their embeddings.

    Attributes:
        text: the original text.
        normalized: what the tokenizer was given, aligned with the original.
        pieces: the L word-pieces, special tokens included.
        spans: int64 ``[L, 2]``, characters of ``normalized.text`` each piece covers; (0, 0) for special ones.
        special: bool ``[L]``, True for tokens that are not from the text ([CLS], [SEP]).
        piece_ids: int64 ``[L]``.
        embeddings: float32 ``[L, D]`` on the CPU, the encoder's last hidden state. The text vector of the
            upstream models is row 0.
        pieces_total: pieces of the whole text before truncation, special tokens included.
    """

    text: str
    normalized: NormalizedText
    pieces: tuple[str, ...]
    spans: npt.NDArray[np.int64]
    special: npt.NDArray[np.bool_]
    piece_ids: npt.NDArray[np.int64]
    embeddings: Tensor
    pieces_total: int

    def __post_init__(self) -> None:
        length = len(self.pieces)
        expected = {"spans": (length, 2), "special": (length,), "piece_ids": (length,)}
        for name, shape in expected.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"Expected {name} of shape {shape}, got {getattr(self, name).shape}.")
        if self.embeddings.ndim != 2 or len(self.embeddings) != length:
            raise ValueError(f"Expected embeddings [{length}, D], got {tuple(self.embeddings.shape)}.")
        if self.pieces_total < length:
            raise ValueError(f"Expected pieces_total of at least {length}, got {self.pieces_total}.")

    @property
    def truncated(self) -> bool:
        """True where the end of the text did not fit and the encoder never saw it."""
        return self.pieces_total > len(self.pieces)


class TextEncoder(Protocol):
    """What the rest of the program needs of an encoder."""

    @property
    def name(self) -> str:
        """How reports call it."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 that changes when anything changes that an embedding depends on."""

    @property
    def width(self) -> int:
        """Width D of the embeddings."""

    @property
    def max_pieces(self) -> int:
        """Longest sequence, special tokens included; longer texts are cut."""

    def encode(self, texts: Sequence[str]) -> list[TextEncoding]:
        """Encode texts, one result a text in their order."""


class TransformersEncoder:
    """An encoder of Hugging Face transformers as a :class:`TextEncoder`.

    Args:
        loaded: tokenizer and network.
        mappings: character map of the normalisation; None for the default one.
        device: where the network runs; embeddings are returned on the CPU.
        cache: embeddings on disk; None for none.

    Attributes:
        network: of transformers, frozen.
        trained: False for an untrained stand-in; reports have to say so.

    Raises:
        EncoderError: the device cannot be used.
    """

    def __init__(
        self,
        loaded: LoadedEncoder,
        *,
        mappings: Mapping[str, str] | None = None,
        device: str | torch.device = "cpu",
        cache: EmbeddingCache | None = None,
    ) -> None:
        try:
            self.device = torch.device(device)
            self.network: Any = loaded.network.to(self.device).eval().requires_grad_(False)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0][:100]
            raise EncoderError(
                f"The encoder cannot run on device {str(device)!r}: {reason}. Use --device cpu."
            ) from error
        self._tokenizer = loaded.tokenizer
        self.name = loaded.name
        self.trained = loaded.trained
        self.width = int(self.network.config.hidden_size)
        self.max_pieces = _max_pieces(self._tokenizer, self.network)
        self.mappings = mappings
        self.cache = EmbeddingCache(False) if cache is None else cache
        parts = (loaded.digest, mappings_digest(mappings), str(self.max_pieces))
        self.fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[TextEncoding]:
        """Encode texts, one result a text in their order; equal texts share one result.

        Raises:
            EncoderError: a text has no piece at all (an empty text and a tokenizer without special tokens).
        """
        if isinstance(texts, str):
            raise TypeError("Expected a sequence of texts, got one text.")
        results = {text: self._encode_one(text) for text in dict.fromkeys(texts)}
        return [results[text] for text in texts]

    def _encode_one(self, text: str) -> TextEncoding:
        normalized = normalize(text, self.mappings)
        pieces = self._pieces(normalized.text, truncation=False)
        pieces_total = len(pieces["input_ids"])
        if pieces_total > self.max_pieces:
            pieces = self._pieces(normalized.text, truncation=True)
        piece_ids = np.array(pieces["input_ids"], dtype=np.int64)
        if not len(piece_ids):
            raise EncoderError(f"The tokenizer of {self.name} makes no token of the text {text[:40]!r}.")
        spans = np.array(pieces["offset_mapping"], dtype=np.int64).reshape(-1, 2)
        special = np.array(pieces["special_tokens_mask"], dtype=bool)
        spans[special] = 0
        return TextEncoding(
            text=text,
            normalized=normalized,
            pieces=tuple(self._tokenizer.convert_ids_to_tokens(pieces["input_ids"])),
            spans=spans,
            special=special,
            piece_ids=piece_ids,
            embeddings=self._embed(text, piece_ids, pieces),
            pieces_total=pieces_total,
        )

    def tokenize(self, text: str) -> Mapping[str, Any]:
        """What the tokenizer makes of a text, normalised and cut to what fits: ``input_ids`` and more, [L] each."""
        pieces: Mapping[str, Any] = self._pieces(normalize(text, self.mappings).text, truncation=True)
        return pieces

    def run(self, tokenized: Sequence[Mapping[str, Any]]) -> Tensor:
        """Token embeddings [K, L, D] of K tokenized texts of one length, as the network gives them; not cached."""
        names = [name for name in self._tokenizer.model_input_names if name in tokenized[0]]
        inputs = {name: torch.tensor([one[name] for one in tokenized], device=self.device) for name in names}
        # Not inference_mode: attribution differentiates with respect to these embeddings.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            hidden: Tensor = self.network(**inputs).last_hidden_state
        return hidden.cpu()

    def _pieces(self, text: str, *, truncation: bool) -> Any:
        return self._tokenizer(
            text,
            truncation=truncation,
            max_length=self.max_pieces if truncation else None,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )

    def _embed(self, text: str, piece_ids: npt.NDArray[np.int64], pieces: Any) -> Tensor:
        # The kind of device is in the key because CPU and GPU arithmetic differ in the last digits.
        content = f"{self.fingerprint}\n{self.device.type}\n{text}"
        key = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
        stored = self.cache.read(key, piece_ids, self.width)
        if stored is not None:
            return torch.from_numpy(stored)
        embeddings = self.run([pieces])[0].float().contiguous()
        self.cache.write(key, piece_ids, embeddings.numpy())
        return embeddings


def load_encoder(
    name_or_path: str | None,
    *,
    width: int | None = None,
    device: str | torch.device = "cpu",
    cache_directory: str | Path | Literal[False] | None = None,
    mappings: Mapping[str, str] | None = None,
) -> TransformersEncoder:
    """Load a text encoder.

    Args:
        name_or_path: a folder; a name on the Hugging Face hub; ``random[:WIDTH[:SEED]]`` for an untrained
            stand-in; ``all-MiniLM-L6-v2``, which comes with the program; or None for the encoder that goes
            with ``width``: 384 all-MiniLM-L6-v2 (also when no width is given), 768 MatSciBERT.
        width: width of the checkpoint's token embeddings; another one is refused.
        device: where the encoder runs.
        cache_directory: folder of the embedding cache; None for the user's cache folder, False for no cache.
        mappings: character map of the normalisation; None for the default one.

    Raises:
        EncoderError: the encoder is not there, cannot be loaded, or does not fit ``width``.
    """
    name = _encoder_for_width(width) if name_or_path is None else name_or_path
    loaded = _load(name, width)
    encoder = TransformersEncoder(loaded, mappings=mappings, device=device, cache=EmbeddingCache(cache_directory))
    check_width(encoder.name, encoder.width, width)
    return encoder


def _load(name: str, width: int | None) -> LoadedEncoder:
    match = _RANDOM.fullmatch(name)
    if match:
        random_width = int(match[1]) if match[1] else (768 if width is None else width)
        check_width(name, random_width, width)
        return untrained_bert(random_width, int(match[2] or 0))
    if name.startswith("random:"):
        raise EncoderError(f"Expected random:WIDTH or random:WIDTH:SEED, got {name!r}.")
    if name in _MINILM_NAMES and not Path(name).is_dir():
        folder = bundled_folder()
        check_width(MINILM, 384, width)
        check_bundled(folder)
        return load_folder(folder, MINILM, width=width)
    return load_folder(locate(name), name, width=width)


def _encoder_for_width(width: int | None) -> str:
    known = {None: MINILM, 384: MINILM, 768: MATSCIBERT}
    if width not in known:
        raise EncoderError(
            f"No encoder is known for token embeddings of width {width} (known: 384 {MINILM}, 768 "
            f"{MATSCIBERT}). Name the one the checkpoint was trained with (--encoder NAME or PATH), or pass "
            f"--encoder random:{width} for an untrained stand-in."
        )
    return known[width]


def _max_pieces(tokenizer: Any, network: Any) -> int:
    limits = [UPSTREAM_MAX_PIECES, int(tokenizer.model_max_length)]
    positions = getattr(network.config, "max_position_embeddings", None)
    if positions is not None and positions > 0:
        table = getattr(getattr(network, "embeddings", None), "position_embeddings", None)
        # RoBERTa and its kin count positions from padding_idx + 1.
        offset = getattr(table, "padding_idx", None)
        limits.append(positions if offset is None else positions - offset - 1)
    return min(limits)
