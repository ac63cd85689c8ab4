"""What the speed benchmarks share: alternating runs, ratios with their range, lines to compare.

A candidate is a function of a number of steps that returns the seconds they took, warm-up apart.
Candidates take turns, in another order each round, so that a busy moment hits all of them; each
round gives one ratio. A row is one line of JSON: the median of the ratios, their lowest and
highest, the medians of both rates, and where they come from.
"""

import argparse
import contextlib
import datetime
import json
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from raysl import provenance
from raysl.data.images import Images
from raysl.recipe import Recipe
from raysl.signals import StopTrial
from raysl.state import TrainState, initial_state
from raysl.train import train

RESULTS = Path(__file__).parent / "results" / "speed.jsonl"
REPEATS = 5
SLICE_SECONDS = {"cpu": 2.5, "cuda": 1.0}  # a GPU, used by no one else, keeps its pace
QUICK_REPEATS = 2
QUICK_SECONDS = 0.1
# Of every turn of ours; on a GPU three plain updates, then one that records a graph.
WARMUP_STEPS = {"cpu": 2, "cuda": 6}

Run = Callable[[int], float]  # so many steps -> the seconds that they took


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of every speed benchmark."""
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, for smoke tests")
    parser.add_argument("--repeats", type=int, help=f"rounds of all candidates ({REPEATS})")
    parser.add_argument("--seconds", type=float, help=f"of each turn, about ({SLICE_SECONDS})")
    parser.add_argument("--results", type=Path, help="JSON lines; quick runs keep none without it")
    parser.add_argument("--commit", help="of the code, where there is no git history")


def complete(arguments: argparse.Namespace) -> argparse.Namespace:
    """The options with what --quick, or its absence, means for those not given."""
    quick = arguments.quick
    arguments.device = torch.device(arguments.device)
    arguments.repeats = arguments.repeats or (QUICK_REPEATS if quick else REPEATS)
    arguments.seconds = arguments.seconds or (
        QUICK_SECONDS if quick else SLICE_SECONDS[arguments.device.type]
    )
    if arguments.results is None and not quick:
        arguments.results = RESULTS
    return arguments


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def num_steps_for(run: Run, seconds: float, *, multiple: int = 1) -> int:
    """How many steps take about `seconds`, a multiple of `multiple`; warms the candidate up."""
    run(multiple)
    num_steps = multiple
    while (taken := run(num_steps)) < seconds / 5:  # too short to tell
        num_steps *= 5
    return max(1, round(seconds / taken * num_steps / multiple)) * multiple


def alternate(runs: Mapping[str, tuple[Run, int]], *, repeats: int) -> dict[str, list[float]]:
    """Steps per second of every candidate (run, steps a turn), one of each per round."""
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(repeats):
        for name in list(runs) if number % 2 == 0 else reversed(list(runs)):
            run, num_steps = runs[name]
            rates[name].append(num_steps / run(num_steps))
            text = f"  round {number + 1} of {repeats}: {name}, {rates[name][-1]:.4g} steps/s"
            print(text, file=sys.stderr, flush=True)  # what a run that is cut off had found
    return rates


def device_name(device: torch.device) -> str:
    """The model of the GPU, or that of the processor with the instructions PyTorch uses.

    A cloud's machines may name their processors alike and differ in these by a factor of four.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = cpu_info().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    vectors = "AVX512-BF16" if has_bfloat16() else torch.backends.cpu.get_cpu_capability()
    return f"{names[0] if names else os.uname().machine}, {vectors}"


def cpu_info() -> str:
    """What Linux says of the processor; nothing elsewhere."""
    info = Path("/proc/cpuinfo")
    return info.read_text() if info.exists() else ""


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 by itself."""
    return "avx512_bf16" in cpu_info()


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def best_precision(device: torch.device) -> str:
    """bfloat16 where the device multiplies it, which needs AVX512-BF16 of a processor."""
    return "bfloat16" if device.type == "cuda" or has_bfloat16() else "float32"


def line_of(
    row: str,
    ours: list[float],
    theirs: list[float],
    *,
    unit: str,
    bar: float,
    device: torch.device,
    settings: Mapping[str, Any],
    commit: str | None = None,
) -> dict[str, Any]:
    """One row of the table from paired rates: ratio of each pair, then medians."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {
        "row": row,
        "ratio": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "ours": statistics.median(ours),
        "theirs": statistics.median(theirs),
        "unit": unit,
        "bar": bar,
        "pairs": len(ratios),
        **origin(device, commit),
        "settings": json.loads(json.dumps(settings)),  # as it will be read
    }


