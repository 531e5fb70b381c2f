"""One look for every figure: colour-blind safe, readable in print."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interpret.tables import atomic_path

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
# Without a date the same numbers give the same bytes.
_UNDATED: Mapping[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


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


def save_figure(figure: Any, folder: Path, name: str, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Write a figure atomically as ``NAME.FORMAT``; returns the files."""
    written = []
    for extension in formats:
        target = folder / f"{name}.{extension}"
        with atomic_path(target) as temporary:
            figure.savefig(temporary, format=extension, metadata=_UNDATED.get(extension, {}))
        written.append(target)
    return written


def draw_figures(
    figures: Mapping[str, Callable[[Any], Any]], folder: Path, formats: Sequence[str] = ("png",)
) -> list[Path]:
    """Draw and write figures by name, each by a function of pyplot; one that gives None has nothing to show."""
    written = []
    for name, draw in figures.items():
        with figure_style() as pyplot:
            figure = draw(pyplot)
            if figure is not None:
                written += save_figure(figure, folder, name, formats)
    return written
