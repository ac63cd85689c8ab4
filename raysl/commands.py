"""What the commands do: one function each, between the parsing and the parts."""

import contextlib
import dataclasses
import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from raysl.compiled import require_compiler
from raysl.data.images import Splits
from raysl.data.store import load_splits
from raysl.methods import METHODS
from raysl.plan import is_adaptive, precision_text, study_device, timed_trials
from raysl.progress import ProgressDisplay
from raysl.recipe import method_class
from raysl.result import write_atomically
from raysl.study.budget import Budget, Capped
from raysl.study.ledger import STOP_FILE, STUDY_FILE, Ledger, check_disk, open_study, read_study
from raysl.study.planners import SearchThenConfirm, build_planner
from raysl.study.spec import Proposal, Study

TRAINS_ON = {
    "pool": "the unlabelled pool",
    "labels": "the labelled images",
    "source": "another labelled data set",
    "nothing": "nothing",
}


def run_study(
    study: Study,
    *,
    runs: Path,
    tracking_uri: str | None,
    local: bool,
    address: str | None,
    cpus: int | None,
    concurrent: int | None,
    budget: Budget,
    command: str,
    console: Console,
) -> None:
    """Run what is missing of a study within the budget, then write and show its report."""
    from raysl.mlflow_mirror import Mirror
    from raysl.mlflow_ui import check_tracking_uri, default_tracking_uri

    uri = check_tracking_uri(tracking_uri or default_tracking_uri(runs))
    if study.scheduler and local:
        raise ValueError("Pruning runs through Ray Tune; leave out --local.")
    study.check_workers()
    if study.base.compile and not address:
        require_compiler(study_device(study.resources))
    splits = load_splits(study.data)
    planner = capped_planner(study, splits, budget)
    check_disk(study, planner, runs)
    slow = None if address else precision_text(study, study_device(study.resources))
    if slow is not None:
        console.print(slow, highlight=False, soft_wrap=True)
    with open_study(study, runs, command=command) as directory:
        mirror = Mirror(directory, uri)
        display = ProgressDisplay(study, planner, console)
        ledger = Ledger(study, planner, directory, observers=[display, mirror])
        for result in ledger.results.values():
            display.reused(result)
        if not ledger.finished:
            try:
                with contextlib.closing(mirror), display:
                    _execute(ledger, splits, local, address, cpus, concurrent)
            except KeyboardInterrupt:
                console.print(
                    f"Interrupted; what was done is kept in {directory}. Go on with:\n  {command}",
                    highlight=False,
                    soft_wrap=True,
                )
                raise
        if isinstance(planner.inner, SearchThenConfirm):
            importance = json.dumps(planner.inner.search.importance(), indent=1)
            write_atomically(directory / "importance.json", importance)
        reason = planner.stop_reason
        write_atomically(directory / STOP_FILE, json.dumps({"reason": reason}))
        if reason is not None:
            console.print(reason, highlight=False, soft_wrap=True)
        show_report(directory, console=console)
        mirror.report(directory)
    store = f" --tracking-uri {tracking_uri}" if tracking_uri else ""
    if mirror.behind:
        console.print(
            f"MLflow misses something; bring it up to date with: raysl sync {study.name} "
            f"--runs {runs}{store}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"Open MLflow with: raysl ui --runs {runs}{store}", highlight=False, soft_wrap=True
    )


def capped_planner(study: Study, splits: Splits, budget: Budget) -> Capped:
    """The study's planner under its budget; ValueError where not even the first trial fits."""
    device_seconds = timed_trials(study, splits, device=study_device(study.resources))

    def seconds_of(proposal: Proposal) -> float:
        return device_seconds(proposal.recipe)

    if budget.device_hours is not None:
        if study.resources.gpus_per_worker and not torch.cuda.is_available():
            raise ValueError(
                "A budget of device-hours needs trials timed on a GPU, and this machine has none; "
                "run the command where there is one, or give --budget trials=... instead."
            )
        for cell in study.cells():  # timed now, not while trials use the machine
            device_seconds(study.recipe(cell, {}, study.confirm_seeds[0]))
        first = Capped(build_planner(study, budget), budget, seconds_of)
        if first.ask() is None and first.stopped is not None:
            raise ValueError(f"{first.stopped[:-1]}; give it more.")
    return Capped(build_planner(study, budget), budget, seconds_of, adaptive=is_adaptive(study))


def _execute(
    ledger: Ledger,
    splits: Splits,
    local: bool,
    address: str | None,
    cpus: int | None,
    concurrent: int | None,
) -> None:
    if not local:
        from raysl.cluster import run_on_ray

        run_on_ray(ledger, address=address, num_cpus=cpus, max_concurrent=concurrent)
        return
    from raysl.study.local import run_locally

    run_locally(ledger, splits, device=study_device(ledger.study.resources))


def study_directory(study: str, runs: Path) -> Path:
    """Where a study's files are, from its name or its folder."""
    given = Path(study)
    return given if (given / STUDY_FILE).exists() else runs / study


def show_report(directory: Path, *, console: Console) -> None:
    """Write the report from the stored results; print its table, its answer and its path."""
    from raysl.analysis.report import write_report

    read_study(directory)
    report = write_report(directory)
    if report.content["cells"]:
        console.print(curve_table(report.content))
    console.print(report.answer, style="bold", highlight=False, soft_wrap=True)
    console.print(f"Report: {report.page}", highlight=False, soft_wrap=True)


