"""What a trial leaves behind: metrics, cost and provenance, as one file written last.

Beside it lies which test images were right, since a mean cannot tell noise of seeds from that of
the choice of images.
"""

import io
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeGuard

import numpy as np
from numpy.typing import NDArray

from raysl.config import from_dict, to_dict

RESULT_FILE = "result.json"
METRICS_FILE = "metrics.jsonl"
CORRECT_FILE = "correct.npz"
NUM_IMAGES = "num_images"  # in that file, beside an array for each metric
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


def is_over(stored: TrialResult | None, *, final: bool) -> TypeGuard[TrialResult]:
    """Whether a stored result is all that is asked for; a failed one is tried again."""
    return stored is not None and stored.status != "failed" and (stored.final or not final)


def write_correct(correct: Mapping[str, NDArray[np.bool_]], directory: Path) -> None:
    """Write which test images were right, a bit for each: "linear_top1", ... -> bool [M].

    Nothing is written where no metric says it of an image.
    """
    if not correct:
        return
    (num_images,) = {len(right) for right in correct.values()}
    packed = {name: np.packbits(right) for name, right in correct.items()}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **packed, **{NUM_IMAGES: np.array(num_images)})
    write_atomically(directory / CORRECT_FILE, buffer.getbuffer())


def stored_correct(directory: Path) -> dict[str, NDArray[np.bool_]]:
    """What `write_correct` wrote; empty without the file, which earlier versions did not write."""
    path = directory / CORRECT_FILE
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        num_images = int(stored[NUM_IMAGES])
        return {
            name: np.unpackbits(stored[name], count=num_images).astype(bool)
            for name in stored.files
            if name != NUM_IMAGES
        }


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
