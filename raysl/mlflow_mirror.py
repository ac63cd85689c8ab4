"""MLflow as a mirror of a study directory: the files are the truth, MLflow can be rebuilt."""

import itertools
import json
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysl.mlflow_curves import report_runs
from raysl.mlflow_runs import (
    RunContent,
    RunStatus,
    finished_trial,
    running_trial,
    safe_name,
    stored_trials,
)
from raysl.mlflow_tracker import Experiment, MlflowAway, mlflow_client, trials
from raysl.mlflow_ui import artifacts_directory, check_tracking_uri, is_database, shown
from raysl.result import TrialResult
from raysl.study.ledger import read_study
from raysl.study.spec import Proposal

LIVE_TIMEOUT_SECONDS, SYNC_TIMEOUT_SECONDS = 5, 60
LONGEST_PAUSE_SECONDS = 960.0
CATCH_UP_SECONDS = 5.0  # at a time, while trials wait


@dataclass(frozen=True, kw_only=True)
class SyncSummary:
    """What a sync did. Trials without a result are left to the process that runs them."""

    runs_created: int
    runs_updated: int
    runs_unchanged: int
    trials_unfinished: int


class Mirror:
    """Tells MLflow what happens in a running study; an observer of its ledger.

    MLflow being away never stops the study: the first failure is told once through `warn`, the next
    try waits for `retry_seconds`, then twice as long each time, and what was missed is brought up
    to date once MLflow answers. `behind` says whether something may still be missing.
    """

    def __init__(
        self,
        study_directory: Path,
        tracking_uri: str,
        *,
        warn: Callable[[str], None] = warnings.warn,
        retry_seconds: float = 60.0,
        flush_seconds: float = 5.0,
    ):
        self.directory = study_directory
        self.tracking_uri = check_tracking_uri(tracking_uri)
        self.study = read_study(study_directory)
        self.warn = warn
        self.retry_seconds = retry_seconds
        self.flush_seconds = flush_seconds
        self.behind = True  # an earlier process may have left something
        self.running: dict[str, Proposal] = {}
        self._flushed: dict[str, float] = {}
        self._mirrored: set[str] = set()
        self._experiment: Experiment | None = None
        self._pause = retry_seconds
        self._next_try = 0.0
        self._warned = False

    def started(self, proposal: Proposal) -> None:
        """The trial's run, marked as running."""
        digest = proposal.recipe.digest()
        self.running[digest] = proposal
        self._mirrored.discard(digest)
        self._flush(digest)

    def progress(self, proposal: Proposal, step: int, metrics: Mapping[str, float]) -> None:
        """What the trial's metrics.jsonl has gained since the last look, every few seconds.

        The file is read and the arguments are not, so a resumed trial repeats no step.
        """
        digest = proposal.recipe.digest()
        if time.monotonic() >= self._flushed.get(digest, 0.0) + self.flush_seconds:
            self._flush(digest)

    def finished(self, proposal: Proposal, result: TrialResult) -> None:
        """The trial's result and the rest of its metrics."""
        digest = proposal.recipe.digest()
        self.running.pop(digest, None)
        trial = self.directory / "trials" / digest
        self._write([finished_trial(proposal, result, trial, study=self.study["digest"])])

    def report(self, study_directory: Path) -> None:
        """All that was missed, then the scaling curves and the report's files."""
        self._next_try = 0.0
        contents = report_runs(study_directory, study=self.study["digest"])
        self._write(contents, catch_up_seconds=None)

    def close(self) -> None:
        """Mark what still runs as killed; a restart takes it up again."""
        for digest in self.running:
            self._flush(digest, status="KILLED")

    def _flush(self, digest: str, *, status: RunStatus = "RUNNING") -> None:
        if time.monotonic() < self._next_try:
            return
        self._flushed[digest] = time.monotonic()
        trial = self.directory / "trials" / digest
        proposal, study = self.running[digest], self.study["digest"]
        self._write([running_trial(proposal, trial, study=study, status=status)])

    def _write(
        self, contents: Iterable[RunContent], *, catch_up_seconds: float | None = CATCH_UP_SECONDS
    ) -> None:
        if time.monotonic() < self._next_try:
            self.behind = True
            return
        try:
            with mlflow_client(self.tracking_uri, timeout_seconds=LIVE_TIMEOUT_SECONDS) as client:
                if self._experiment is None:
                    self._experiment = _open_experiment(client, self.directory, self.tracking_uri)
                for content in contents:
                    self._experiment.write(client, content)
                if self.behind:
                    self.behind = not self._catch_up(client, self._experiment, catch_up_seconds)
            self._pause = self.retry_seconds
        except MlflowAway as error:
            self._experiment = None  # what it takes for written may not be
            self._mirrored.clear()
            self.behind = True
            self._next_try = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
            if not self._warned:
                self._warned = True
                self.warn(
                    f"MLflow at {shown(self.tracking_uri)} does not take the results ({error}). "
                    "The study goes on; what is missing follows when MLflow answers, or with "
                    f"`raysl sync {self.directory}`."
                )

    def _catch_up(self, client: Any, experiment: Experiment, seconds: float | None) -> bool:
        """Whether every stored trial is in MLflow; stops after `seconds`."""
        began = time.monotonic()
        skip = self._mirrored | self.running.keys()
        for content in stored_trials(self.directory, study=self.study["digest"], skip=skip):
            if content is not None:
                experiment.write(client, content)
                self._mirrored.add(content.key)
            if seconds is not None and time.monotonic() - began > seconds:
                return False
        return True


