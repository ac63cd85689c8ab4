"""What Ray adds to a trial: the same tiny trials in a plain loop, through Ray, and as groups.

    python benchmarks/trial_overhead.py [--groups 4]

Median seconds from one result to the next, from the second trial on, one trial at a time. The
difference to the plain loop is raysl.cluster's TRIAL_SECONDS, and GROUP_SECONDS for groups.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from pathlib import Path

from raysl.cluster import GROUP_SECONDS, START_SECONDS, TRIAL_SECONDS, run_on_ray
from raysl.data.store import load_splits
from raysl.recipe import Recipe
from raysl.study.ledger import Ledger
from raysl.study.local import run_locally
from raysl.study.planners import build_planner
from raysl.study.sizes import size_study
from raysl.study.spec import Study

DATA = "sklearn:digits"
NUM_TRIALS = 11  # so that medians are of 10


class Clock:
    """When each trial's result was recorded."""

    def __init__(self) -> None:
        self.started_at = time.perf_counter()
        self.finished_at: list[float] = []

    def started(self, proposal) -> None: ...
    def progress(self, proposal, step, metrics) -> None: ...

    def finished(self, proposal, result) -> None:
        assert result.status == "ok", result.error
        self.finished_at.append(time.perf_counter())

    @property
    def first(self) -> float:
        return self.finished_at[0] - self.started_at

    @property
    def between(self) -> list[float]:
        times = self.finished_at
        return [b - a for a, b in itertools.pairwise(times)]


def tiny_study(num_trials: int, *, workers: int = 1) -> Study:
    """Trials of a fraction of a second, equal but for their seeds."""
    splits = load_splits(DATA)
    base = Recipe.create(
        "simclr", dataset=splits.digest, pool_size=64, label_size=50, batch_size=16
    ).with_overrides({"duration": "10 steps", "encoder.width": 8})
    return size_study(
        splits, name="overhead", question="?", base=base, arms=["simclr"], baseline=None,
        sizes=[64], seeds=num_trials, workers=workers,
    )  # fmt: skip


def measure(study: Study, run) -> Clock:
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock()
        run(Ledger(study, build_planner(study), Path(folder), observers=[clock]))
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=4, help="two-worker trials; 0: none")
    num_groups = parser.parse_args().groups
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} CPUs, load {load:.1f} before the start (quiet: below 0.5)")

    study = tiny_study(NUM_TRIALS)
    plain = measure(study, lambda ledger: run_locally(ledger, load_splits(DATA)))
    on_ray = measure(study, lambda ledger: run_on_ray(ledger, num_cpus=1))
    alone = statistics.median(plain.between)
    report("plain loop", plain, alone)
    report("Ray", on_ray, alone)
    print(f"{'':12} TRIAL_SECONDS is {TRIAL_SECONDS}, START_SECONDS is {START_SECONDS}")
    if num_groups:
        two = tiny_study(num_groups, workers=2)
        report("2 workers", measure(two, lambda ledger: run_on_ray(ledger, num_cpus=2)), alone)
        print(f"{'':12} GROUP_SECONDS is {GROUP_SECONDS}")


def report(name: str, clock: Clock, alone: float) -> None:
    """One line: the first result, the median from the second on, and what it adds."""
    median = statistics.median(clock.between)
    low, high = min(clock.between), max(clock.between)
    print(
        f"{name:12} first result after {clock.first:5.2f} s, then {median:6.3f} s a trial "
        f"({low:.3f}-{high:.3f}, n={len(clock.between)}), overhead {median - alone:+.3f} s"
    )


if __name__ == "__main__":
    main()
