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
    from interpret.compare.comparison import Comparison
    from interpret.compare.groups import GroupComparison
    from interpret.results import Diagnosis
    from model.dataset import CrystalDataset
    from model.encoder import TextEncoder
    from model.network import CrystalTextNetwork

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


class Split(str, Enum):
    """A part of the data set as a native checkpoint was trained on it."""

    train = "train"
    val = "val"
    test = "test"


class Precision(str, Enum):
    """Arithmetic of the analysis."""

    float64 = "float64"
    float32 = "float32"


class Style(str, Enum):
    """What report draws."""

    html = "html"
    paper = "paper"


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
IdColumn = Annotated[str | None, typer.Option(help="Header or position of the id column.")]
TextColumn = Annotated[str | None, typer.Option(help="Header or position of the text column.")]
TargetColumn = Annotated[str | None, typer.Option(help="Header or position of the target column.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Structures a forward pass; changes no figure.")]
Mappings = Annotated[Path | None, typer.Option(help="Character map of the normalisation, a line each.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Stop after so many structures.")]
StopWords = Annotated[bool | None, typer.Option(help="Keep stop words in word rankings.")]
Punctuation = Annotated[bool | None, typer.Option(help="Keep punctuation in word rankings.")]
SymmetryTolerance = Annotated[float | None, typer.Option(min=0.0, help="Angstrom, for equivalent atoms.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
Seed = Annotated[int, typer.Option(help="Of every random draw.")]
Attribution = Annotated[
    bool, typer.Option("--attribution", help="Also: what predictions rest on, and whether attention says so.")
]
AttributionLimit = Annotated[int, typer.Option(min=1, help="Structures to explain, spread evenly over the data set.")]
INTERRUPTED = 130
DEFAULT_VARIANTS = "full,no-middle-fusion"


@app.command()
def diagnose(
    checkpoint: Checkpoint,
    output: OutputFolder,
    data: Annotated[Path | None, typer.Option(help="Folder with cif/ and description.csv.")] = None,
    structure: Annotated[Path | None, typer.Option(help="One structure file, in place of --data.")] = None,
    text: Annotated[str | None, typer.Option(help="The description of --structure.")] = None,
    target: Annotated[float | None, typer.Option(help="The label of --structure.")] = None,
    limit: Limit = None,
    split: Annotated[Split | None, typer.Option(help="Only this split of --data, by the ids in training.json.")] = None,
    batch_size: BatchSize = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Text encoder: a folder, a hub name, or random:WIDTH for an untrained stand-in."),
    ] = None,
    mappings: Mappings = None,
    device: Device = "cpu",
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the network.")] = Precision.float64,
    id_column: IdColumn = None,
    text_column: TextColumn = None,
    target_column: TargetColumn = None,
    stop_words: StopWords = None,
    punctuation: Punctuation = None,
    symmetry_tolerance: SymmetryTolerance = None,
    seed: Seed = 0,
    select: Annotated[str | None, typer.Option(help="Rules to ask: codes or prefixes, comma-separated.")] = None,
    ignore: Annotated[str | None, typer.Option(help="Rules to leave out: codes or prefixes, comma-separated.")] = None,
    modality: Annotated[bool, typer.Option("--modality", help="Also: what comes from graph, what from text.")] = False,
    attribution: Attribution = False,
    attribution_limit: AttributionLimit = 50,
    attribution_methods: Annotated[
        str | None, typer.Option(help="Explainers, comma-separated; all that apply if not given.")
    ] = None,
    attribution_players: Annotated[
        str, typer.Option(help="Who can be absent: words or sentences, and atoms, orbits or bonds; comma-separated.")
    ] = "words,atoms",
    fail_on: Annotated[Level | None, typer.Option(help="Exit with 1 on a finding of this severity or above.")] = None,
    format: Annotated[FindingsFormat, typer.Option("--format", help="What to print.")] = FindingsFormat.text,
    allow_partial: AllowPartial = False,
    quiet: Quiet = False,
) -> None:
    """Diagnose a checkpoint on structures with their texts."""
    from interpret.attribution.dataset import AttributionOptions
    from interpret.attribution.findings import diagnose_attribution
    from interpret.checks.registry import select_rules
    from interpret.diagnose import DiagnoseOptions
    from interpret.diagnose import diagnose as run
    from interpret.gate_history import history_beside
    from interpret.modality.findings import diagnose_modality
    from interpret.settings import read_settings
    from model.checkpoint import load_checkpoint
    from model.demo import demo_texts
    from model.training import samples_of_split
    from reports.attribution_figures import draw_attribution
    from reports.figures import draw_all
    from reports.modality_figures import draw_modality
    from reports.modality_text import modality_lines

    settings = read_settings(Path.cwd())
    rules = select_rules(
        settings.select if select is None else listed(select), settings.ignore if ignore is None else listed(ignore)
    )
    explained: dict[str, Any] = {"limit": attribution_limit, "kinds": listed(attribution_players)}
    if attribution_methods is not None:
        explained["methods"] = listed(attribution_methods)
    # Made here, so that a misspelt name is told before anything is run.
    explain = AttributionOptions(**explained)
    columns = Columns(id_column, text_column, target_column)
    check_device(device)
    network = load_checkpoint(checkpoint, allow_partial=allow_partial)
    dataset = read_data(data, structure, text, target, None if split else limit, columns)
    if split is not None:
        dataset = samples_of_split(dataset, checkpoint, split.value, limit=limit)
    text_encoder = encoder_of(network, encoder or settings.encoder, mappings, device)
    options = DiagnoseOptions(
        batch_size=batch_size or settings.batch_size,
        device=device,
        dtype=precision.value,
        symmetry_tolerance=settings.symmetry_tolerance if symmetry_tolerance is None else symmetry_tolerance,
        stop_words=settings.stop_words if stop_words is None else stop_words,
        punctuation=settings.punctuation if punctuation is None else punctuation,
        seed=seed,
    )
    machine = quiet or format is not FindingsFormat.text
    with progress_bar("structures", len(dataset), machine) as advance:
        result = run(
            network,
            dataset,
            text_encoder,
            options=options,
            work=output / ".progress",
            rules=rules,
            spare_texts=demo_texts(),
            gate_history=history_beside(checkpoint),
            progress=advance,
        )
    result.save(output)
    if modality:
        with progress_bar("modality", len(dataset), machine) as advance:
            result, analysis = diagnose_modality(
                result,
                network,
                dataset,
                text_encoder,
                options=options,
                rules=rules,
                work=output / ".progress-modality",
                progress=advance,
            )
        result.save(output)
        analysis.save(output)
        draw_modality(analysis, output / "figures")
        if format is FindingsFormat.text:
            typer.echo("\n".join(modality_lines(analysis)))
    if attribution:
        with progress_bar("attribution", min(explain.limit, len(dataset)), machine) as advance:
            result, explanations = diagnose_attribution(
                result,
                network,
                dataset,
                text_encoder,
                options=options,
                rules=rules,
                attribution=explain,
                work=output / ".progress-attribution",
                progress=advance,
            )
        result.save(output)
        explanations.save(output)
        draw_attribution(explanations, output / "figures")
        if format is FindingsFormat.text:
            typer.echo("\n".join(explanations.lines()))
    draw_all(result, output / "figures")
    print_diagnosis(result, output, format)
    threshold = settings.fail_on if fail_on is None else fail_on.value
    if threshold != "never" and any(at_least(finding.severity, threshold) for finding in result.findings):
        raise typer.Exit(1)


@app.command()
def probe(
    checkpoint: Checkpoint,
    structure: Annotated[Path, typer.Option(help="A structure file.")],
    text: Annotated[str, typer.Option(help="Its description.")],
    replace: Annotated[list[str], typer.Option(help="OLD=>NEW words, e.g. 'cubic=>hexagonal'; may be repeated.")],
    target: Annotated[float | None, typer.Option(help="Its label.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the results.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Text encoder, as for diagnose.")] = None,
    mappings: Mappings = None,
    device: Device = "cpu",
    format: OutputFormat = Format.text,
    allow_partial: AllowPartial = False,
    quiet: Quiet = False,
) -> None:
    """Change words of one description and see what moves, beside texts that say the same."""
    import json

    from interpret.modality.probe import probe as run
    from interpret.modality.substitution import parse_replacement
    from interpret.settings import read_settings
    from interpret.tables import plain
    from model.checkpoint import load_checkpoint
    from model.demo import demo_texts
    from reports.modality_text import probe_lines

    replacements = [parse_replacement(each) for each in replace]
    check_device(device)
    network = load_checkpoint(checkpoint, allow_partial=allow_partial)
    dataset = read_data(None, structure, text, target, None, Columns())
    text_encoder = encoder_of(network, encoder or read_settings(Path.cwd()).encoder, mappings, device)
    other = next(known for known in demo_texts() if known != text)
    with progress_bar("words", len(text.split()), quiet or format is not Format.text) as advance:
        result = run(network, dataset, text_encoder, replacements, other_text=other, device=device, progress=advance)
    if output is not None:
        result.save(output)
    if format is Format.json:
        typer.echo(json.dumps(plain(result.to_dict()), indent=1, sort_keys=True, ensure_ascii=False))
    else:
        typer.echo("\n".join(probe_lines(result)))


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
def compare(
    output: OutputFolder,
    data: Annotated[Path, typer.Option(help="Folder with cif/ and description.csv.")],
    checkpoints: Annotated[
        list[Path] | None, typer.Argument(help="Two or more; the first is compared with each.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Names of the checkpoints, comma-separated.")] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="LABEL=PATH,PATH,...: seeds of one variant; given twice, in place of CHECKPOINTS."),
    ] = None,
    split: Annotated[Split | None, typer.Option(help="Only this split, on which all training.json must agree.")] = None,
    hypothesis: Annotated[Path | None, typer.Option(help="Thresholds of the hypothesis, TOML.")] = None,
    limit: Limit = None,
    batch_size: BatchSize = None,
    encoder: Annotated[str | None, typer.Option(help="Text encoder of all checkpoints, as for diagnose.")] = None,
    mappings: Mappings = None,
    device: Device = "cpu",
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the networks.")] = Precision.float64,
    id_column: IdColumn = None,
    text_column: TextColumn = None,
    target_column: TargetColumn = None,
    stop_words: StopWords = None,
    punctuation: Punctuation = None,
    resamples: Annotated[int, typer.Option(min=99, help="Of bootstrap and permutation.")] = 9999,
    seed: Seed = 0,
    format: OutputFormat = Format.text,
    allow_partial: AllowPartial = False,
    quiet: Quiet = False,
) -> None:
    """Compare checkpoints on the same structures, paired, with the uncertainty of every difference."""
    from interpret.compare.command import Request, run_comparison, run_group_comparison
    from interpret.compare.differences import Inference
    from interpret.compare.hypothesis import read_hypothesis
    from interpret.diagnose import DiagnoseOptions
    from interpret.settings import read_settings

    settings = read_settings(Path.cwd())
    check_device(device)
    request = Request.read(
        checkpoints or (),
        group or (),
        listed(labels or ""),
        encoder or settings.encoder,
        mappings,
        device=device,
        allow_partial=allow_partial,
    )
    dataset = request.restrict(
        read_data(data, None, None, None, None if split else limit, Columns(id_column, text_column, target_column)),
        None if split is None else split.value,
        limit,
    )
    options = DiagnoseOptions(
        batch_size=batch_size or settings.batch_size,
        device=device,
        dtype=precision.value,
        symmetry_tolerance=settings.symmetry_tolerance,
        stop_words=settings.stop_words if stop_words is None else stop_words,
        punctuation=settings.punctuation if punctuation is None else punctuation,
        seed=seed,
    )
    inference = Inference(resamples=resamples, seed=seed)
    thresholds = read_hypothesis(hypothesis)
    machine = quiet or format is Format.json
    with progress_bar("structures", len(dataset) * len(request.networks), machine) as advance:
        if request.groups:
            groups = run_group_comparison(request, dataset, options, inference, advance)
        else:
            results = run_comparison(request, dataset, options, inference, thresholds, advance)
    if request.groups:
        print_group_comparison(groups, output, format)
    else:
        print_comparisons(results, output, format)


