"""One look for every figure: colour-blind safe, readable in print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Okabe and Ito (2008): distinguishable with any form of colour blindness.
INK, BLUE, ORANGE, GREEN, GREY = "#222222", "#0072B2", "#D55E00", "#009E73", "#8A8A8A"
DIVERGING = "PuOr_r"
CATEGORY_COLOURS = {
    "element": "#0072B2",
    "crystallography": "#D55E00",
    "chemistry": "#009E73",
    "number": "#CC79A7",
    "other": "#56B4E9",
    "special": "#8A8A8A",
}


@contextmanager
def figure_style() -> Iterator[Any]:
    """Seaborn theme and a backend that needs no screen, for the duration of the block; yields pyplot."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import seaborn
    from matplotlib import pyplot

    settings: dict[Any, Any] = {
        "figure.dpi": 150,
        "savefig.bbox": "tight",
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "svg.hashsalt": "crystal-interpret",
    }
    with matplotlib.rc_context(), seaborn.axes_style("ticks"):
        matplotlib.rcParams.update(settings)
        try:
            yield pyplot
        finally:
            pyplot.close("all")
