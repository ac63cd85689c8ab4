"""What the commands do: one function each, between the parsing and the parts."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from raysl.data.images import Splits
from raysl.data.store import load_splits
from raysl.methods import METHODS
from raysl.progress import ProgressDisplay, duration
from raysl.result import TrialResult
from raysl.study.ledger import STUDY_FILE, Ledger, Observer, open_study, read_study
from raysl.study.planners import build_planner
from raysl.study.spec import Proposal, Study


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
    from raysl.mlflow_tracker import Mirror, default_tracking_uri

    if study.scheduler and local:
        raise ValueError("Pruning runs through Ray Tune; leave out --local.")
    splits = load_splits(study.data)
    with open_study(study, runs, command=command) as directory:
        mirror = Mirror(directory, tracking_uri or default_tracking_uri(runs))
        planner = build_planner(study)
        display = ProgressDisplay(study, planner, console)
        ledger = Ledger(study, planner, directory, observers=[display, mirror])
        for result in ledger.results.values():
            display.reused(result)
        if not ledger.finished:
            try:
                with display:
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
