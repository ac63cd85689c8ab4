"""What a trial leaves behind: metrics, cost and provenance, as one file written last."""

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from raysl.config import from_dict, to_dict

RESULT_FILE = "result.json"
METRICS_FILE = "metrics.jsonl"
Status = Literal["ok", "failed", "stopped"]


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """One finished trial.

    metrics: "val/linear_top1" in percent, ...; one that was not measured is absent, never 0.
    protocols: the version of each evaluation protocol; numbers of other versions do not mix.
    flags: "collapsed" where the features collapsed.
    cost: seconds, train_seconds, device_seconds, examples, images_per_second, peak_memory_mb.
    status: "stopped" is a trial that a scheduler ended early, with the metrics it had.
    final: whether the test split was used.
    """

    digest: str
    recipe: Mapping[str, Any]
    status: Status
    final: bool
    metrics: Mapping[str, float] = field(default_factory=dict)
    protocols: Mapping[str, int] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    attempts: int = 1


def write_result(result: TrialResult, directory: Path) -> None:
    """Write result.json into the trial's directory; its presence means the trial is over."""
    write_atomically(directory / RESULT_FILE, json.dumps(to_dict(result), indent=1))


def read_result(directory: Path) -> TrialResult | None:
    """The trial's result, or None while there is none."""
    path = directory / RESULT_FILE
    if not path.exists():
        return None
    result: TrialResult = from_dict(TrialResult, json.loads(path.read_text()))
    return result


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file so that readers, and a crash, see the old content or the new, never a half."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
