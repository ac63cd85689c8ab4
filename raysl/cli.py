"""The command line: parsing only, everything else is a function elsewhere."""

import shlex
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from raysl.study.spec import Study

RUNS = Path("runs")

app = typer.Typer(
    name="raysl",
    help="From how many of your own images on does self-supervised pretraining pay?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Make and look at image stores.", no_args_is_help=True)
app.add_typer(data_app, name="data")
console = Console()

Runs = Annotated[Path, typer.Option("--runs", help="Folder of studies and the MLflow store.")]
TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="MLflow server or store; default RUNS/mlflow.db."),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Recipe field, such as method.temperature=0.2; repeatable."),
]
StudyFile = Annotated[Path, typer.Argument(metavar="FILE", help="A study file, studies/*.py.")]
Arguments = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Its arguments.")
]
Small = Annotated[bool, typer.Option("--small", help="The study's small variant, about a minute.")]
Help = Annotated[bool, typer.Option("--help", "-h", help="Also lists the study's arguments.")]


def main() -> None:
    """Run the command; a user's mistake is one sentence on stderr and exit code 2."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments, prog_name="raysl", standalone_mode=True)
    except KeyboardInterrupt:
        _end("Interrupted.", code=130)
    except (ValueError, OSError) as error:
        if debug:
            traceback.print_exc()
        _end(str(error) or type(error).__name__, code=2)


def _end(sentence: str, *, code: int) -> None:
    sys.stderr.write(f"raysl: {sentence}\n")
    sys.exit(code)


@app.command(add_help_option=False)
def run(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="FILE")] = None,
    arguments: Arguments = None,
    sets: Sets = None,
    runs: Runs = RUNS,
    tracking_uri: TrackingUri = None,
    local: Annotated[bool, typer.Option("--local", help="A plain loop, without Ray.")] = False,
    address: Annotated[
        str | None, typer.Option("--address", help="Run on the Ray cluster there.")
    ] = None,
    cpus: Annotated[int | None, typer.Option("--cpus", help="CPUs to use; default all.")] = None,
    concurrent: Annotated[
        int | None, typer.Option("--concurrent", help="Trials at a time; default all that fit.")
    ] = None,
    small: Small = False,
    help: Help = False,
) -> None:
    """Run a study, or go on with it: finished trials are not run again."""
    from raysl.commands import run_study

    if help or file is None:
        _show_help(ctx, file)
        return
    study = _build(file, arguments, sets, small=small)
    run_study(
        study,
        runs=runs,
        tracking_uri=tracking_uri,
        local=local,
        address=address,
        cpus=cpus,
        concurrent=concurrent,
        command=_command(),
        console=console,
    )


@app.command(add_help_option=False)
def plan(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="FILE")] = None,
    arguments: Arguments = None,
    sets: Sets = None,
    local: Annotated[bool, typer.Option("--local", help="Plan for a plain loop.")] = False,
    cpus: Annotated[int | None, typer.Option("--cpus", help="CPUs to plan for.")] = None,
    small: Small = False,
    help: Help = False,
) -> None:
    """Print the cells, trials and estimated cost of a study without running it."""
    from raysl.commands import show_plan

    if help or file is None:
        _show_help(ctx, file)
        return
    show_plan(_build(file, arguments, sets, small=small), local=local, cpus=cpus, console=console)


@app.command()
def report(
    study: Annotated[str, typer.Argument(help="A study's name, or its folder.")],
    runs: Runs = RUNS,
) -> None:
    """Make the report again from the stored results."""
    from raysl.commands import show_report, study_directory

    show_report(study_directory(study, runs), console=console)


@app.command()
def threshold(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet with arm, size, seed, metric.")],
    arm: Annotated[str | None, typer.Option(help="The arm in question.")] = None,
    baseline: Annotated[str | None, typer.Option(help="The arm to beat.")] = None,
    assume_sd: Annotated[
        float | None, typer.Option(help="Seed sd in points, for tables with one seed.")
    ] = None,
) -> None:
    """Find the threshold in any table of results."""
    from raysl.commands import show_threshold

    show_threshold(file, arm=arm, baseline=baseline, assume_sd=assume_sd, console=console)


@app.command()
def ui(
    runs: Runs = RUNS,
    tracking_uri: TrackingUri = None,
    host: str = "127.0.0.1",
    port: int = 5000,
) -> None:
    """Start MLflow's page on this machine with this project's store."""
    from raysl.mlflow_ui import artifacts_directory, default_tracking_uri, serve_ui

    uri = tracking_uri or default_tracking_uri(runs)
    serve_ui(uri, artifacts_directory(runs), host=host, port=port)


@app.command()
def sync(
    study: Annotated[str, typer.Argument(help="A study's name, or its folder.")],
    runs: Runs = RUNS,
    tracking_uri: TrackingUri = None,
) -> None:
    """Bring MLflow up to date from the study's files."""
    from raysl.commands import study_directory
    from raysl.mlflow_mirror import sync as sync_study
    from raysl.mlflow_ui import default_tracking_uri

    summary = sync_study(study_directory(study, runs), tracking_uri or default_tracking_uri(runs))
    console.print(str(summary))


