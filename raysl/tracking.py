"""Where a trial's numbers go while it runs: a JSON-lines file always, anything else beside it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Tracker(Protocol):
    """Receives the metrics of one trial; `step` is the number of finished updates."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...


class Jsonl:
    """One JSON object a line: {"step": 10, "train/loss": 1.2}. The file is the truth.

    After a resume, steps up to the last line's are not written again, so a file never holds a
    step twice. A half-written last line (the process was killed) is dropped when opened.
    """

    def __init__(self, path: Path):
        self.path = path
        rows = read_jsonl(path)
        self.last_step = rows[-1]["step"] if rows else -1
        if path.exists():
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if step <= self.last_step:
            return
        self.last_step = step
        row = {"step": step} | {k: v for k, v in metrics.items() if math.isfinite(v)}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


class Fanout:
    """Passes everything on to several trackers, in order."""

    def __init__(self, *trackers: Tracker):
        self.trackers = trackers

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.log(step, metrics)


def read_jsonl(path: Path) -> list[dict[str, float]]:
    """The rows of a Jsonl file; none if it does not exist; stops at a half-written line."""
    rows: list[dict[str, float]] = []
    if not path.exists():
        return rows
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
