"""Token embeddings of frozen encoders kept on disk, shared by processes.

One small ``.npz`` file a text (never a pickle), named by a hash of the text and the encoder. Files appear by
an atomic rename, so that many processes can share a folder. A file that cannot be read, or does not hold what
it should, counts as absent and is written anew. A cache that cannot be used makes a run slower and never
fails it; :attr:`EmbeddingCache.problem` says what was wrong.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

# 50,000 descriptions of 150 pieces and width 768 are 23 GB: a full disk must stop the cache, not the user.
_FREE_SPACE_KEPT = 1 << 30


def default_cache_directory() -> Path:
    """``$XDG_CACHE_HOME/crystal-interpret``, or ``~/.cache/crystal-interpret`` where that is not set."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "crystal-interpret"


class EmbeddingCache:
    """Embeddings by key.

    Args:
        directory: where to keep the files; None for :func:`default_cache_directory`, False for no cache.
    """

    def __init__(self, directory: str | Path | Literal[False] | None = None) -> None:
        self.directory: Path | None = None
        self.problem: str | None = None
        self.hits = 0
        if directory is not False:
            self.directory = default_cache_directory() if directory is None else Path(directory).expanduser()

    def read(self, key: str, piece_ids: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.float32] | None:
        """The embeddings ``[L, width]`` stored under a key, or None.

        Args:
            key: hexadecimal hash of text and encoder.
            piece_ids: the piece ids ``[L]`` the text has; an entry for other pieces is not used.
            width: the width the embeddings should have.
        """
        path = self._path(key)
        if path is None or not path.is_file():
            return None
        # A damaged archive can raise almost anything from zipfile and numpy; all of it means "absent".
        with contextlib.suppress(Exception), np.load(path, allow_pickle=False) as archive:
            stored_ids = archive["piece_ids"]
            embeddings = archive["embeddings"]
            sound = embeddings.dtype == np.float32 and embeddings.shape == (len(piece_ids), width)
            if sound and np.array_equal(stored_ids, piece_ids):
                self.hits += 1
                return np.asarray(embeddings, dtype=np.float32)
        return None

    def write(self, key: str, piece_ids: npt.NDArray[np.int64], embeddings: npt.NDArray[np.float32]) -> None:
        """Store the embeddings ``[L, D]`` of the pieces ``[L]``; on failure the cache is left off."""
        path = self._path(key)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(path.parent).free < _FREE_SPACE_KEPT + embeddings.nbytes:
                raise OSError("less than 1 GiB would be left on the disk")
            _write_atomically(path, piece_ids, embeddings)
        except OSError as error:
            self.problem = f"No embeddings are cached in {self.directory}: {error}."
            self.directory = None

    def _path(self, key: str) -> Path | None:
        if self.directory is None:
            return None
        return self.directory / "embeddings" / key[:2] / f"{key}.npz"


def _write_atomically(path: Path, piece_ids: npt.NDArray[np.int64], embeddings: npt.NDArray[np.float32]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-", suffix=".npz")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, piece_ids=piece_ids, embeddings=embeddings)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