@app.command()
def report(
    checkpoint: Checkpoint,
    output: OutputFolder,
    data: Annotated[Path | None, typer.Option(help="Folder with cif/ and description.csv.")] = None,
    structure: Annotated[Path | None, typer.Option(help="One structure file, in place of --data.")] = None,
    text: Annotated[str | None, typer.Option(help="The description of --structure.")] = None,
    target: Annotated[float | None, typer.Option(help="The label of --structure.")] = None,
    id: Annotated[list[str] | None, typer.Option("--id", help="Only this structure; can be repeated.")] = None,
    limit: Limit = None,
    diagnosis: Annotated[
        Path | None, typer.Option(help="Results of diagnose on this checkpoint; without them the rules are asked.")
    ] = None,
    rules: Annotated[bool, typer.Option(help="Ask the rules where no --diagnosis is given.")] = True,
    attribution: Attribution = False,
    attribution_limit: AttributionLimit = 50,
    style: Annotated[Style, typer.Option(help="paper: also figures at column width as PNG, SVG, PDF.")] = Style.html,
    batch_size: BatchSize = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Text encoder: a folder, a hub name, or random:WIDTH for an untrained stand-in."),
    ] = None,
    mappings: Mappings = None,
    device: Device = "cpu",
    id_column: IdColumn = None,
    text_column: TextColumn = None,
    target_column: TargetColumn = None,
    symmetry_tolerance: SymmetryTolerance = None,
    seed: Seed = 0,
    allow_partial: AllowPartial = False,
    quiet: Quiet = False,
) -> None:
    """Write a page for every structure, with an index: what the network attended to."""
    from interpret.attribution.dataset import AttributionOptions
    from interpret.diagnose import DiagnoseOptions
    from interpret.pages.attribution_quantities import SavedAttributions
    from interpret.pages.stream import PageOptions
    from interpret.results import Diagnosis
    from interpret.settings import read_settings
    from model.checkpoint import load_checkpoint
    from model.dataset import CrystalDataset
    from model.demo import DEMO_DATA, demo_texts
    from reports.attribution_figures import draw_attribution
    from reports.html.attributions import attributions_for, attributions_of, judge
    from reports.html.run import choose, diagnosis_of, write_report
    from reports.html.text import report_lines
    from reports.paper_figures import draw_paper

    settings = read_settings(Path.cwd())
    check_device(device)
    found = None if diagnosis is None else Diagnosis.load(diagnosis)
    network = load_checkpoint(checkpoint, allow_partial=allow_partial)
    dataset = read_data(data, structure, text, target, None, Columns(id_column, text_column, target_column))
    samples = choose(dataset, id or [], limit)
    text_encoder = encoder_of(network, encoder or settings.encoder, mappings, device)
    shared: dict[str, Any] = {
        "batch_size": batch_size or settings.batch_size,
        "device": device,
        "symmetry_tolerance": settings.symmetry_tolerance if symmetry_tolerance is None else symmetry_tolerance,
        "seed": seed,
    }
    if found is None and rules:
        with progress_bar("rules", len(samples), quiet) as advance:
            found = diagnosis_of(
                network,
                dataset,
                text_encoder,
                output / "diagnosis",
                options=DiagnoseOptions(**shared),
                samples=samples,
                spare_texts=demo_texts(),
                progress=advance,
            )
    own = output / "diagnosis"
    folders = [own] if diagnosis is None else [diagnosis, own]
    saved = None if attribution else attributions_of(*folders)
    if attribution:
        with progress_bar("attribution", min(attribution_limit, len(samples)), quiet) as advance:
            explanations = attributions_for(
                network,
                dataset,
                text_encoder,
                folders,
                samples=samples,
                options=DiagnoseOptions(**shared),
                attribution=AttributionOptions(limit=attribution_limit),
                progress=advance,
            )
        found = judge(found, network, explanations, own if diagnosis is None else None)
        draw_attribution(explanations, output / "figures")
        saved = SavedAttributions(explanations)
    with progress_bar("pages", len(samples), quiet) as advance:
        result = write_report(
            network,
            dataset,
            text_encoder,
            output,
            samples=samples,
            options=PageOptions(**shared),
            diagnosis=found,
            attributions=saved,
            spare=CrystalDataset.from_directory(DEMO_DATA).samples,
            progress=advance,
        )
    if style is Style.paper:
        for sample in samples:
            if sample.id in result.ids:
                draw_paper(result, sample.id, output / "figures")
    typer.echo("\n".join(report_lines(result, output)))


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Folder with cif/ and description.csv.")],
    output: OutputFolder,
    config: Annotated[Path | None, typer.Option(help="YAML file with sections model, data and training.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="model.hidden_features=64; once for each field.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Header or position of the target column.")] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Text encoder: a folder, a hub name, or random:WIDTH; all-MiniLM-L6-v2 if not given."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of weights, batches and dropout.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training split.")] = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Processes or GPUs on each node.")] = None,
    num_nodes: Annotated[int | None, typer.Option(min=1, help="Machines.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run in --output stopped.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a network; RUN/best and RUN/last are checkpoints."""
    from interpret.gate_monitor import GateMonitor
    from model.dataset import CrystalDataset
    from model.encoder import load_encoder
    from model.training import load_config
    from model.training import train as run
    from reports.gate_figures import draw_gates
    from reports.training import draw_learning_curve, training_lines

    given = {
        "data.target_column": target,
        "data.encoder": encoder,
        "training.seed": seed,
        "training.epochs": epochs,
        "training.devices": devices,
        "training.num_nodes": num_nodes,
    }
    settings = load_config(config, changes or ()).changed(
        {name: each for name, each in given.items() if each is not None}
    )
    source = settings.data
    dataset = CrystalDataset.from_directory(
        data,
        id_column=source.id_column,
        text_column=source.text_column,
        target_column=source.target_column,
        limit=source.limit,
        require_target=True,
    )
    outcome = run(
        settings,
        dataset,
        load_encoder(source.encoder),
        output,
        callbacks=[GateMonitor(announce=not quiet)],
        resume=resume,
        progress=not quiet and sys.stderr.isatty(),
    )
    if outcome.rank == 0:
        draw_learning_curve(outcome.history, outcome.record, output / "figures" / "learning_curve.png")
        draw_gates(output)
        typer.echo("\n".join(training_lines(outcome)))


def show_variants(asked: bool) -> None:
    """Print the variants of ablate and stop, where that is asked for."""
    if not asked:
        return
    from interpret.ablate_variants import VARIANTS

    width = max(map(len, VARIANTS))
    typer.echo("\n".join(f"{name:{width}}  {variant.meaning}" for name, variant in VARIANTS.items()))
    raise typer.Exit


@app.command()
def ablate(
    data: Annotated[Path, typer.Argument(help="Folder with cif/ and description.csv.")],
    output: OutputFolder,
    variants: Annotated[
        str | None, typer.Option(help="Names, comma-separated; the others are compared with the first.")
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Of weights and batches, comma-separated; three or more for intervals.")
    ] = "0",
    variant_file: Annotated[Path | None, typer.Option(help="YAML file with variants of one's own.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with sections model, data and training.")] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="model.hidden_features=64; once for each field.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Header or position of the target column.")] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="Text encoder: a folder, a hub name, or random:WIDTH; all-MiniLM-L6-v2 if not given."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training split.")] = None,
    diagnosis: Annotated[bool, typer.Option(help="Diagnose each run on the test split.")] = True,
    list_variants: Annotated[
        bool, typer.Option("--list-variants", is_eager=True, callback=show_variants, help="List the names and stop.")
    ] = False,
    format: OutputFormat = Format.text,
    quiet: Quiet = False,
) -> None:
    """Train variants of a network with several seeds, and compare them on one test split."""
    import json

    from interpret.ablate_variants import choose_variants, read_variants
    from model.errors import DataError

    own = {} if variant_file is None else read_variants(variant_file)
    chosen = choose_variants(["full", *own] if variants is None and own else listed(variants or DEFAULT_VARIANTS), own)
    if not all(part.isdecimal() for part in listed(seeds)):
        raise DataError(f"expected whole numbers from 0, comma-separated, for --seeds, got {seeds!r}")

    # These take seconds: a misspelt name is told before.
    from interpret.ablate import AblateOptions
    from interpret.ablate import ablate as run
    from interpret.diagnose import DiagnoseOptions
    from model.dataset import CrystalDataset
    from model.demo import demo_texts
    from model.encoder import load_encoder
    from model.training import load_config
    from reports.ablation_figures import ablation_lines, draw_ablation
    from reports.gate_figures import draw_gates

    given = {"data.target_column": target, "data.encoder": encoder, "training.epochs": epochs}
    settings = load_config(config, changes or ()).changed(
        {name: each for name, each in given.items() if each is not None}
    )
    source = settings.data
    dataset = CrystalDataset.from_directory(
        data,
        id_column=source.id_column,
        text_column=source.text_column,
        target_column=source.target_column,
        limit=source.limit,
        require_target=True,
    )
    numbers = [int(part) for part in listed(seeds)]
    with progress_bar("runs", len(chosen) * len(numbers), quiet or format is not Format.text) as advance:
        result = run(
            settings,
            chosen,
            numbers,
            dataset,
            load_encoder(source.encoder),
            output,
            options=AblateOptions(DiagnoseOptions() if diagnosis else None, demo_texts()),
            progress=advance,
            # Lines would run into the progress bar of a terminal; without one they tell how far it is.
            say=None if quiet or sys.stderr.isatty() else lambda line: typer.echo(line, err=True),
        )
    draw_ablation(result, output / "figures")
    for row in result.runs.to_dict("records"):
        draw_gates(output / "runs" / str(row["variant"]) / f"seed-{row['seed']}")
    typer.echo(
        json.dumps(result.to_dict(), indent=1, sort_keys=True)
        if format is Format.json
        else "\n".join(ablation_lines(result, output))
    )
    if len(result.failed):
        raise typer.Exit(1)


