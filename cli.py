"""Command line: parses, calls, prints. Heavy packages are imported by the commands that need them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from interpret.results import Diagnosis
    from model.dataset import CrystalDataset

app = typer.Typer(
    name="interpret",
    help="A linter and microscope for multimodal crystal checkpoints.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Format(str, Enum):
    """What is printed."""

    text = "text"
    json = "json"


class FindingsFormat(str, Enum):
    """What diagnose prints."""

    text = "text"
    json = "json"
    sarif = "sarif"
    github = "github"


class Level(str, Enum):
    """Least severity that fails."""

    info = "info"
    warning = "warning"
    error = "error"
    never = "never"


class Precision(str, Enum):
    """Arithmetic of the analysis."""

    float64 = "float64"
    float32 = "float32"


class Columns(NamedTuple):
    """Headers or positions of a table's columns, where the user names them."""

    id: str | None = None
    text: str | None = None
    target: str | None = None


Checkpoint = Annotated[Path, typer.Argument(help="Checkpoint: a .pt file, a .safetensors file or a directory.")]
OutputFolder = Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")]
OutputFormat = Annotated[Format, typer.Option("--format", help="What to print.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
AllowPartial = Annotated[bool, typer.Option("--allow-partial", help="Go on where weights are missing or do not fit.")]


@app.command()
def diagnose(
    checkpoint: Checkpoint,
    output: OutputFolder,
    data: Annotated[Path | None, typer.Option(help="Folder with cif/ and description.csv.")] = None,
    structure: Annotated[Path | None, typer.Option(help="One structure file, in place of --data.")] = None,
    text: Annotated[str | None, typer.Option(help="The description of --structure.")] = None,
    target: Annotated[float | None, typer.Option(help="The label of --structure.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many structures.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Structures a forward pass; changes no figure.")] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Text encoder: a folder, a hub name, or random:WIDTH for an untrained stand-in."),
    ] = None,
    mappings: Annotated[Path | None, typer.Option(help="Character map of the normalisation, a line each.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the network.")] = Precision.float64,
    id_column: Annotated[str | None, typer.Option(help="Header or position of the id column.")] = None,
    text_column: Annotated[str | None, typer.Option(help="Header or position of the text column.")] = None,
    target_column: Annotated[str | None, typer.Option(help="Header or position of the target column.")] = None,
    stop_words: Annotated[bool | None, typer.Option(help="Keep stop words in word rankings.")] = None,
    punctuation: Annotated[bool | None, typer.Option(help="Keep punctuation in word rankings.")] = None,
    symmetry_tolerance: Annotated[float | None, typer.Option(min=0.0, help="Angstrom, for equivalent atoms.")] = None,
    seed: Annotated[int, typer.Option(help="Of every random draw.")] = 0,
    select: Annotated[str | None, typer.Option(help="Rules to ask: codes or prefixes, comma-separated.")] = None,
    ignore: Annotated[str | None, typer.Option(help="Rules to leave out: codes or prefixes, comma-separated.")] = None,
    fail_on: Annotated[Level | None, typer.Option(help="Exit with 1 on a finding of this severity or above.")] = None,
    format: Annotated[FindingsFormat, typer.Option("--format", help="What to print.")] = FindingsFormat.text,
    allow_partial: AllowPartial = False,
    quiet: Quiet = False,
) -> None:
    """Diagnose a checkpoint on structures with their texts."""
    from interpret.checks.registry import select_rules
    from interpret.diagnose import DiagnoseOptions
    from interpret.diagnose import diagnose as run
    from interpret.settings import read_settings
    from model.checkpoint import load_checkpoint
    from model.demo import demo_texts
    from model.encoder import load_encoder
    from model.text import read_mappings
    from reports.figures import draw_all

    settings = read_settings(Path.cwd())
    rules = select_rules(
        settings.select if select is None else listed(select), settings.ignore if ignore is None else listed(ignore)
    )
    columns = Columns(id_column, text_column, target_column)
    check_device(device)
    network = load_checkpoint(checkpoint, allow_partial=allow_partial)
    dataset = read_data(data, structure, text, target, limit, columns)
    text_encoder = load_encoder(
        encoder or settings.encoder,
        width=network.config.token_features,
        device=device,
        mappings=None if mappings is None else read_mappings(mappings),
    )
    options = DiagnoseOptions(
        batch_size=batch_size or settings.batch_size,
        device=device,
        dtype=precision.value,
        symmetry_tolerance=settings.symmetry_tolerance if symmetry_tolerance is None else symmetry_tolerance,
        stop_words=settings.stop_words if stop_words is None else stop_words,
        punctuation=settings.punctuation if punctuation is None else punctuation,
        seed=seed,
    )
    with progress_bar("structures", len(dataset), quiet or format is not FindingsFormat.text) as advance:
        result = run(
            network,
            dataset,
            text_encoder,
            options=options,
            work=output / ".progress",
            rules=rules,
            spare_texts=demo_texts(),
            progress=advance,
        )
    result.save(output)
    draw_all(result, output / "figures")
    print_diagnosis(result, output, format)
    threshold = settings.fail_on if fail_on is None else fail_on.value
    if threshold != "never" and any(at_least(finding.severity, threshold) for finding in result.findings):
        raise typer.Exit(1)


@app.command()
def rules(
    code: Annotated[str | None, typer.Argument(help="A rule to explain, e.g. GA301.")] = None,
    format: OutputFormat = Format.text,
) -> None:
    """List the rules, or explain one."""
    import json

    from interpret.checks.registry import all_rules
    from model.errors import InterpretError
    from reports.rule_pages import rule_dict, rule_page, rule_table

    known = all_rules()
    if code is not None and code.upper() not in known:
        raise InterpretError(f"no rule has the code {code!r}; there are: {', '.join(known)}")
    chosen = known if code is None else {code.upper(): known[code.upper()]}
    if format is Format.json:
        typer.echo(json.dumps([rule_dict(rule) for rule in chosen.values()], indent=1))
    elif code is None:
        typer.echo("\n".join(rule_table(chosen)))
    else:
        typer.echo(rule_page(chosen[code.upper()]))


@app.command()
def inspect(checkpoint: Checkpoint, format: OutputFormat = Format.text, allow_partial: AllowPartial = False) -> None:
    """Say what a checkpoint file holds, without any data."""
    import json

    from interpret.inspection import inspect_checkpoint
    from model.checkpoint import load_checkpoint
    from reports.text import inspection_lines

    inspection = inspect_checkpoint(load_checkpoint(checkpoint, allow_partial=allow_partial))
    if format is Format.json:
        typer.echo(json.dumps(inspection, indent=1, sort_keys=True))
    else:
        typer.echo("\n".join(inspection_lines(inspection)))


@app.command()
def demo(
    output: OutputFolder = Path("demo-output"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training split.")] = 15,
    seed: Annotated[int, typer.Option(help="Of split, weights and batches.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Train a small model on the shipped data set, offline, and diagnose it."""
    from interpret.diagnose import diagnose as run
    from model.checkpoint import load_checkpoint
    from model.dataset import CrystalDataset
    from model.demo import DEMO_DATA, demo_config, demo_texts
    from model.encoder import load_encoder
    from model.training.loop import train
    from reports.figures import draw_all

    dataset = CrystalDataset.from_directory(DEMO_DATA, require_target=True)
    encoder = load_encoder(None)
    with progress_bar("epochs", epochs, quiet) as advance:
        outcome = train(demo_config(encoder.width), dataset, encoder, epochs=epochs, seed=seed, progress=advance)
    checkpoint = output / "checkpoint"
    outcome.network.save_pretrained(checkpoint)
    typer.echo(
        f"trained on {outcome.training} crystals; mean absolute error on {outcome.test} others "
        f"{outcome.test_error:.2f} eV (predicting the mean: {outcome.baseline_error:.2f} eV)"
    )
    with progress_bar("structures", len(dataset), quiet) as advance:
        result = run(
            load_checkpoint(checkpoint),
            dataset,
            encoder,
            work=output / ".progress",
            spare_texts=demo_texts(),
            progress=advance,
        )
    result.save(output)
    draw_all(result, output / "figures")
    print_diagnosis(result, output, FindingsFormat.text)


def check_device(device: str) -> None:
    """Refuse a device that is not there before anything is read."""
    import torch

    from model.errors import InterpretError

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InterpretError(f"device {device!r} cannot be used here ({reason}): try --device cpu") from error


def read_data(
    data: Path | None,
    structure: Path | None,
    text: str | None,
    target: float | None,
    limit: int | None,
    columns: Columns,
) -> CrystalDataset:
    """The data set of a folder, or of one structure with its text."""
    from model.dataset import CrystalDataset
    from model.errors import DataError

    if (data is None) == (structure is None):
        raise DataError("expected either --data DIR or --structure FILE with --text TEXT")
    if data is not None:
        return CrystalDataset.from_directory(
            data, limit=limit, id_column=columns.id, text_column=columns.text, target_column=columns.target
        )
    if text is None:
        raise DataError("expected --text TEXT with --structure FILE (an empty text is given as --text '')")
    assert structure is not None
    return CrystalDataset.from_structure(structure, text, target=float("nan") if target is None else target)


def print_diagnosis(result: Diagnosis, output: Path, format: FindingsFormat) -> None:
    """The verdict and the findings for people, or in a format for machines."""
    import json

    from interpret.checks.registry import all_rules
    from reports.formats import to_github, to_sarif
    from reports.text import diagnosis_lines

    if format is FindingsFormat.json:
        typer.echo(json.dumps(result.to_dict(), indent=1, sort_keys=True))
    elif format is FindingsFormat.sarif:
        asked = {outcome.code for outcome in result.outcomes}
        known = {code: rule for code, rule in all_rules().items() if code in asked}
        typer.echo(json.dumps(to_sarif(result, known), indent=1))
    elif format is FindingsFormat.github:
        typer.echo("\n".join(to_github(result)))
    else:
        typer.echo("\n".join(diagnosis_lines(result, output)))


def listed(value: str) -> tuple[str, ...]:
    """Parts of a comma-separated option."""
    return tuple(part.strip() for part in value.split(",") if part.strip())


def at_least(severity: str, threshold: str) -> bool:
    """Whether a severity reaches a threshold."""
    from interpret.checks.base import SEVERITIES

    names: tuple[str, ...] = SEVERITIES
    return names.index(severity) >= names.index(threshold)


@contextmanager
def progress_bar(what: str, total: int, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, where that is a terminal; yields the function that advances it."""
    if quiet or not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def main() -> None:
    """Entry point: a user's mistake is one message and exit status 2, never a traceback."""
    from model.errors import InterpretError

    try:
        app()
    except InterpretError as error:
        typer.echo(f"interpret: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interpret: stopped; run the same command again to go on", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
