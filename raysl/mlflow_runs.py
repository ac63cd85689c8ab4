"""What MLflow is to hold of a study, as values made from the study's files alone."""

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from raysl.recipe import flat
from raysl.result import METRICS_FILE, RESULT_FILE, TrialResult, read_result
from raysl.study.ledger import PROPOSAL_FILE, describe_proposal
from raysl.study.spec import Proposal
from raysl.tracking import read_jsonl

Kind = Literal["trial", "curve", "report"]
Point = tuple[str, int]  # metric, step
RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]

RUN_STATUS: Mapping[str, RunStatus] = {"ok": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
MAX_PARAM, MAX_TAG, MAX_NAME = 6000, 8000, 250  # MLflow's limits, in characters


@dataclass(frozen=True, kw_only=True)
class RunContent:
    """Everything one MLflow run should hold.

    key: finds the run again within its experiment; a trial's digest.
    is_complete: False while there may be more points to come.
    points: (metric, step) -> value, all finite.
    files: name among the artifacts -> file.
    began_ms, ended_ms: milliseconds since the epoch; None is now, and not yet.
    """

    key: str
    kind: Kind
    name: str
    status: RunStatus
    tags: Mapping[str, str]
    params: Mapping[str, str] = field(default_factory=dict)
    points: Mapping[Point, float] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    began_ms: int | None = None
    ended_ms: int | None = None
    is_complete: bool = True

    @cached_property
    def stamp(self) -> str:
        """Equal for equal content but for name and times: a run that has it needs nothing."""
        files = {n: hashlib.sha256(f.read_bytes()).hexdigest() for n, f in self.files.items()}
        points = sorted([*point, value] for point, value in self.points.items())
        content = [self.status, dict(self.tags), dict(self.params), points, files]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def running_trial(
    proposal: Proposal, directory: Path, *, study: str, status: RunStatus = "RUNNING"
) -> RunContent:
    """A trial without a result, with the rows that its metrics.jsonl has so far."""
    return _trial(
        describe_proposal(proposal),
        read_jsonl(directory / METRICS_FILE),
        study=study,
        status=status,
    )


def finished_trial(
    proposal: Proposal | Mapping[str, Any], result: TrialResult, directory: Path, *, study: str
) -> RunContent:
    """A trial with its result; `proposal` may be the content of its proposal.json."""
    row = describe_proposal(proposal) if isinstance(proposal, Proposal) else proposal
    rows = read_jsonl(directory / METRICS_FILE)
    ended = (directory / RESULT_FILE).stat().st_mtime
    seconds = result.cost.get("seconds")
    if seconds is None:
        seconds = max(0.0, ended - (directory / PROPOSAL_FILE).stat().st_mtime)
    return _trial(
        row,
        rows,
        study=study,
        status=RUN_STATUS[result.status],
        result=result,
        began_ms=int(1000 * (ended - seconds)),
        ended_ms=int(1000 * ended),
    )


def stored_trials(
    study_directory: Path, *, study: str, skip: Collection[str] = ()
) -> Iterator[RunContent | None]:
    """Every stored trial in the order of its proposing; None for one without a result."""
    found = (study_directory / "trials").glob(f"*/{PROPOSAL_FILE}")
    rows = [(p.parent, json.loads(p.read_text())) for p in found if p.parent.name not in skip]
    for directory, row in sorted(rows, key=lambda pair: pair[1]["order"]):
        result = read_result(directory)
        yield None if result is None else finished_trial(row, result, directory, study=study)


def final_points(rows: Sequence[Mapping[str, float]], result: TrialResult) -> dict[Point, float]:
    """Final metrics and cost at the last step, or one later where a row there says otherwise."""
    last = rows[-1] if rows else {"step": 0}
    points = {}
    for key, value in [*result.metrics.items(), *_prefixed("cost/", result.cost)]:
        if math.isfinite(value):
            step = int(last["step"]) + (last.get(key, value) != value)
            points[safe_name(key), step] = float(value)
    return points


def as_text(value: Any) -> str:
    """A recipe's value as `--set field=value` reads it."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        nested = any(isinstance(item, list | tuple) for item in value)
        return json.dumps(value) if nested else ",".join(as_text(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _trial(
    row: Mapping[str, Any],
    rows: Sequence[Mapping[str, float]],
    *,
    study: str,
    status: RunStatus,
    result: TrialResult | None = None,
    began_ms: int | None = None,
    ended_ms: int | None = None,
) -> RunContent:
    cell, recipe = row["cell"], row["recipe"]
    points = {
        (safe_name(key), int(metrics["step"])): float(value)
        for metrics in rows
        for key, value in metrics.items()
        if key != "step"
    }
    tags = {f"raysl.{axis}": value for axis, value in cell.items()}
    tags.setdefault("raysl.label_size", recipe.get("label_size"))
    tags |= {f"raysl.{key}": row[key] for key in ("digest", "seed", "phase", "number", "attempt")}
    tags["raysl.study_digest"] = study
    if row["params"]:
        tags["raysl.searched"] = json.dumps(row["params"])
    if result is not None:
        points |= final_points(rows, result)
        tags |= {
            "raysl.status": result.status,
            "raysl.flags": ",".join(result.flags) or None,
            "raysl.error": result.error,
            "raysl.metrics": json.dumps(
                sorted(k for k, v in result.metrics.items() if math.isfinite(v))
            ),
            "mlflow.source.git.commit": result.provenance.get("commit"),
        }
        tags |= dict(_prefixed("raysl.protocol.", result.protocols))
        tags |= dict(_prefixed("raysl.provenance.", flat(result.provenance)))
    return RunContent(
        key=row["digest"],
        kind="trial",
        name=_trial_name(row),
        status=status,
        tags=tags_of(tags),
        params={safe_name(k): _cut(as_text(v), MAX_PARAM) for k, v in flat(recipe).items()},
        points=points,
        began_ms=began_ms,
        ended_ms=ended_ms,
        is_complete=result is not None,
    )


def _trial_name(row: Mapping[str, Any]) -> str:
    """What the table shows first: "simclr 500 seed 0", "simclr 500 search 3"."""
    usual = ("arm", "pool_size", "label_size")
    cell = {axis: value for axis, value in row["cell"].items() if value is not None}
    words = [str(v) if axis in usual else f"{axis}={v}" for axis, v in cell.items()]
    last = f"seed {row['seed']}" if row["phase"] == "confirm" else f"search {row['number']}"
    return " ".join([*words, last])


def tags_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as the texts of tags; None is absent."""
    return {safe_name(k): _cut(as_text(v), MAX_TAG) for k, v in values.items() if v is not None}


def _prefixed(prefix: str, values: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    return ((prefix + key, value) for key, value in values.items())


def safe_name(key: str) -> str:
    """MLflow takes letters, digits and _-. :/ in a name."""
    return re.sub(r"[^\w\-. :/]", "_", key)[:MAX_NAME]


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    mark = f" ... (cut, {len(text)} characters)"
    return text[: limit - len(mark)] + mark
