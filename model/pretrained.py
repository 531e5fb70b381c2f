"""The native format: a directory with config.json and model.safetensors, here or on the Hugging Face Hub."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from huggingface_hub import ModelHubMixin, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from pydantic import ValidationError
from safetensors.torch import save_file

from model.checkpoint_layout import CONFIG_FILE, read_json
from model.errors import CheckpointError
from model.provenance import Provenance

if TYPE_CHECKING:
    from torch import Tensor, nn

    from model.config import ModelConfig

Network = TypeVar("Network", bound="PretrainedMixin")

WEIGHTS_FILE = "model.safetensors"
FORMAT_VERSION = 1
MODEL_TYPE = "crystal-text-network"

# Keys of config.json beside the fields of ModelConfig; tools of the Hub may add the last two.
_RESERVED = ("format_version", "model_type", "provenance", "architectures", "transformers_version")
_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")


@dataclass(frozen=True)
class SavedConfig:
    """What config.json of a saved network says."""

    source: str
    fields: dict[str, Any]
    origin: Provenance | None


def weights_of_directory(directory: Path) -> Path:
    """The weights file of a saved directory.

    Raises:
        CheckpointError: it is not one, with the checkpoints that lie in it.
    """
    if (directory / CONFIG_FILE).is_file() and (directory / WEIGHTS_FILE).is_file():
        return directory / WEIGHTS_FILE
    names = sorted(each.name for each in directory.iterdir() if each.suffix in _CHECKPOINT_SUFFIXES)
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    instead = f"give one of the files in it: {listed}" if names else "it holds no checkpoint"
    raise CheckpointError(
        f"{directory} is a directory, but not a saved network ({CONFIG_FILE} and {WEIGHTS_FILE}); {instead}"
    )


def find_saved_config(weights: Path) -> SavedConfig | None:
    """config.json of our format beside a weights file; None where there is none or it is another program's.

    Raises:
        CheckpointError: it is of a later version, or damaged.
    """
    path = weights.parent / CONFIG_FILE
    document = read_json(path) if path.is_file() else None
    if not isinstance(document, dict) or "format_version" not in document:
        return None
    if document["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"has a {CONFIG_FILE} of format version {str(document['format_version'])[:20]}, expected "
            f"{FORMAT_VERSION}: install a later crystal-interpret"
        )
    try:
        saved = document.get("provenance")
        origin = None if saved is None else Provenance.model_validate(saved)
    except ValidationError as error:
        raise CheckpointError(f"has a {CONFIG_FILE} with a damaged provenance: remove that entry") from error
    fields = {key: value for key, value in document.items() if key not in _RESERVED}
    return SavedConfig(f"{CONFIG_FILE} of the saved network", fields, origin)


class PretrainedMixin(ModelHubMixin, library_name="crystal-interpret", tags=["materials-science", "alignn"]):
    """``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` for a network with a ``config``."""

    config: ModelConfig
    provenance: Provenance | None

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        config: object = None,
        repo_id: str | None = None,
        push_to_hub: bool = False,
        model_card_kwargs: dict[str, Any] | None = None,
        **push_to_hub_kwargs: Any,
    ) -> str | None:
        """Write config.json, model.safetensors and, where there is none, a model card README.md.

        The files are written beside their place and moved there complete: a directory never holds the
        configuration of one network and the weights of another.

        Args:
            save_directory: made where it does not exist.
            config: not accepted; the network's own configuration is saved.
            repo_id, push_to_hub, push_to_hub_kwargs: upload it as well, see ``push_to_hub``.
            model_card_kwargs: values for the template of the model card.

        Returns:
            The address of the commit where it was uploaded, else None.

        Raises:
            CheckpointError: the directory cannot be written, or another config is given.
        """
        if config is not None:
            raise CheckpointError("expected no config: save_pretrained writes the network's own")
        target = Path(save_directory)
        try:
            target.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target, prefix=".saving-") as scratch:
                super().save_pretrained(scratch, model_card_kwargs=model_card_kwargs)
                _move_into_place(Path(scratch), target)
        except OSError as error:
            raise CheckpointError(f"{target} cannot be written: {error.strerror or error}") from error
        if not push_to_hub:
            return None
        kwargs = {**push_to_hub_kwargs, "model_card_kwargs": model_card_kwargs}
        return self.push_to_hub(repo_id or target.name, **kwargs)

    def _save_pretrained(self, save_directory: Path) -> None:
        document = {
            "format_version": FORMAT_VERSION,
            "model_type": MODEL_TYPE,
            **self.config.model_dump(mode="json"),
            "provenance": None if self.provenance is None else self.provenance.model_dump(mode="json"),
        }
        text = json.dumps(document, indent=2) + "\n"
        (save_directory / CONFIG_FILE).write_text(text, encoding="utf-8")
        state: dict[str, Tensor] = cast("nn.Module", self).state_dict()
        plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        save_file(plain, save_directory / WEIGHTS_FILE, metadata={"format": "pt"})

    @classmethod
    def from_pretrained(
        cls: type[Network],
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        allow_partial: bool = False,
        **model_kwargs: Any,
    ) -> Network:
        """Load a directory of ``save_pretrained``, or the model of that id from the Hub (two files only).

        Args:
            pretrained_model_name_or_path: the directory or the id.
            force_download, token, cache_dir, local_files_only, revision: as in ``snapshot_download``.
            allow_partial: see :func:`model.checkpoint.load_checkpoint`.
            model_kwargs: none is accepted; the architecture is the saved one.

        Raises:
            CheckpointError: there is no such directory or model, or it does not fit its architecture.
        """
        from model.checkpoint import load_checkpoint

        if model_kwargs:
            raise CheckpointError(f"expected no further arguments, got {', '.join(model_kwargs)}")
        directory = Path(pretrained_model_name_or_path)
        if not directory.is_dir():
            identifier = str(pretrained_model_name_or_path)
            if directory.exists() or identifier.count("/") > 1 or identifier.startswith((".", "/", "~")):
                raise CheckpointError(f"there is no directory {directory}: save_pretrained writes one")
            try:
                downloaded = snapshot_download(
                    identifier,
                    allow_patterns=[CONFIG_FILE, WEIGHTS_FILE],
                    force_download=force_download,
                    token=token,
                    cache_dir=cache_dir,
                    local_files_only=local_files_only,
                    revision=revision,
                )
            except (HfHubHTTPError, OSError, ValueError) as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise CheckpointError(
                    f"{identifier} is no directory here, and the Hugging Face Hub did not give it: {reason}"
                ) from error
            directory = Path(downloaded)
        return cast("Network", load_checkpoint(directory, allow_partial=allow_partial))


def _move_into_place(scratch: Path, target: Path) -> None:
    """Configuration last, and away while the weights change: a crash leaves too little, never a mixture."""
    card = "README.md"
    (target / CONFIG_FILE).unlink(missing_ok=True)
    (scratch / WEIGHTS_FILE).replace(target / WEIGHTS_FILE)
    (scratch / CONFIG_FILE).replace(target / CONFIG_FILE)
    if not (target / card).exists() and (scratch / card).exists():
        (scratch / card).replace(target / card)