def sync(study_directory: Path, tracking_uri: str) -> SyncSummary:
    """Bring MLflow up to date from the study's files alone; a second time changes nothing.

    Raises ValueError where MLflow does not answer.
    """
    check_tracking_uri(tracking_uri)
    study = read_study(study_directory)["digest"]
    counts = dict.fromkeys(("created", "updated", "unchanged", "unfinished"), 0)
    try:
        with mlflow_client(tracking_uri, timeout_seconds=SYNC_TIMEOUT_SECONDS) as client:
            experiment = _open_experiment(client, study_directory, tracking_uri)
            for content in itertools.chain(
                stored_trials(study_directory, study=study),
                report_runs(study_directory, study=study),
            ):
                outcome = "unfinished" if content is None else experiment.write(client, content)
                counts[outcome] += 1
    except MlflowAway as error:
        raise ValueError(_cannot_be_used(tracking_uri, error)) from error
    return SyncSummary(
        runs_created=counts["created"],
        runs_updated=counts["updated"],
        runs_unchanged=counts["unchanged"],
        trials_unfinished=counts["unfinished"],
    )


def read_results(tracking_uri: str, experiment: str) -> list[dict[str, Any]]:
    """The finished trials of an experiment: what the study's result files say of them.

    Each has digest, arm, size (None where the arm does not depend on it), seed, phase, status,
    flags and metrics, the final ones by name. ValueError where there is none, or no answer.
    """
    check_tracking_uri(tracking_uri)
    try:
        with mlflow_client(tracking_uri, timeout_seconds=SYNC_TIMEOUT_SECONDS) as client:
            found = client.get_experiment_by_name(experiment)
            runs = [] if found is None else trials(client, found.experiment_id)
    except MlflowAway as error:
        raise ValueError(_cannot_be_used(tracking_uri, error)) from error
    if found is None or "raysl.size_axis" not in found.tags:
        raise ValueError(
            f"MLflow at {shown(tracking_uri)} has no study {experiment!r}; `raysl sync` makes it "
            "from the study's files."
        )
    rows = []
    for run in runs:
        tags, metrics = run.data.tags, run.data.metrics
        size = tags.get(f"raysl.{found.tags['raysl.size_axis']}")
        rows.append(
            {
                "digest": tags["raysl.digest"],
                "arm": tags["raysl.arm"],
                "size": None if size is None else int(size),
                "seed": int(tags["raysl.seed"]),
                "phase": tags["raysl.phase"],
                "status": tags["raysl.status"],
                "flags": tuple(filter(None, tags.get("raysl.flags", "").split(","))),
                "metrics": {n: metrics[safe_name(n)] for n in json.loads(tags["raysl.metrics"])},
            }
        )
    return sorted(rows, key=lambda row: (row["arm"], row["size"] or 0, row["seed"], row["digest"]))


def _open_experiment(client: Any, study_directory: Path, tracking_uri: str) -> Experiment:
    """The study's experiment; a server knows where artifacts go, a database does not."""
    runs = study_directory.resolve().parent
    artifacts = artifacts_directory(runs) if is_database(tracking_uri) else None
    return Experiment(client, read_study(study_directory), artifacts=artifacts)


def _cannot_be_used(tracking_uri: str, error: MlflowAway) -> str:
    """The sentence for a user who asked for MLflow itself."""
    return (
        f"MLflow at {shown(tracking_uri)} cannot be used ({error}); start it, or name another "
        "with --tracking-uri."
    )