@app.command()
def methods() -> None:
    """List the methods with their parameters, defaults and sources."""
    from raysl.commands import show_methods

    show_methods(console)


@app.command()
def doctor(runs: Runs = RUNS) -> None:
    """Check versions, devices, threads and disk; say what is wrong and how to mend it."""
    from raysl.doctor import examine

    checks = examine(runs)
    for check in checks:
        console.print(
            f"{'ok  ' if check.ok else 'BAD '} {check.name}: {check.found}", highlight=False
        )
        if check.mend:
            console.print(f"     mend it with: {check.mend}", highlight=False)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@data_app.command("import")
def data_import(
    source: Annotated[str, typer.Argument(help="Folder, Parquet, IDX, torchvision:NAME, ...")],
    destination: Annotated[Path, typer.Argument(help="The store to make.")],
    size: Annotated[int, typer.Option(help="Side of the stored square images, in pixels.")],
    encoding: Annotated[str, typer.Option(help="raw, png or jpeg.")] = "raw",
    colour: Annotated[str | None, typer.Option(help="grey or rgb; default as the images.")] = None,
    val_fraction: Annotated[float, typer.Option(help="Carved from train where not given.")] = 0.1,
    test_fraction: Annotated[float, typer.Option(help="Likewise.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Of the splits that are made.")] = 0,
    split: Annotated[str, typer.Option(help="given: keep the source's splits; random.")] = "given",
    class_names: Annotated[
        str | None, typer.Option(help="Names of the classes in order, with commas between them.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Of Parquet files.")] = None,
    downloads: Annotated[
        Path | None, typer.Option(help="Where torchvision looks for files and keeps them.")
    ] = None,
    max_rejected: Annotated[
        float, typer.Option(help="Share of unreadable images above which the import fails.")
    ] = 0.01,
    keep_duplicates: Annotated[
        bool, typer.Option(help="Keep images of train that are in val or test too.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Of the data; default DESTINATION's.")] = None,
    licence: Annotated[Path | None, typer.Option(help="A file with the licence's text.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing store.")] = False,
) -> None:
    """Turn images into a store: decoded and resized once, split, checked."""
    from raysl.commands import import_store

    import_store(
        source,
        destination,
        console=console,
        size=size,
        encoding=encoding,
        colour=colour,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        split=split,
        class_names=[n.strip() for n in class_names.split(",")] if class_names else None,
        label_column=label_column,
        downloads=downloads,
        max_rejected=max_rejected,
        keep_duplicates=keep_duplicates,
        name=name,
        licence=licence,
        overwrite=overwrite,
    )


@data_app.command("info")
def data_info(
    store: Annotated[Path, typer.Argument(help="A store.")],
    verify: Annotated[bool, typer.Option(help="Also read and check every shard.")] = False,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Where to; default STORE/contact_sheet.png.")
    ] = None,
) -> None:
    """Show counts, classes, sizes, channel statistics and digest; draw a contact sheet."""
    from raysl.commands import show_store

    show_store(store, verify=verify, sheet=contact_sheet, console=console)


def _build(
    file: Path, arguments: list[str] | None, sets: list[str] | None, *, small: bool
) -> "Study":
    from raysl.recipe import parse_override
    from raysl.study.load import build_study, load_module

    overrides = dict(parse_override(text) for text in sets or [])
    return build_study(load_module(file), arguments or [], overrides, small=small)


def _show_help(ctx: typer.Context, file: Path | None) -> None:
    console.print(ctx.get_help(), highlight=False, markup=False)
    if file is None:
        return
    from raysl.study.load import arguments, load_module

    module = load_module(file)
    console.print(f"Arguments of {file}:", highlight=False)
    for argument in arguments(module):
        console.print(f"  {argument.name}=...  {argument.text}", highlight=False, markup=False)
        console.print(f"      {argument.usage}", highlight=False, markup=False)


def _command() -> str:
    """This command as it can be typed again."""
    return shlex.join(["raysl", *(a for a in sys.argv[1:] if a != "--debug")])


if __name__ == "__main__":
    main()
