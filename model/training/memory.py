"""Memory that a step has freed stays with the process, for the next step."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt (malloc.h), and the largest values it takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_TRIM, _LARGEST_MMAP = 2**31 - 1, 2**25


def keep_freed_memory() -> bool:
    """Tell glibc's allocator not to give freed blocks back to the system; whether there was one to tell.

    A step on the CPU allocates and frees tensors of some ten megabytes, angles by channels. Given back each time, they
    are mapped and zeroed anew each time: a tenth of a step. The setting holds for the process.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP)) and bool(mallopt(_TRIM_THRESHOLD, _LARGEST_TRIM))
