"""What Ray adds to a trial: the same tiny trials through Ray, as groups, and in a plain loop.

    python benchmarks/trial_overhead.py [--num-trials 5] [--groups 2] [--quick]

One study of a worker a trial and one of two, each on a Ray of its own, one trial at a time. After
every few trials (a turn) the study waits while this process runs as many in a plain loop. A pair is
the median seconds from one result to the next in both, the first trial apart, with which Ray
starts. The difference is raysl.cluster's TRIAL_SECONDS, and GROUP_SECONDS for trials of two
workers, and is held against its bar. `--num-trials 200 --groups 200 --repeats 1` also shows whether
memory grows: what the trial's processes hold after every 20 trials.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import add_options, append, complete, last_of, origin

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
    """The seconds of each trial in turns of `num_trials`; `between` is called after every turn.

    held_mb: its processes' memory by title, at times.
    """

    def __init__(self, num_trials: int, between: Callable[[], None] = lambda: None) -> None:
        self.num_trials = num_trials
        self.between = between
        self.since = time.perf_counter()
        self.first = math.nan
        self.seconds: list[float] = []
        self.held_mb: list[dict[str, float]] = []

    def started(self, proposal) -> None: ...
    def progress(self, proposal, step, metrics) -> None: ...

    def finished(self, proposal, result) -> None:
        assert result.status == "ok", result.error
        seconds = time.perf_counter() - self.since
        if math.isnan(self.first):
            self.first = seconds
        else:
            self.seconds.append(seconds)
            if len(self.seconds) % LOOK_TRIALS == 0:
                self.held_mb.append(resident_mb())
            if len(self.seconds) % self.num_trials == 0:
                self.between()
        self.since = time.perf_counter()

    @property
    def turns(self) -> list[float]:
        """The median of each turn."""
        return [statistics.median(turn) for turn in batched(self.seconds, self.num_trials)]


def batched(values: list[float], size: int) -> list[list[float]]:
    return [values[i : i + size] for i in range(0, len(values), size)]


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


def run(drive: Callable[[Ledger], None], clock: Clock, *, turns: int, workers: int = 1) -> None:
    """A study of that many turns after its first trial."""
    study = tiny_study(1 + turns * clock.num_trials, workers=workers)
    with tempfile.TemporaryDirectory() as folder:
        drive(Ledger(study, build_planner(study), Path(folder), observers=[clock]))


def beside_a_plain_loop(num_trials: int, *, repeats: int, workers: int) -> tuple[Clock, Clock]:
    """The clocks of a study through Ray and of the plain loop, turn for turn."""
    splits = load_splits(DATA)
    plain = Clock(num_trials)

    def plain_turn() -> None:
        clock = Clock(num_trials)
        run(lambda ledger: run_locally(ledger, splits), clock, turns=1)
        plain.first = clock.first  # of the last turn: nothing starts there
        plain.seconds += clock.seconds
        print(f"  turn {len(plain.turns)} of {repeats}", file=sys.stderr, flush=True)

    through_ray = Clock(num_trials, plain_turn)
    run(
        lambda ledger: run_on_ray(ledger, num_cpus=workers),
        through_ray,
        turns=repeats,
        workers=workers,
    )
    return through_ray, plain


def line_of(
    row: str, seconds: list[float], plain: list[float], *, bar: float, **rest: Any
) -> dict[str, Any]:
    """What each trial takes beyond the plain loop after the same turn, in seconds."""
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


def show(name: str, clock: Clock) -> None:
    """When the first result came, the seconds between the others, and growth in memory."""
    low, median, high = (f(clock.seconds) for f in (min, statistics.median, max))
    print(
        f"{name:12} first result after {clock.first:5.2f} s, then {median:6.3f} s a trial "
        f"({low:.3f}-{high:.3f}, n={len(clock.seconds)})"
    )
    for title in TITLES:
        held = [f"{look[title]:.0f}" for look in clock.held_mb if title in look]
        if len(held) > 1:
            print(f"{'':12} {title} holds {', '.join(held)} MB after every {LOOK_TRIALS} trials")


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
    rows = [
        ("A trial through Ray", 1, arguments.num_trials, TRIAL_BAR_SECONDS),
        ("A trial of 2 workers", 2, arguments.groups, GROUP_BAR_SECONDS),
    ]
    for name, workers, num_trials, bar in rows:
        if not num_trials:
            continue
        through_ray, plain = beside_a_plain_loop(
            num_trials, repeats=arguments.repeats, workers=workers
        )
        show("Ray" if workers == 1 else f"{workers} workers", through_ray)
        show("plain loop", plain)
        rest = origin(torch.device("cpu"), arguments.commit)
        rest["settings"] = {"trials": num_trials}
        row = f"{name}, beyond the plain loop"
        line = line_of(row, through_ray.turns, plain.turns, bar=bar, **rest)
        report(line, arguments.results)
    print(
        f"TRIAL_SECONDS is {TRIAL_SECONDS}, GROUP_SECONDS is {GROUP_SECONDS}, START_SECONDS is "
        f"{START_SECONDS}, with GROUP_START_SECONDS {START_SECONDS + GROUP_START_SECONDS}"
    )


if __name__ == "__main__":
    main()
