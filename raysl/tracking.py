"""Where a trial's numbers go while it runs: a JSON-lines file, the truth behind every mirror."""

import json
import math
from collections.abc import Mapping
from pathlib import Path


class Jsonl:
    """One JSON object a line: {"step": 10, "train/loss": 1.2}. The file is the truth.

    Several lines of one step are one row. After a resume what is there already is not written
    again, so a file never holds a metric of a step twice. A half-written last line (the process
    was killed) is dropped when the file is opened.
    """

    def __init__(self, path: Path):
        self.path = path
        rows = read_jsonl(path)
        self.last: dict[str, float] = rows[-1] if rows else {"step": -1}
        if path.exists():
            whole = path.with_suffix(".part")
            whole.write_text("".join(json.dumps(row) + "\n" for row in rows))
            whole.replace(path)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        known = self.last if step == self.last["step"] else {"step": step}
        new = {k: v for k, v in metrics.items() if k not in known and math.isfinite(v)}
        if step < self.last["step"] or not new:
            return
        self.last = {**known, **new}
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, **new}) + "\n")


def read_jsonl(path: Path) -> list[dict[str, float]]:
    """The rows of a Jsonl file, a step each; none if it does not exist."""
    rows: list[dict[str, float]] = []
    if not path.exists():
        return rows
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # half-written: nothing follows it
            break
        if rows and rows[-1]["step"] == row["step"]:
            rows[-1] |= row
        else:
            rows.append(row)
    return rows