def sync_study(directory: Path, tracking_uri: str, *, console: Console) -> None:
    """Bring MLflow up to date from the study's files, and say what that took."""
    from raysl.mlflow_mirror import sync

    done = sync(directory, tracking_uri)
    text = (
        f"MLflow is up to date; runs created: {done.runs_created}, updated: {done.runs_updated}, "
        f"unchanged: {done.runs_unchanged}."
    )
    if done.trials_unfinished:
        text += f" Trials without a result, left to whoever runs them: {done.trials_unfinished}."
    console.print(text, highlight=False, soft_wrap=True)


def show_methods(console: Console, name: str | None = None) -> None:
    """Print every method by family, or all that there is to know of one."""
    if name is not None:
        _show_method(name, console)
        return
    for family in dict.fromkeys(method.family for method in METHODS.values()):
        table = Table("method", "encoders", "parameters", "source", box=None, pad_edge=False)
        table.columns[0].no_wrap = True
        rules: dict[str, list[str]] = {}
        for key, method in METHODS.items():
            if method.family == family:
                fields = dataclasses.fields(method.Config)
                settings = [f"{f.name}={_value(_default(f))}" for f in fields]
                table.add_row(key, method.encoders, escape(" ".join(settings)), method.paper)
                for field, rule in method.scaling.items():
                    rules.setdefault(f"{field}: {rule}", []).append(key)
        console.print(f"[bold]{family}[/bold]")
        _print_table(table, console)
        for rule, names in rules.items():
            plain = escape(f"  {', '.join(names)}  {rule}")
            console.print(plain, highlight=False, soft_wrap=True)
        console.print()
    console.print(
        "A parameter of none follows from the images, the batch or the encoder by the rule below "
        "its table. `raysl methods NAME` says what a method does.",
        highlight=False,
        soft_wrap=True,
    )


def _show_method(name: str, console: Console) -> None:
    """Print a method's own account, then its parameters and defaults as they are typed."""
    method = method_class(name)
    account = inspect.getdoc(sys.modules[method.__module__]) or ""
    plain: dict[str, Any] = {"highlight": False, "markup": False, "soft_wrap": True}
    console.print(f"{name}: {method.__doc__}", style="bold", **plain)
    console.print(f"\n{account}\n", **plain)
    encoder = method.encoder_config
    default = f"{encoder.name}, pool={encoder.pool}" if encoder.pool else encoder.name
    facts = {
        "family": method.family,
        "source": method.paper,
        "trains on": TRAINS_ON[method.trains_on],
        "encoders": f"{method.encoders}; by default {default}",
        "views": f"{method.views.num_views} + {method.views.num_local_views} local",
        "optimiser": f"{method.optim.name} lr={method.optim.lr:g} "
        f"weight_decay={method.optim.weight_decay:g}",
        "early stopping": "yes" if method.has_validation_loss else "no, it has no validation loss",
    }
    for fact, text in facts.items():
        console.print(f"{fact}: {text}", **plain)
    fields = dataclasses.fields(method.Config)
    if fields:
        console.print(f"\n{inspect.getdoc(method.Config)}\n", **plain)
    for field in fields:
        rule = method.scaling.get(field.name)
        text = f"method.{field.name} = {_value(_default(field))}"
        console.print(text + (f"  ({rule})" if rule else ""), **plain)


def _default(field: "dataclasses.Field[Any]") -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _value(value: Any) -> str:
    """A value as it is typed on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(_value, value))
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _print_table(table: Table, console: Console) -> None:
    """Fitted to a terminal; a line for each row where the output goes elsewhere."""
    if console.is_terminal:
        console.print(table, highlight=False)
    else:
        wide = Console(file=console.file, width=10_000, highlight=False)
        wide.print(table)


def import_store(source: str, destination: Path, *, console: Console, **options: Any) -> None:
    """Import with a progress line, then say what was made."""
    from raysl.data.importer import import_images

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("importing", total=None)
        manifest = import_images(
            source,
            destination,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            **options,
        )
    if manifest["rejected"]:
        console.print(f"{manifest['rejected']} images could not be read: see rejected.csv")
    show_store(destination, verify=False, sheet=None, console=console)


def show_store(store: Path, *, verify: bool, sheet: Path | None, console: Console) -> None:
    """Print what a store holds and draw its contact sheet."""
    from raysl.data.info import contact_sheet, store_info

    for name, value in store_info(store, verify=verify).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if name == "licence" and text:
            text = f"{text.splitlines()[0]} ... (whole in the manifest)"
        console.print(f"{name}: {text}", highlight=False, markup=False, soft_wrap=True)
    path = sheet or store / "contact_sheet.png"
    contact_sheet(load_splits(store).pool, path)
    console.print(f"contact sheet: {path}", highlight=False, soft_wrap=True)


def curve_table(content: Mapping[str, Any]) -> Table:
    """The report's cells for the terminal: mean and 90 % interval of every test metric."""
    metrics = content["metrics"]
    axes = list(content["cells"][0]["cell"])
    table = Table(*axes, "seeds", *metrics, box=None)
    for cell in content["cells"]:
        row = [f"{v:,}" if isinstance(v, int) else str(v or "any") for v in cell["cell"].values()]
        row.append(str(cell["num_ok"]))
        for metric in metrics:
            found = cell["metrics"].get(metric)
            text = "-" if found is None else f"{found['mean']:.1f}"
            if found is not None and found["low"] is not None:
                text += f" ± {found['high'] - found['mean']:.1f}"
            row.append(text)
        table.add_row(*row)
    return table
