"""A study's runs in MLflow: the only code that imports it.

One experiment for each study, one run for each trial, one for each scaling curve, one for the
report. A run is found again by its key (a trial's digest) and carries a stamp of its content,
written last: equal stamps mean that there is nothing to do. Where they differ, only what the run
lacks is added, since MLflow keeps a point twice if it is logged twice. A run that holds what the
files do not say, such as a curve whose numbers changed, is deleted and made again.

Only `MlflowClient(tracking_uri=...)` is used: the module-level functions of MLflow keep their state
in environment variables, which processes started later would inherit.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from raysl.mlflow_runs import Point, RunContent
from raysl.mlflow_ui import require_database
from raysl.mlflow_views import saved_views

KEY, KIND, STAMP = "raysl.key", "raysl.kind", "raysl.stamp"
MAX_METRICS, MAX_OTHERS = 1000, 100  # MLflow's limits on one log_batch

Outcome = Literal["created", "updated", "unchanged"]


class MlflowAway(Exception):
    """MLflow does not answer, or refuses; the text is its reason."""


@contextlib.contextmanager
def mlflow_client(tracking_uri: str, *, timeout_seconds: int) -> Iterator[Any]:
    """An MlflowClient that is quiet, reports no usage and fails soon, with MlflowAway.

    MLflow takes these settings from environment variables alone, so they are set while the block
    runs; what the user has set stays. No request is tried twice: a create_run that was only slow
    would make a second run.
    """
    settings = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",  # read when MLflow is imported, which is below
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    added = {name: value for name, value in settings.items() if name not in os.environ}
    logger = logging.getLogger("mlflow")
    os.environ.update(added)
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            require_database(tracking_uri)
            yield MlflowClient(tracking_uri=tracking_uri)
        except (MlflowException, SQLAlchemyError) as error:
            raise MlflowAway(_reason(error)) from error
        finally:
            logger.setLevel(level)
    finally:
        for name in added:
            del os.environ[name]


@dataclass(kw_only=True)
class _Run:
    """A run as MLflow has it. points: None until needed; NaN where one was logged twice."""

    id: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: tuple[str, ...] = ()
    points: dict[Point, float] | None = None
    written_ms: int | None = None


class Experiment:
    """The experiment of a study, found by the study's digest or made.

    study: the content of study.json. Methods take the client anew, see `mlflow_client`.
    """

    def __init__(self, client: Any, study: dict[str, Any], *, artifacts: Path | None):
        self.id = _find_experiment(client, study) or _create_experiment(client, study, artifacts)
        self.runs = {
            run.data.tags[KEY]: _Run(
                id=run.info.run_id,
                status=run.info.status,
                tags=dict(run.data.tags),
                params=dict(run.data.params),
                metrics=tuple(run.data.metrics),
            )
            for run in _search(client, self.id, f"tags.`{KEY}` != ''")
        }

    def write(self, client: Any, content: RunContent) -> Outcome:
        """Make the run, or add what it lacks."""
        run = self.runs.get(content.key)
        if run is not None and run.tags.get(STAMP) == content.stamp:
            return "unchanged"
        outcome: Outcome = "created" if run is None else "updated"
        if run is not None and _contradicts(client, run, content):
            client.delete_run(run.id)
            run = None
        if run is None:
            tags = {KEY: content.key, KIND: content.kind, **content.tags}
            made = client.create_run(self.id, content.began_ms, tags, content.name)
            run = _Run(id=made.info.run_id, status="RUNNING", tags=tags, params={}, points={})
            run.written_ms = made.info.start_time
            self.runs[content.key] = run
        _add(client, run, content)
        if content.kind == "report":  # its answer also heads the page of the experiment
            note = content.tags["mlflow.note.content"]
            client.set_experiment_tag(self.id, "mlflow.note.content", note)
        return outcome


def trials(client: Any, experiment: str) -> list[Any]:
    """The runs of trials in an experiment that have a result."""
    runs = _search(client, experiment, f"tags.`{KIND}` = 'trial'")
    return [run for run in runs if "raysl.status" in run.data.tags]


def _contradicts(client: Any, run: _Run, content: RunContent) -> bool:
    """Whether the run holds what adding cannot make right."""
    points = _points(client, run)
    if content.is_complete and not points.keys() <= content.points.keys():
        return True
    return any(content.points.get(point, value) != value for point, value in points.items()) or any(
        content.params.get(name, value) != value for name, value in run.params.items()
    )


def _points(client: Any, run: _Run) -> dict[Point, float]:
    if run.points is None:
        run.points = {}
        for name in run.metrics:
            for metric in client.get_metric_history(run.id, name):
                point = (metric.key, metric.step)
                run.points[point] = float("nan") if point in run.points else metric.value
                run.written_ms = max(run.written_ms or 0, metric.timestamp)
    return run.points


def _add(client: Any, run: _Run, content: RunContent) -> None:
    from mlflow.entities import Metric, Param, RunTag

    logged = _points(client, run)
    points = sorted((p for p in content.points if p not in logged), key=lambda p: p[::-1])
    now = content.ended_ms or int(1000 * time.time())
    since = min(now, run.written_ms or content.began_ms or now)
    # The file has no times of day: the points are spread over the time since the last look.
    metrics = [
        Metric(key, content.points[key, step], since + (now - since) * i // len(points), step)
        for i, (key, step) in enumerate(points, start=1)
    ]
    for metrics_chunk in _chunks(metrics, MAX_METRICS):
        client.log_batch(run.id, metrics=metrics_chunk)
    params = [Param(name, text) for name, text in content.params.items() if name not in run.params]
    for params_chunk in _chunks(params, MAX_OTHERS):
        client.log_batch(run.id, params=params_chunk)
    for name, file in content.files.items():
        _upload(client, run.id, name, file)
    for name in [n for n in run.tags if n.startswith("raysl.") and n not in content.tags]:
        if name not in (KEY, KIND, STAMP):
            client.delete_tag(run.id, name)
            del run.tags[name]
    if content.status != "RUNNING":
        client.set_terminated(run.id, content.status, now)
    elif run.status != "RUNNING":
        client.update_run(run.id, status="RUNNING")
    run.status = content.status
    tags = {**content.tags, STAMP: content.stamp}
    changed = [RunTag(name, text) for name, text in tags.items() if run.tags.get(name) != text]
    for tags_chunk in _chunks(changed, MAX_OTHERS):  # the stamp comes last
        client.log_batch(run.id, tags=tags_chunk)
    run.tags |= tags
    run.params |= content.params
    logged |= {point: content.points[point] for point in points}
    run.written_ms = now


def _upload(client: Any, run_id: str, name: str, file: Path) -> None:
    folder = name.rpartition("/")[0] or None
    try:
        client.log_artifact(run_id, str(file), folder)
    except (
        OSError
    ) as error:  # a full disk; a lost connection, since the errors of requests are such
        raise MlflowAway(_reason(error)) from error


def _find_experiment(client: Any, study: dict[str, Any]) -> str | None:
    from mlflow.entities import ViewType

    query = f"tags.`raysl.study_digest` = '{study['digest']}'"
    for found in client.search_experiments(view_type=ViewType.ALL, filter_string=query):
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)
    return None


def _create_experiment(client: Any, study: dict[str, Any], artifacts: Path | None) -> str:
    name = study["name"]
    if client.get_experiment_by_name(name) is not None:  # another study's, on a shared server
        name = f"{name} {study['digest']}"
    tags = {
        "raysl.study_digest": study["digest"],
        "raysl.question": study["question"],
        "raysl.size_axis": study["size_axis"],
        "mlflow.note.content": study["question"],
    } | saved_views(study)
    location = None if artifacts is None else (artifacts / study["digest"]).as_uri()
    return str(client.create_experiment(name, artifact_location=location, tags=tags))


def _search(client: Any, experiment: str, query: str) -> list[Any]:
    runs, token = [], None
    while True:
        page = client.search_runs([experiment], query, max_results=1000, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
