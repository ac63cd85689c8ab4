"""What the commands do: one function each, between the parsing and the parts."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from raysl.data.images import Splits
from raysl.data.store import load_splits
from raysl.methods import METHODS
from raysl.progress import ProgressDisplay, duration
from raysl.result import write_atomically
from raysl.study.ledger import STUDY_FILE, Ledger, check_disk, open_study, read_study
from raysl.study.planners import build_planner
from raysl.study.spec import Study


def run_study(
    study: Study,
    *,
    runs: Path,
    tracking_uri: str | None,
    local: bool,
    address: str | None,
    cpus: int | None,
    concurrent: int | None,
    command: str,
    console: Console,
) -> None:
    """Run what is missing of a study, then write and show its report."""
    from raysl.mlflow_mirror import Mirror
    from raysl.mlflow_ui import check_tracking_uri, default_tracking_uri

    uri = check_tracking_uri(tracking_uri or default_tracking_uri(runs))
    if study.scheduler and local:
        raise ValueError("Pruning runs through Ray Tune; leave out --local.")
    study.check_workers()
    splits = load_splits(study.data)
    planner = build_planner(study)
    check_disk(study, planner, runs)
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
        if study.space is not None:
            _write_importance(ledger, directory)
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

    run_locally(ledger, splits, device="cuda" if torch.cuda.is_available() else "cpu")


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


def show_plan(study: Study, *, local: bool, cpus: int | None, console: Console) -> None:
    """Print every cell with its trials and what they will cost on this machine."""
    from raysl.cluster import GROUP_SECONDS, START_SECONDS, TRIAL_SECONDS
    from raysl.study.estimate import estimate

    study.check_workers()
    splits = load_splits(study.data)
    resources = study.resources
    device = "cuda" if torch.cuda.is_available() and resources.gpus_per_worker else "cpu"
    if device == "cpu":
        torch.set_num_threads(resources.cpus_per_worker)
    overhead = 0.0 if local else GROUP_SECONDS if resources.workers > 1 else TRIAL_SECONDS
    plans = estimate(study, build_planner(study), splits, device=device, overhead_seconds=overhead)
    table = Table("cell", "trials", "updates", "images", "seconds a trial", box=None)
    for plan in plans:
        cell = " ".join(str(v) for v in plan.cell.values() if v is not None)
        table.add_row(
            cell,
            str(plan.num_trials),
            f"{plan.steps:,}",
            f"{plan.examples:,}",
            f"{plan.seconds:,.0f}",
        )
    console.print(study.question, style="bold", highlight=False)
    console.print(table)
    total = sum(plan.total_seconds for plan in plans)
    num_cpus = cpus or len(os.sched_getaffinity(0))
    at_once = 1 if local else max(1, num_cpus // (resources.workers * resources.cpus_per_worker))
    wall = total / at_once + (0 if local else START_SECONDS)
    console.print(
        f"{sum(plan.num_trials for plan in plans)} trials, about {duration(total)} of work, "
        f"{at_once} at a time: about {duration(wall)} on this machine's {device}. Timed over a few "
        "updates; early stopping makes it less, trials that share a machine make it more.",
        highlight=False,
    )


def show_threshold(
    file: Path,
    *,
    arm: str | None,
    baseline: str | None,
    assume_sd: float | None,
    console: Console,
) -> None:
    """Print the curve of a table and the threshold between two of its arms."""
    from raysl.analysis.scores import choose_arms, read_table
    from raysl.analysis.threshold import find_threshold

    scores = read_table(file)
    arm, baseline = choose_arms(scores, arm=arm, baseline=baseline)
    found = find_threshold(scores, arm=arm, baseline=baseline, assume_sd=assume_sd)
    table = Table("size", f"{arm} - {baseline}", "90 % interval", box=None)
    for difference in found.differences:
        interval = "-"
        if difference.low is not None and difference.high is not None:
            interval = f"{difference.low:+.2f} to {difference.high:+.2f}"
        table.add_row(f"{difference.size:,.0f}", f"{difference.mean:+.2f}", interval)
    console.print(table)
    console.print(found.sentence(), style="bold", highlight=False, soft_wrap=True)
    for note in found.notes:
        console.print(note, highlight=False, soft_wrap=True)


def show_methods(console: Console) -> None:
    """Print every method: source, what it trains on, parameters with defaults."""
    for name, method in METHODS.items():
        console.print(f"[bold]{name}[/bold]  {method.__doc__}", highlight=False)
        console.print(f"    source: {method.paper}", highlight=False)
        console.print(f"    trains on: {method.trains_on}", highlight=False)
        for field in dataclasses.fields(method.Config):
            console.print(f"    method.{field.name} = {field.default}", highlight=False)
        console.print(
            f"    optim: {method.optim.name} lr={method.optim.lr:g} "
            f"weight_decay={method.optim.weight_decay:g}",
            highlight=False,
        )


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


def _write_importance(ledger: Ledger, directory: Path) -> None:
    from raysl.study.planners import SearchThenConfirm

    assert isinstance(ledger.planner, SearchThenConfirm)
    content = json.dumps(ledger.planner.search.importance(), indent=1)
    write_atomically(directory / "importance.json", content)