@app.command()
def convert(
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Argument(help="Folder for config.json and model.safetensors.")],
    allow_partial: AllowPartial = False,
) -> None:
    """Turn a checkpoint that loads into a native one."""
    from model.checkpoint import load_checkpoint
    from model.errors import CheckpointError

    if output.exists() and any(output.iterdir() if output.is_dir() else (output,)):
        raise CheckpointError(f"{output} is there already: choose another folder")
    network = load_checkpoint(checkpoint, allow_partial=allow_partial)
    network.save_pretrained(output)
    typer.echo(f"{checkpoint} is now {output}/config.json and {output}/model.safetensors")


@app.command()
def demo(
    output: OutputFolder = Path("demo-output"),
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training split.")] = 15,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and batches.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Train two small models on the shipped data, with and without middle fusion; diagnose, compare, draw pages."""
    from interpret.compare.command import Request, run_comparison
    from interpret.compare.differences import Inference
    from interpret.compare.hypothesis import read_hypothesis
    from interpret.diagnose import DiagnoseOptions
    from interpret.diagnose import diagnose as run
    from model.checkpoint import load_checkpoint
    from model.dataset import CrystalDataset
    from model.demo import DEMO_DATA, demo_config, demo_texts, demo_training
    from model.encoder import load_encoder
    from model.training import prepare, samples_of_split
    from model.training import train as run_training
    from reports.compare_page import save_comparisons
    from reports.figures import draw_all
    from reports.html.run import write_report
    from reports.training import comparison_lines, draw_learning_curve

    dataset = CrystalDataset.from_directory(DEMO_DATA, require_target=True)
    encoder = load_encoder(None)
    with progress_bar("structures prepared", len(dataset), quiet) as advance:
        prepared = prepare(dataset, encoder, progress=advance)
    config = demo_training(demo_config(encoder.width), epochs=epochs, seed=seed)
    bar = not quiet and sys.stderr.isatty()
    outcomes = {}
    for name, fusion in (("full", True), ("no-middle-fusion", False)):
        settings = config.changed({"model.use_middle_fusion": fusion})
        folder = output / name
        outcomes[name] = run_training(settings, dataset, encoder, folder, resume=True, progress=bar, prepared=prepared)
        draw_learning_curve(outcomes[name].history, outcomes[name].record, folder / "figures" / "learning_curve.png")
    typer.echo("\n".join(comparison_lines(outcomes)))
    with progress_bar("structures", len(dataset), quiet) as advance:
        result = run(
            load_checkpoint(outcomes["full"].best),
            dataset,
            encoder,
            work=output / ".progress",
            spare_texts=demo_texts(),
            progress=advance,
        )
    result.save(output)
    draw_all(result, output / "figures")
    print_diagnosis(result, output, FindingsFormat.text)
    held_out = samples_of_split(dataset, outcomes["full"].best, "test")
    request = Request.read([outcome.best for outcome in outcomes.values()], (), tuple(outcomes))
    with progress_bar("structures compared", 2 * len(held_out), quiet) as advance:
        compared = run_comparison(
            request, held_out, DiagnoseOptions(seed=seed), Inference(seed=seed), read_hypothesis(None), advance
        )
    save_comparisons(compared, output / "comparison")
    typer.echo(f"with and without middle fusion, {len(held_out)} test crystals: {compared[0].movement.sentence}")
    with progress_bar("pages", len(held_out), quiet) as advance:
        write_report(
            load_checkpoint(outcomes["full"].best),
            dataset,
            encoder,
            output / "report",
            samples=held_out.samples,
            diagnosis=result,
            progress=advance,
        )
    typer.echo(f"open {output / 'report' / 'index.html'} and {output / 'comparison' / 'index.html'}")


def check_device(device: str) -> None:
    """Refuse a device that is not there before anything is read."""
    import torch

    from model.errors import InterpretError

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InterpretError(f"device {device!r} cannot be used here ({reason}): try --device cpu") from error


def encoder_of(network: CrystalTextNetwork, name: str | None, mappings: Path | None, device: str) -> TextEncoder:
    """The text encoder of a network, by name or by the network's width."""
    from model.encoder import load_encoder
    from model.text import read_mappings

    mapped = None if mappings is None else read_mappings(mappings)
    return load_encoder(name, width=network.config.token_features, device=device, mappings=mapped)


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


def print_comparisons(results: list[Comparison], output: Path, format: Format) -> None:
    """Save, draw and print comparisons: one in the folder itself, several in a folder each."""
    import json

    from reports.compare_page import save_comparisons
    from reports.compare_text import comparison_lines

    folders = save_comparisons(results, output)
    if format is Format.json:
        content = [result.to_dict() for result in results]
        typer.echo(json.dumps(content[0] if len(content) == 1 else content, indent=1, sort_keys=True))
        return
    for result, folder in zip(results, folders, strict=True):
        typer.echo("\n".join(comparison_lines(result, folder)))


def print_group_comparison(result: GroupComparison, output: Path, format: Format) -> None:
    """Save, draw and print a comparison of groups."""
    import json

    from reports.compare_page import save_group_comparison
    from reports.compare_text import group_lines

    save_group_comparison(result, output)
    if format is Format.json:
        typer.echo(json.dumps(result.to_dict(), indent=1, sort_keys=True))
    else:
        typer.echo("\n".join(group_lines(result, output)))


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
    except (KeyboardInterrupt, SystemExit) as left:
        # typer makes an interruption an exit with this status, and says nothing.
        if isinstance(left, SystemExit) and left.code != INTERRUPTED:
            raise
        typer.echo("interpret: stopped; diagnose, report, ablate and train --resume go on where they were", err=True)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
