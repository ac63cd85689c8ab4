"""The command line: parsing only, everything else is a function elsewhere."""

import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from raysl.cli_data import data_app
from raysl.memory import keep_freed_memory

if TYPE_CHECKING:
    from raysl.study.spec import Study

RUNS = Path("runs")

app = typer.Typer(
    name="raysl",
    help="From how many of your own images on does self-supervised pretraining pay?",
    epilog="--debug, anywhere in a command: print the traceback of a mistake too.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
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
Arguments = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="Its arguments.")
]
Budgets = Annotated[
    list[str] | None,
    typer.Option("--budget", help="trials=40 or device-hours=6; repeatable, all hold."),
]
Small = Annotated[bool, typer.Option("--small", help="The study's small variant, about a minute.")]
Help = Annotated[bool, typer.Option("--help", "-h", help="Also lists the study's arguments.")]


def main() -> None:
    """Run the command; a user's mistake is one sentence on stderr and exit code 2."""
    keep_freed_memory()
    # NumPy's, once imported. The matrices of an analysis are tiny: a second thread only spins.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments, prog_name="raysl", standalone_mode=True)
    except KeyboardInterrupt:
        _end("Interrupted.", code=130)
    except (ValueError, OSError) as error:
        if debug:
            traceback.print_exc()
        _end(_sentence(error), code=2)


def _sentence(error: Exception) -> str:
    """Our own; or of what the system says, which file it is about and what to do."""
    if isinstance(error, OSError) and error.filename is not None:
        path = error.filename2 or error.filename  # the second is where a file should have gone
        return f"Cannot use {path} ({error.strerror}); mend it, or choose another path."
    return str(error) or type(error).__name__


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
    cpus: Annotated[
        int | None, typer.Option("--cpus", min=1, help="CPUs to use; default all.")
    ] = None,
    concurrent: Annotated[
        int | None,
        typer.Option("--concurrent", min=1, help="Trials at a time; default all that fit."),
    ] = None,
    budgets: Budgets = None,
    small: Small = False,
    help: Help = False,
) -> None:
    """Run a study, or go on with it: finished trials are not run again."""
    from raysl.commands import run_study
    from raysl.study.budget import Budget

    if help or file is None:
        _show_help(ctx, file)
        return
    budget = Budget.parse(*budgets or [])
    study = _build(file, arguments, sets, small=small)
    run_study(
        study,
        runs=runs,
        tracking_uri=tracking_uri,
        local=local,
        address=address,
        cpus=cpus,
        concurrent=concurrent,
        budget=budget,
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
    cpus: Annotated[
        int | None, typer.Option("--cpus", min=1, help="CPUs to plan for; default all.")
    ] = None,
    budgets: Budgets = None,
    price_per_hour: Annotated[
        float | None, typer.Option("--price-per-hour", help="Of a device, in any currency.")
    ] = None,
    assume_sd: Annotated[
        float | None, typer.Option(help="Seed sd in points, for the forecast; default 0.6.")
    ] = None,
    slope: Annotated[
        float | None,
        typer.Option(help="Of the difference, in points per doubling of the size; default 2."),
    ] = None,
    small: Small = False,
    help: Help = False,
) -> None:
    """Print the cells, trials and estimated cost of a study without running it."""
    from raysl.plan import show_plan
    from raysl.study.budget import Budget

    if help or file is None:
        _show_help(ctx, file)
        return
    budget = Budget.parse(*budgets or [])
    show_plan(
        _build(file, arguments, sets, small=small),
        local=local,
        cpus=cpus,
        budget=budget,
        price_per_hour=price_per_hour,
        assume_sd=assume_sd,
        slope=slope,
        console=console,
    )


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
        float | None, typer.Option(help="Seed sd in the metric's units, for one seed a cell.")
    ] = None,
    margin: Annotated[
        float, typer.Option(help="How much better the arm must be, in the metric's units.")
    ] = 0.0,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.9,
    metric: Annotated[str, typer.Option(metavar="COLUMN", help="What is compared.")] = "metric",
    size: Annotated[str, typer.Option(metavar="COLUMN", help="The number of images.")] = "size",
    point: Annotated[
        float, typer.Option(help="A point in units of the metric: 1 for %, 0.01 for fractions.")
    ] = 1.0,
    lower_is_better: Annotated[
        bool, typer.Option("--lower-is-better", help="For a loss or an error.")
    ] = False,
    figures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to write figures as PNG.")
    ] = None,
) -> None:
    """Find the threshold in any table of results."""
    from raysl.threshold_table import show_threshold

    show_threshold(
        file,
        arm=arm,
        baseline=baseline,
        assume_sd=assume_sd,
        margin=margin,
        confidence=confidence,
        metric=metric,
        size=size,
        point=point,
        lower_is_better=lower_is_better,
        figures=figures,
        console=console,
    )


@app.command()
def ui(
    runs: Runs = RUNS,
    tracking_uri: TrackingUri = None,
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
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
    from raysl.commands import study_directory, sync_study
    from raysl.mlflow_ui import default_tracking_uri

    uri = tracking_uri or default_tracking_uri(runs)
    sync_study(study_directory(study, runs), uri, console=console)


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="One of them, for all about it.")] = None,
) -> None:
    """List the methods by family with parameters, defaults and sources."""
    from raysl.commands import show_methods

    show_methods(console, name)


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