def origin(device: torch.device, commit: str | None = None) -> dict[str, Any]:
    """Where and when a line was measured; `commit` is what --commit says."""
    return {
        "device": device_name(device),
        "cores": num_cores(),
        "torch": torch.__version__,
        "commit": commit or provenance.commit(),
        "date": datetime.date.today().isoformat(),
    }


def record(line: Mapping[str, Any], results: Path | None) -> None:
    """Print the row and its change since the last one on the same device; append it."""
    print(shown(line))
    if results is None:
        return
    previous = last_of(line["row"], line["device"], results)
    if previous is not None:
        change = 100 * (line["ratio"] / previous["ratio"] - 1)
        print(
            f"  {change:+.1f} % since {previous['date']} at {previous['commit']} "
            f"({previous['ratio']:.2f}){'' if same(line, previous) else ', other settings'}"
        )
    append(line, results)


def append(line: Mapping[str, Any], results: Path) -> None:
    """Add a line to a file of results."""
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")


def read(results: Path) -> list[dict[str, Any]]:
    """The lines of a file of results; none where there is no file."""
    return (
        [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    )


def say_taken(lines: Iterable[Mapping[str, Any]], results: Path) -> None:
    """Print how many trials are not run because their lines are in the file, and of what code."""
    commits = Counter(str(line["commit"]) for line in lines)
    counts = ", ".join(f"{number} of commit {name}" for name, number in commits.items())
    print(f"{commits.total()} trials taken from {results}{': ' if counts else ''}{counts}")


def shown(line: Mapping[str, Any]) -> str:
    """One line of text; absolute rates only of a GPU, where they can be repeated."""
    verdict = "reached" if line["ratio"] >= line["bar"] else "missed"
    text = (
        f"{line['row']}: {line['ratio']:.2f} ({line['low']:.2f} to {line['high']:.2f} in "
        f"{line['pairs']} pairs), bar {line['bar']:g} {verdict}"
    )
    if line["settings"].get("device_type") == "cuda":
        text += f"; {line['ours']:,.0f} against {line['theirs']:,.0f} {line['unit']}"
    return text


def last_of(row: str, device: str, results: Path) -> dict[str, Any] | None:
    """The latest line of that row on that device; None before the first."""
    found = [line for line in read(results) if (line["row"], line["device"]) == (row, device)]
    return found[-1] if found else None


def same(line: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two lines were measured with the same settings, cores and torch."""
    return all(line[name] == other[name] for name in ("settings", "cores", "torch"))


class Stopwatch:
    """Seconds between two steps of a loop that calls `step()` after each, warm-up left out.

    On a GPU it waits for the device at these two steps only, so that the host may run ahead.
    """

    def __init__(self, num_steps: int, *, warmup: int, device: torch.device):
        self.marks = (warmup, warmup + num_steps)
        self.device = device
        self.done = 0
        self.moments: list[float] = []

    def step(self) -> bool:
        """Count one step; True after the last."""
        self.done += 1
        if self.done in self.marks:
            synchronise(self.device)
            self.moments.append(time.perf_counter())
        return self.finished

    @property
    def finished(self) -> bool:
        return len(self.moments) == 2

    @property
    def seconds(self) -> float:
        return self.moments[1] - self.moments[0]


class Training:
    """raysl.train in turns: each call goes on from where the last one ended."""

    def __init__(self, recipe: Recipe, images: Images, device: torch.device):
        self.recipe = recipe
        self.images = images
        self.device = device
        self.state = initial_state(recipe, images, device=device)

    def run(self, num_steps: int) -> float:
        """Seconds of so many whole steps of the loop."""
        warmup = WARMUP_STEPS[self.device.type]
        watch = Stopwatch(num_steps, warmup=warmup, device=self.device)

        def report(state: TrainState, metrics: Mapping[str, float]) -> None:
            if watch.finished:
                raise StopTrial

        with contextlib.suppress(StopTrial):
            train(
                self.recipe,
                self.images,
                device=self.device,
                report=report,
                state=self.state,
                interrupted=watch.step,  # asked after every update; true ends in a report
            )
        return watch.seconds
