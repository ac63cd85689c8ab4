"""Small studies for tests on Ray, and observers of what happens in them."""

import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from raysl.data.store import load_splits
from raysl.recipe import Recipe
from raysl.result import TrialResult
from raysl.study.ledger import Ledger
from raysl.study.planners import build_planner
from raysl.study.sizes import size_study
from raysl.study.spec import Cell, Study

DIGITS = "sklearn:digits"  # where a test needs images that a good encoder tells apart


@dataclasses.dataclass(frozen=True)
class GoodThenBad:
    """The first trial of the search gets an encoder of some width, all others almost none."""

    def __call__(self, trial: Any, cell: Cell) -> Mapping[str, Any]:
        temperature = trial.suggest_float("method.temperature", 0.1, 1.0)
        width = 16 if trial.number == 0 else 1
        return {"method.temperature": temperature, "encoder.width": width}


def study_of(
    data: Path | str, *, arms=("simclr",), sizes=(16, 32), seeds=2, steps=4, changes=None, **fields
) -> Study:
    splits = load_splits(data)
    changes = {"encoder.width": 8, "duration": f"{steps} steps", **(changes or {})}
    base = Recipe.create(
        "simclr", dataset=splits.digest, pool_size=max(sizes), label_size=30, batch_size=8
    ).with_overrides(changes)
    return size_study(
        splits, name="test", question="?", base=base, arms=arms, baseline=None, sizes=sizes,
        seeds=seeds, **fields,
    )  # fmt: skip


class Watcher:
    """Notes what happens in a study and lets a test act on the progress of a trial."""

    def __init__(self, act: Callable[[Any], None] = lambda proposal: None):
        self.act = act
        self.attempts: list[tuple[int, int]] = []
        self.finishes: list[TrialResult] = []
        self.reports: list[Mapping[str, float]] = []

    def started(self, proposal):
        self.attempts.append((proposal.number, proposal.attempt))

    def progress(self, proposal, step, metrics):
        self.reports.append(metrics)
        self.act(proposal)

    def finished(self, proposal, result):
        self.finishes.append(result)


def ledger_of(study: Study, directory: Path, *observers: Any) -> Ledger:
    return Ledger(study, build_planner(study), directory, observers=observers)


def metrics_of(ledger: Ledger) -> dict[str, Mapping[str, float]]:
    return {digest: result.metrics for digest, result in ledger.results.items()}


def once(action: Callable[[], None], *, number: int) -> Callable[[Any], None]:
    """Do it at the first report of that trial."""
    done = []

    def act(proposal) -> None:
        if proposal.number == number and not done:
            done.append(True)
            action()

    return act


@contextlib.contextmanager
def another_ray() -> Iterator[None]:
    """A Ray of another process on this machine for the length of the block."""
    program = """
import sys
from raysl.cluster.session import session
with session(address=None, num_cpus=1):
    print("up", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield  # leaving the process closes its input, which ends it
