"""The zoo of defective checkpoints and healthy seeds (``tools.zoo``) in a temporary folder, with the time it took.

``python -m tools.bench.zoo [--healthy 20] [--limit 40]``: every option of ``tools.zoo`` but ``--output``. Minutes:
it trains one network, one more for the wrong layer, and one a seed.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence

from tools import zoo


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the matrix, the rates and the time; the status is that of ``tools.zoo``."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        given = sys.argv[1:] if arguments is None else list(arguments)
        status = zoo.main(["--output", folder, *given])
    print(f"{time.perf_counter() - begin:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
