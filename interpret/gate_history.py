"""What gates did over the steps of a training run: the table, the warnings, and the note on instability."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interpret.gate_sums import GateSums
from interpret.tables import read_table, write_json, write_table
from model.errors import RecordError

SCHEMA_VERSION = 1
HISTORY, STATISTICS = "gate_history", "gate_statistics.json"
# A weight must come back by this much before it can cross its limit again: batch means jitter about a limit.
MARGIN = 0.02
# Fewer epoch means do not tell a jitter from a trend.
FEWEST_EPOCHS = 6
# Healthy trainings of a dozen epochs under a one-cycle rate, in which gates find their place, reach 0.05.
UNSTABLE = 0.1


@dataclass(frozen=True)
class Limit:
    """A limit on the mean of a gate, below or above which the monitor warns.

    Attributes:
        gates: last part of the names of the taps it holds for.
        above: whether it is an upper limit.
        value: of the limit.
        advice: what to do.
    """

    gates: tuple[str, ...]
    above: bool
    value: float
    advice: str

    def beyond(self, mean: float, margin: float = 0.0) -> bool:
        """Whether a mean is on the wrong side, or within ``margin`` of it."""
        return mean > self.value - margin if self.above else mean < self.value + margin


# The limits that users of these models quote (upstream's own monitor has the same three).
LIMITS = (
    Limit(("effective",), False, 0.3, "little of the text passes; simplify the gate (cross_modal_gate: simplified)"),
    Limit(
        ("quality",),
        False,
        0.5,
        "the detector discounts most texts; improve it (cross_modal_gate: improved-quality)",
    ),
    Limit(("gate", "fusion"), True, 0.9, "the gate is open whatever comes and chooses nothing"),
)


@dataclass(frozen=True)
class GateWarning:
    """A mean that crossed a limit.

    Attributes:
        step: optimizer steps done before the forward pass it was seen in.
        epoch: from 0.
        gate: name of the tap.
        value: mean over the global batch.
        limit: that it crossed.
        start: the mean when recording began, to hold it against.
        text: one sentence.
    """

    step: int
    epoch: int
    gate: str
    value: float
    limit: float
    start: float
    text: str


@dataclass
class GateHistory:
    """Rows of a run, one a gate and recorded step.

    Attributes:
        rows: step, epoch, gate (number of its name in ``names``) and the columns of :meth:`GateSums.row`.
        names: of the gates, in the order of the network.
        warnings: in the order of their steps.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    warnings: list[GateWarning] = field(default_factory=list)
    _beyond: dict[str, bool] = field(default_factory=dict)
    _start: dict[str, float] = field(default_factory=dict)

    def add(self, step: int, epoch: int, gate: str, sums: GateSums, *, judged: bool = True) -> dict[str, float]:
        """Record a gate of one step and return its row.

        Args:
            judged: False records without holding the mean against its limit, during a gate's warm-up.
        """
        if gate not in self.names:
            self.names.append(gate)
        row = {"step": float(step), "epoch": float(epoch), "gate": float(self.names.index(gate)), **sums.row()}
        self.rows.append(row)
        if judged:
            self._start.setdefault(gate, row["mean"])
            self._judge(step, epoch, gate, row["mean"])
        return row

    def _judge(self, step: int, epoch: int, gate: str, mean: float) -> None:
        for number, limit in enumerate(LIMITS):
            if gate.rsplit(".", 1)[-1] not in limit.gates:
                continue
            key = f"{gate}/{number}"
            was = self._beyond.get(key, False)
            # NaN is on no side: a diverged run keeps its last state.
            self._beyond[key] = limit.beyond(mean, MARGIN if was else 0.0) if math.isfinite(mean) else was
            if self._beyond[key] and not was:
                side = "above" if limit.above else "below"
                text = (
                    f"{gate} {mean:.3f} is {side} {limit.value} at step {step}, epoch {epoch} "
                    f"({self._start[gate]:.3f} at the first step recorded): {limit.advice}"
                )
                self.warnings.append(GateWarning(step, epoch, gate, mean, limit.value, self._start[gate], text))

    def table(self) -> pd.DataFrame:
        """The history: step, epoch, gate, and the columns of :meth:`GateSums.row`."""
        frame = pd.DataFrame(self.rows)
        if len(frame):
            frame = frame.astype({"step": "int64", "epoch": "int64", "units": "int64", "gate": "int64"})
            frame["gate"] = [self.names[index] for index in frame["gate"]]
        return frame

    def state_dict(self) -> dict[str, Any]:
        """Everything as tensors, numbers and strings, for a checkpoint that is read with ``weights_only``."""
        columns = list(self.rows[0]) if self.rows else []
        values = torch.tensor([[row[name] for name in columns] for row in self.rows], dtype=torch.float64)
        return {
            "columns": columns,
            "values": values,
            "names": list(self.names),
            "warnings": [asdict(warning) for warning in self.warnings],
            "beyond": dict(self._beyond),
            "start": dict(self._start),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint: rows recorded after it are forgotten."""
        values: Tensor = state["values"]
        self.rows = [dict(zip(state["columns"], row, strict=True)) for row in values.tolist()]
        self.names = list(state["names"])
        self.warnings = [GateWarning(**warning) for warning in state["warnings"]]
        self._beyond, self._start = dict(state["beyond"]), dict(state["start"])

    def save(self, folder: Path) -> None:
        """Write gate_history (CSV, parquet) and gate_statistics.json, each atomically."""
        frame = self.table()
        write_table(frame, folder, HISTORY)
        write_json(folder / STATISTICS, summarise(frame, self.warnings))


@dataclass(frozen=True)
class Instability:
    """Whether a gate jittered from epoch to epoch.

    Attributes:
        unstable: None where there are too few epochs to tell.
        spread: standard deviation of the epoch means about their trend.
        control: what the scatter of batches within an epoch leaves of it.
        epochs: that ``spread`` rests on.
        reason: in words.
    """

    unstable: bool | None
    spread: float
    control: float
    epochs: int
    reason: str


def instability(frame: pd.DataFrame) -> Instability:
    """Spread of the epoch means of one gate, beside the spread that batches alone would give them.

    A gate that moves steadily has learned; one that jumps from epoch to epoch has not. The second differences of the
    epoch means, m(e-1) - 2 m(e) + m(e+1), vanish for any straight course and have six times the variance of
    independent jitter, so ``spread = sqrt(mean(second differences ** 2) / 6)``. The control is the root mean square
    standard error of the epoch means, from the scatter of the recorded batches within each epoch. Unstable is a
    spread above 0.1 and above twice the control.

    Args:
        frame: rows of one gate, columns ``epoch`` and ``mean``.
    """
    by_epoch = frame.groupby("epoch", sort=True)["mean"]
    means, counts = by_epoch.mean().to_numpy(dtype=np.float64), by_epoch.count().to_numpy(dtype=np.float64)
    if len(means) < FEWEST_EPOCHS:
        return Instability(None, math.nan, math.nan, len(means), f"fewer than {FEWEST_EPOCHS} epochs")
    if not np.isfinite(means).all():
        return Instability(True, math.nan, math.nan, len(means), "the gate became NaN")
    spread = float(np.sqrt(np.mean(np.diff(means, n=2) ** 2) / 6))
    errors = by_epoch.var().to_numpy(dtype=np.float64) / counts
    known = errors[np.isfinite(errors)]
    if not len(known):
        return Instability(None, spread, math.nan, len(means), "one record an epoch: no scatter to compare with")
    control = float(np.sqrt(known.mean()))
    unstable = spread > UNSTABLE and spread > 2 * control
    word = "jumps" if unstable else "does not jump"
    reason = f"the gate {word} from epoch to epoch by more than {UNSTABLE} and twice the scatter of batches"
    return Instability(unstable, spread, control, len(means), reason)


def summarise(history: pd.DataFrame, warnings: Sequence[GateWarning] = ()) -> dict[str, Any]:
    """The content of gate_statistics.json, from the table and the warnings."""
    parts = history.groupby("gate", sort=False) if len(history) else ()
    gates = {str(name): _gate_statistics(frame) for name, frame in parts}
    return {
        "schema_version": SCHEMA_VERSION,
        "steps_recorded": int(history["step"].nunique()) if len(history) else 0,
        "last_step": int(history["step"].max()) if len(history) else None,
        "epochs": int(history["epoch"].nunique()) if len(history) else 0,
        "limits": [asdict(limit) for limit in LIMITS],
        "gates": gates,
        "unstable": _unstable(gates),
        "warnings": [asdict(warning) for warning in warnings],
    }


def _unstable(gates: Mapping[str, Mapping[str, Any]]) -> bool | None:
    """Whether any gate is; None where that is not known of any."""
    answers = [gate["instability"]["unstable"] for gate in gates.values()]
    return True if True in answers else (False if False in answers else None)


def _gate_statistics(frame: pd.DataFrame) -> dict[str, Any]:
    by_epoch = frame.groupby("epoch", sort=True)
    last = by_epoch.get_group(int(frame["epoch"].max()))
    shown = ("mean", "std", "min", "max", "low_share", "high_share", "spread", "spread_within", "spread_null")
    return {
        "records": len(frame),
        "first": float(frame["mean"].iloc[0]),
        "last_epoch": {name: float(last[name].mean()) for name in shown},
        "min": float(frame["mean"].min()),
        "max": float(frame["mean"].max()),
        "epoch_means": [float(value) for value in by_epoch["mean"].mean()],
        "instability": asdict(instability(frame)),
    }


def statistics_beside(checkpoint: Path) -> dict[str, Any] | None:
    """What the monitor wrote about the run that a native checkpoint came from; None where it did not watch.

    Args:
        checkpoint: a directory of ``save_pretrained`` (RUN/best), or a file in it.

    Raises:
        RecordError: there is such a file, and it cannot be read.
    """
    path = _beside(checkpoint, STATISTICS)
    if path is None:
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known = isinstance(content, dict) and content.get("schema_version") == SCHEMA_VERSION
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read ({error}): remove it, or train again") from error
    if not known:
        raise RecordError(f"expected {path} of schema version {SCHEMA_VERSION}: remove it, or train again")
    return dict(content)


def history_beside(checkpoint: Path) -> pd.DataFrame | None:
    """The table that the monitor wrote about that run; None where it did not watch. See :func:`statistics_beside`.

    Raises:
        RecordError: there is such a file, and it is not such a table.
    """
    path = _beside(checkpoint, f"{HISTORY}.parquet")
    if path is None:
        return None
    try:
        table = read_table(path.parent, HISTORY)
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} cannot be read ({error}): remove it, or train again") from error
    missing = {"step", "epoch", "gate", "mean"} - set(table.columns)
    if missing:
        raise RecordError(f"expected the columns {', '.join(sorted(missing))} in {path}: remove it, or train again")
    return table


def _beside(checkpoint: Path, name: str) -> Path | None:
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    candidates = [folder / name]
    # RUN/best and RUN/last lie in RUN; a copied checkpoint may carry the file with it.
    if folder.name in ("best", "last"):
        candidates.append(folder.parent / name)
    return next((path for path in candidates if path.is_file()), None)
