"""What Ray adds to a trial: the same tiny trials in a plain loop, through Ray, and as groups.

    python benchmarks/trial_overhead.py [--num-trials 5] [--groups 2] [--quick]

A turn is a study, one trial at a time: its median seconds from one result to the next, the first
trial apart, with which Ray starts. The three take turns; the difference to the plain loop of the
same round is raysl.cluster's TRIAL_SECONDS, and GROUP_SECONDS for trials of two workers, and is
held against its bar. `--num-trials 200 --groups 200 --repeats 1` also shows whether memory grows:
what the trial's processes hold after every 20 trials.
"""

import argparse
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import add_options, alternate, append, complete, last_of, origin

from raysl.cluster import (
    GROUP_SECONDS,
    GROUP_START_SECONDS,
    START_SECONDS,
    TRIAL_SECONDS,
    run_on_ray,
)
from raysl.data.store import load_splits
from raysl.recipe import Recipe
from raysl.study.ledger import Ledger
from raysl.study.local import run_locally
from raysl.study.planners import build_planner
from raysl.study.sizes import size_study
from raysl.study.spec import Study

DATA = "sklearn:digits"
NUM_TRIALS, NUM_GROUPS = 5, 2  # of a turn, after its first
LOOK_TRIALS = 20  # between two looks at memory, which take time themselves
TRIAL_BAR_SECONDS = 1.0  # a trial of one worker
GROUP_BAR_SECONDS = 2.0  # a trial of several workers
TITLES = ("ray::Trial", "ray::RayTrainWorker")  # of the processes that trials run in


class Clock:
    """When each trial's result was recorded; held_mb: its processes' memory by title, at times."""

    def __init__(self) -> None:
        self.started_at = time.perf_counter()
        self.finished_at: list[float] = []
        self.held_mb: list[dict[str, float]] = []

    def started(self, proposal) -> None: ...
    def progress(self, proposal, step, metrics) -> None: ...

    def finished(self, proposal, result) -> None:
        assert result.status == "ok", result.error
        self.finished_at.append(time.perf_counter())
        if len(self.finished_at) % LOOK_TRIALS == 0:
            self.held_mb.append(resident_mb())

    @property
    def first(self) -> float:
        return self.finished_at[0] - self.started_at

    @property
    def between(self) -> list[float]:
        times = self.finished_at
        return [b - a for a, b in itertools.pairwise(times)]


def resident_mb() -> dict[str, float]:
    """What the processes of trials below this one hold in memory, in MB: the largest of a title."""
    found: dict[str, float] = {}
    for pid in descendants(os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text()
            num_pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue  # it has ended meanwhile
        for title in TITLES:
            if command.startswith(title):
                megabytes = num_pages * os.sysconf("SC_PAGE_SIZE") / 2**20
                found[title] = max(found.get(title, 0.0), megabytes)
    return found


def descendants(pid: int) -> list[int]:
    """Every process below `pid`, by Linux's /proc; none elsewhere."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found[1:]


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


class Turns:
    """Studies of one kind, one a turn."""

    def __init__(self, drive: Callable[[Ledger], None], *, workers: int = 1):
        self.drive = drive
        self.workers = workers
        self.clocks: list[Clock] = []

    def run(self, num_trials: int) -> float:
        """So many times the median seconds of a trial, of so many after the first."""
        study = tiny_study(num_trials + 1, workers=self.workers)
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            self.drive(Ledger(study, build_planner(study), Path(folder), observers=[clock]))
        self.clocks.append(clock)
        return num_trials * statistics.median(clock.between)


def line_of(
    row: str, seconds: list[float], plain: list[float], *, bar: float, **rest: Any
) -> dict[str, Any]:
    """What each trial takes beyond the plain loop of the same round, in seconds."""
    added = [a - b for a, b in zip(seconds, plain, strict=True)]
    return {
        "row": row,
        "added": statistics.median(added),
        "low": min(added),
        "high": max(added),
        "ours": statistics.median(seconds),
        "theirs": statistics.median(plain),
        "unit": "s",
        "bar": bar,
        "pairs": len(added),
        **rest,
    }


def report(line: dict[str, Any], results: Path | None) -> None:
    """Print the row and the last one on the same device; append it."""
    verdict = "reached" if line["added"] <= line["bar"] else "missed"
    print(
        f"{line['row']}: {line['added']:+.3f} s ({line['low']:+.3f} to {line['high']:+.3f} in "
        f"{line['pairs']} pairs), bar at most {line['bar']:g} s {verdict}"
    )
    if results is None:
        return
    if previous := last_of(line["row"], line["device"], results):
        print(f"  {previous['added']:+.3f} s on {previous['date']} at {previous['commit']}")
    append(line, results)


def show(name: str, clocks: list[Clock]) -> None:
    """When first results came, the seconds between the others, and growth in memory."""
    first = statistics.median(clock.first for clock in clocks)
    between = [seconds for clock in clocks for seconds in clock.between]
    print(
        f"{name:12} first result after {first:5.2f} s, then {statistics.median(between):6.3f} s a "
        f"trial ({min(between):.3f}-{max(between):.3f}, n={len(between)})"
    )
    for title in TITLES:
        for clock in clocks:
            held = [f"{look[title]:.0f}" for look in clock.held_mb if title in look]
            if len(held) > 1:
                print(
                    f"{'':12} {title} holds {', '.join(held)} MB after every {LOOK_TRIALS} trials"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--num-trials", type=int, default=NUM_TRIALS, help="of a turn")
    parser.add_argument("--groups", type=int, default=NUM_GROUPS, help="of two workers; 0: none")
    arguments = complete(parser.parse_args())
    if arguments.quick:
        arguments.num_trials, arguments.groups = 1, min(arguments.groups, 1)
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} CPUs, load {load:.1f} before the start (quiet: below 0.5)")

    modes = {
        "plain loop": Turns(lambda ledger: run_locally(ledger, load_splits(DATA))),
        "Ray": Turns(lambda ledger: run_on_ray(ledger, num_cpus=1)),
    }
    if arguments.groups:
        modes["2 workers"] = Turns(lambda ledger: run_on_ray(ledger, num_cpus=2), workers=2)
    turns = {
        name: (mode.run, arguments.num_trials if mode.workers == 1 else arguments.groups)
        for name, mode in modes.items()
    }
    rates = alternate(turns, repeats=arguments.repeats)
    for name, mode in modes.items():
        show(name, mode.clocks)
    print(
        f"TRIAL_SECONDS is {TRIAL_SECONDS}, GROUP_SECONDS is {GROUP_SECONDS}, START_SECONDS is "
        f"{START_SECONDS}, with GROUP_START_SECONDS {START_SECONDS + GROUP_START_SECONDS}"
    )
    seconds = {name: [1 / rate for rate in found] for name, found in rates.items()}
    rows = {
        "Ray": ("A trial through Ray, beyond the plain loop", TRIAL_BAR_SECONDS),
        "2 workers": ("A trial of 2 workers, beyond the plain loop", GROUP_BAR_SECONDS),
    }
    for name, (row, bar) in rows.items():
        if name in seconds:
            rest = origin(torch.device("cpu"), arguments.commit)
            rest["settings"] = {"trials": turns[name][1]}
            line = line_of(row, seconds[name], seconds["plain loop"], bar=bar, **rest)
            report(line, arguments.results)


if __name__ == "__main__":
    main()
