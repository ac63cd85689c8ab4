"""MLflow mirrors a study: one run for each trial whatever happens, and never in the study's way."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from raysl.analysis.report import write_report
from raysl.mlflow_curves import curve_runs
from raysl.mlflow_mirror import Mirror, read_results, sync
from raysl.mlflow_runs import as_text, finished_trial, safe_name
from raysl.mlflow_tracker import Experiment, mlflow_client
from raysl.mlflow_ui import (
    artifacts_directory,
    check_tracking_uri,
    default_tracking_uri,
    serve_ui,
    shown,
    start_ui,
    stop_ui,
    ui_command,
)
from raysl.recipe import Recipe
from raysl.result import METRICS_FILE, TrialResult, read_result, write_atomically
from raysl.study.ledger import STUDY_FILE, Ledger
from raysl.study.planners import Grid
from raysl.study.sizes import resolve_arm
from raysl.study.spec import Study
from raysl.tracking import Jsonl

NUM_STEPS = 12
METRIC = "test/linear_top1"
SIMCLR, SCRATCH = f"curve: simclr, {METRIC}", f"curve: scratch, {METRIC}"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """MLflow's tables take 1.6 s to make, so they are made once and copied."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    with mlflow_client(f"sqlite:///{path}", timeout_seconds=5) as client:
        client.search_experiments()
    return path


@pytest.fixture
def uri(tmp_path, empty_database) -> str:
    (tmp_path / "runs").mkdir(exist_ok=True)
    shutil.copy(empty_database, tmp_path / "runs" / "mlflow.db")
    return default_tracking_uri(tmp_path / "runs")


@pytest.fixture
def directory(tmp_path) -> Path:
    return make_directory(tmp_path / "runs" / "threshold")


def make_study() -> Study:
    base = Recipe.create(
        "simclr", dataset="0" * 16, pool_size=500, label_size=100, batch_size=64
    ).with_overrides({"duration": "12 steps"})
    return Study(
        name="threshold",
        question="From how many images on does SimCLR beat training from scratch?",
        data="sklearn:digits",
        base=base,
        axes={"arm": ("simclr", "scratch"), "pool_size": (500, 2000)},
        resolve=resolve_arm,
        arm="simclr",
        baseline="scratch",
        confirm_seeds=(0, 1),
    )


def make_directory(path: Path) -> Path:
    study = make_study()
    (path / "trials").mkdir(parents=True)
    content = study.describe() | {"digest": study.digest()}
    write_atomically(path / STUDY_FILE, json.dumps(content))
    return path


def open_ledger(directory: Path, mirror: Mirror | None) -> Ledger:
    study = make_study()
    observers = [] if mirror is None else [mirror]
    return Ledger(study, Grid(study), directory, observers=observers)


def run_trial(ledger: Ledger, *, num_steps: int = NUM_STEPS) -> bool:
    """The ledger's next trial, its numbers made up; short of its end it leaves no result."""
    proposal = ledger.next()
    assert proposal is not None
    tracker = Jsonl(ledger.directory(proposal) / METRICS_FILE)
    for step in range(1, num_steps + 1):
        metrics = {"train/loss": 1 / step, "train/lr": 0.1 * step}
        tracker.log(step, metrics)
        ledger.progress(proposal, step, metrics)
    if num_steps < NUM_STEPS:
        return False
    size = proposal.cell["pool_size"] or 0
    result = TrialResult(
        digest=proposal.recipe.digest(),
        recipe=proposal.recipe.to_dict(),
        status="ok",
        final=True,
        metrics={METRIC: 60 + size / 100 + proposal.seed, "val/linear_top1": 61.5, "train/loss": 7},
        protocols={"linear": 2},
        flags=("collapsed",) if size == 500 else (),
        cost={"seconds": 30.0, "steps": float(NUM_STEPS)},
        provenance={"commit": "abc123", "torch": "2.15.0"},
    )
    ledger.record(proposal, result)
    return True


def run_study(directory: Path, mirror: Mirror | None) -> None:
    ledger = open_ledger(directory, mirror)
    while not ledger.finished:
        run_trial(ledger)


def write_numbers(directory: Path, *, shift: float = 0.0) -> None:
    """A report in the form of raysl.analysis.report, with numbers chosen here."""
    sizes = (500, 2000)
    levels = [{"mean": 70 + shift + n / 100, "low": 69.0, "high": 91.0} for n in sizes]
    flat = {"size": None, "mean": 75.0, "low": None, "high": None}
    simclr = [{"size": n} | level for n, level in zip(sizes, levels, strict=True)]
    report = {
        "question": "How many?",
        "answer": "About 1,000.",
        "size_axis": "pool_size",
        "metric": METRIC,
        "metrics": [METRIC, "test/knn_top1"],
        "curves": [{"arm": "simclr", "points": simclr}, {"arm": "scratch", "points": [flat]}],
        "comparisons": [{"where": {}}],
        "cells": [
            {"cell": {"arm": "simclr", "pool_size": n}, "metrics": {"test/knn_top1": level}}
            for n, level in zip(sizes, levels, strict=True)
        ],
    }
    (directory / "report.json").write_text(json.dumps(report))
    (directory / "report.html").write_text("<title>threshold</title>")
    (directory / "figures").mkdir(exist_ok=True)
    (directory / "figures" / "curves.png").write_bytes(b"png")


def runs_of(uri: str, kind: str = "trial") -> dict[str, object]:
    """Runs of that kind by their names; fails where two have the same key."""
    with mlflow_client(uri, timeout_seconds=30) as client:
        ids = [e.experiment_id for e in client.search_experiments()]
        runs = client.search_runs(ids, f"tags.`raysl.kind` = '{kind}'", max_results=1000)
    keys = [run.data.tags["raysl.key"] for run in runs]
    assert len(keys) == len(set(keys))
    return {run.info.run_name: run for run in runs}


def history(uri: str, run, key: str) -> list[tuple[int, float]]:
    with mlflow_client(uri, timeout_seconds=30) as client:
        return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]


def losses(num_steps: int = NUM_STEPS) -> list[tuple[int, float]]:
    return [(step, 1 / step) for step in range(1, num_steps + 1)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_a_trial_is_one_run_with_its_recipe_tags_metrics_and_times(directory, uri):
    run_study(directory, Mirror(directory, uri))
    runs = runs_of(uri)
    assert len(runs) == 6  # two sizes and one scratch, two seeds each
    run = runs["simclr 500 seed 1"]
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time < 10_000
    assert abs(run.info.end_time / 1000 - time.time()) < 60
    params = run.data.params
    assert params["method.name"] == "simclr"
    assert params["pool_size"] == "500"
    assert Recipe.create(
        "simclr", dataset="", label_size=2, pool_size=2, batch_size=2
    ).with_overrides({"optim.lr": params["optim.lr"], "views.mean": params["views.mean"]})
    tags = run.data.tags
    wanted = {
        "raysl.arm": "simclr",
        "raysl.pool_size": "500",
        "raysl.label_size": "100",
        "raysl.seed": "1",
        "raysl.phase": "confirm",
        "raysl.status": "ok",
        "raysl.flags": "collapsed",
        "raysl.protocol.linear": "2",
        "raysl.provenance.torch": "2.15.0",
        "raysl.study_digest": make_study().digest(),
        "mlflow.source.git.commit": "abc123",
    }
    assert {name: tags[name] for name in wanted} == wanted
    assert (directory / "trials" / tags["raysl.digest"]).is_dir()
    assert "raysl.pool_size" not in runs["scratch seed 0"].data.tags
    assert run.data.metrics["cost/seconds"] == 30.0
    assert history(uri, run, METRIC) == [(NUM_STEPS, 66.0)]
    # The final value differs from the last row's: it follows it and is what the table shows.
    assert history(uri, run, "train/loss") == [*losses(), (NUM_STEPS + 1, 7.0)]
    with mlflow_client(uri, timeout_seconds=5) as client:
        experiment = client.get_experiment_by_name("threshold")
    assert experiment.tags["raysl.study_digest"] == make_study().digest()
    assert "SimCLR" in experiment.tags["raysl.question"]


def test_a_running_trial_shows_its_metrics_before_it_ends(directory, uri):
    ledger = open_ledger(directory, Mirror(directory, uri, flush_seconds=0))
    run_trial(ledger, num_steps=5)
    (run,) = runs_of(uri).values()
    assert run.info.status == "RUNNING"
    assert run.info.end_time is None
    assert history(uri, run, "train/loss") == losses(5)


def test_a_restart_makes_no_second_run_and_logs_no_step_twice(directory, uri):
    first = open_ledger(directory, Mirror(directory, uri, flush_seconds=0))
    run_trial(first)
    run_trial(first, num_steps=5)  # and the process is killed
    second = Mirror(directory, uri)
    run_study(directory, second)
    assert not second.behind
    runs = runs_of(uri)
    assert len(runs) == 6
    for run in runs.values():
        assert run.info.status == "FINISHED"
        assert history(uri, run, "train/loss") == [*losses(), (NUM_STEPS + 1, 7.0)]


def test_a_restart_also_mirrors_what_the_process_before_it_could_not(directory, uri):
    first = open_ledger(directory, None)
    run_trial(first)
    run_trial(first)
    mirror = Mirror(directory, uri)
    run_trial(open_ledger(directory, mirror))
    assert not mirror.behind
    assert len(runs_of(uri)) == 3


def test_closing_marks_running_trials_as_killed_until_they_are_taken_up_again(directory, uri):
    mirror = Mirror(directory, uri, flush_seconds=0)
    run_trial(open_ledger(directory, mirror), num_steps=5)
    mirror.close()
    (run,) = runs_of(uri).values()
    assert run.info.status == "KILLED"
    run_study(directory, Mirror(directory, uri))
    assert {run.info.status for run in runs_of(uri).values()} == {"FINISHED"}
    assert len(runs_of(uri)) == 6


def test_a_failed_and_a_stopped_trial_say_so(directory, uri):
    run_study(directory, None)
    first, second, *_ = sorted((directory / "trials").iterdir())
    for trial, status, error in (
        (first, "failed", "loss is nan\nat step 3"),
        (second, "stopped", None),
    ):
        content = json.loads((trial / "result.json").read_text())
        content |= {"status": status, "error": error, "metrics": {}}
        (trial / "result.json").write_text(json.dumps(content))
    sync(directory, uri)
    runs = {run.data.tags["raysl.digest"]: run for run in runs_of(uri).values()}
    assert runs[first.name].info.status == "FAILED"
    assert runs[first.name].data.tags["raysl.error"] == "loss is nan\nat step 3"
    assert runs[second.name].info.status == "KILLED"


def test_a_second_sync_changes_nothing_and_a_sync_after_the_driver_neither(directory, uri):
    mirror = Mirror(directory, uri)
    run_study(directory, mirror)
    write_report(directory)
    mirror.report(directory)
    assert not mirror.behind
    summary = sync(directory, uri)
    assert (summary.runs_created, summary.runs_updated, summary.runs_unchanged) == (0, 0, 9)
    assert summary.trials_unfinished == 0


def test_sync_rebuilds_from_files_alone_what_the_driver_would_have_written(
    directory, uri, tmp_path, empty_database
):
    run_study(directory, Mirror(directory, uri))
    run_trial_directory = next((directory / "trials").iterdir())
    other = tmp_path / "other.db"
    shutil.copy(empty_database, other)
    summary = sync(directory, f"sqlite:///{other}")
    assert (summary.runs_created, summary.trials_unfinished) == (6, 0)
    for name, run in runs_of(uri).items():
        rebuilt = runs_of(f"sqlite:///{other}")[name]
        assert rebuilt.data.params == run.data.params
        assert rebuilt.data.tags == run.data.tags
        assert rebuilt.data.metrics == run.data.metrics
        assert rebuilt.info.end_time - rebuilt.info.start_time == 30_000
    (run_trial_directory / "result.json").unlink()
    assert sync(directory, f"sqlite:///{other}").trials_unfinished == 1


def test_results_read_from_mlflow_are_those_of_the_files(directory, uri):
    run_study(directory, Mirror(directory, uri))
    rows = read_results(uri, "threshold")
    assert [(r["arm"], r["size"], r["seed"]) for r in rows] == [
        ("scratch", None, 0),
        ("scratch", None, 1),
        ("simclr", 500, 0),
        ("simclr", 500, 1),
        ("simclr", 2000, 0),
        ("simclr", 2000, 1),
    ]
    for row in rows:
        result = read_result(directory / "trials" / row["digest"])
        assert row["metrics"] == result.metrics
        assert (row["phase"], row["status"], row["flags"]) == ("confirm", "ok", result.flags)
    with pytest.raises(ValueError, match=r"no study 'other'.*raysl sync"):
        read_results(uri, "other")


def test_a_curve_is_a_run_whose_steps_are_the_sizes(directory, uri):
    write_numbers(directory)
    mirror = Mirror(directory, uri)
    mirror.report(directory)
    runs = runs_of(uri, "curve")
    assert history(uri, runs[SIMCLR], f"curve/{METRIC}") == [(500, 75.0), (2000, 90.0)]
    assert history(uri, runs[SIMCLR], f"interval/{METRIC}_low") == [(500, 69.0), (2000, 69.0)]
    assert history(uri, runs[SCRATCH], f"curve/{METRIC}") == [(500, 75.0), (2000, 75.0)]
    knn = runs["curve: simclr, test/knn_top1"]
    assert history(uri, knn, "curve/test/knn_top1") == [(500, 75.0), (2000, 90.0)]
    assert len(runs) == 3
    (report,) = runs_of(uri, "report").values()
    with mlflow_client(uri, timeout_seconds=5) as client:
        names = {file.path for file in client.list_artifacts(report.info.run_id)}
        figures = [file.path for file in client.list_artifacts(report.info.run_id, "figures")]
        experiment = client.get_experiment_by_name("threshold")
    assert names == {"report.html", "report.json", "figures"}
    assert figures == ["figures/curves.png"]
    assert experiment.tags["mlflow.note.content"] == "How many? About 1,000."
    assert f"curve/{METRIC}" in experiment.tags["mlflow.sharedViewState.curves"]


def test_a_curve_whose_numbers_change_is_made_again_and_one_that_grows_is_added_to(directory, uri):
    write_numbers(directory)
    sync(directory, uri)
    before = runs_of(uri, "curve")
    write_numbers(directory, shift=1.0)
    sync(directory, uri)
    after = runs_of(uri, "curve")
    assert history(uri, after[SIMCLR], f"curve/{METRIC}") == [(500, 76.0), (2000, 91.0)]
    assert after[SCRATCH].info.run_id == before[SCRATCH].info.run_id
    report = json.loads((directory / "report.json").read_text())
    report["curves"][0]["points"].append({"size": 8000, "mean": 95.0, "low": None, "high": None})
    (directory / "report.json").write_text(json.dumps(report))
    sync(directory, uri)
    grown = runs_of(uri, "curve")
    assert grown[SIMCLR].info.run_id == after[SIMCLR].info.run_id
    assert history(uri, grown[SIMCLR], f"curve/{METRIC}")[-1] == (8000, 95.0)


def test_points_logged_twice_by_someone_else_are_repaired(directory, uri):
    run_study(directory, None)
    sync(directory, uri)
    run = runs_of(uri)["simclr 500 seed 0"]
    with mlflow_client(uri, timeout_seconds=5) as client:
        client.log_metric(run.info.run_id, "train/loss", 3.0, step=4)
        client.delete_tag(run.info.run_id, "raysl.stamp")
    assert sync(directory, uri).runs_updated == 1
    run = runs_of(uri)["simclr 500 seed 0"]
    assert history(uri, run, "train/loss") == [*losses(), (NUM_STEPS + 1, 7.0)]


def test_the_mirror_leaves_no_state_outside_its_store(directory, uri, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    mirror = Mirror(directory, uri)
    run_study(directory, mirror)
    write_numbers(directory)
    mirror.report(directory)
    assert dict(os.environ) == before
    assert {p.name for p in tmp_path.iterdir()} == {"runs"}
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {
        "mlflow.db",
        "mlflow-artifacts",
        "threshold",
    }
    assert capfd.readouterr() == ("", "")


def test_a_trial_of_60_steps_is_mirrored_in_well_under_a_fifth_of_a_second(directory, uri):
    ledger = open_ledger(directory, Mirror(directory, uri))
    run_trial(ledger)
    seconds = []
    for _ in range(4):
        mirror = ledger.observers[0]
        proposal = ledger.next()
        tracker = Jsonl(ledger.directory(proposal) / METRICS_FILE)
        for step in range(60):
            tracker.log(step, {f"train/m{i}": step + i for i in range(6)})
        result = TrialResult(digest="", recipe={}, status="ok", final=True, metrics={METRIC: 1.0})
        (ledger.directory(proposal) / "result.json").write_text("{}")
        began = time.process_time()  # other work on the machine does not count
        mirror.started(proposal)
        for step in range(60):
            mirror.progress(proposal, step, {})
        mirror.finished(proposal, result)
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.2, seconds


def test_a_locked_database_costs_seconds_and_one_warning_and_sync_repairs(directory, uri):
    warnings: list[str] = []
    mirror = Mirror(directory, uri, warn=warnings.append)
    ledger = open_ledger(directory, mirror)
    run_trial(ledger)
    lock = sqlite3.connect(uri.removeprefix("sqlite:///"), isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    while not ledger.finished:
        run_trial(ledger)
    assert time.monotonic() - began < 15  # MLflow alone would wait for minutes
    assert mirror.behind
    assert len(warnings) == 1
    assert "locked" in warnings[0]
    assert f"raysl sync {directory}" in warnings[0]
    lock.execute("ROLLBACK")
    lock.close()
    summary = sync(directory, uri)
    assert (summary.runs_created, summary.runs_unchanged) == (5, 1)


def test_a_store_that_cannot_be_written_warns_once_through_warnings(directory, tmp_path):
    (tmp_path / "file").write_text("")
    bad = f"sqlite:///{tmp_path}/file/mlflow.db"
    with pytest.warns(UserWarning, match="The study goes on") as caught:
        run_study(directory, Mirror(directory, bad))
    assert len([w for w in caught if w.category is UserWarning]) == 1
    with pytest.raises(ValueError, match=r"cannot be used.*--tracking-uri"):
        sync(directory, bad)


def test_a_server_that_is_away_costs_little_and_the_mirror_catches_up_by_itself(directory, uri):
    warnings: list[str] = []
    mirror = Mirror(directory, f"http://127.0.0.1:{free_port()}", warn=warnings.append)
    ledger = open_ledger(directory, mirror)
    began = time.monotonic()
    run_trial(ledger)
    run_trial(ledger)
    assert time.monotonic() - began < 15  # MLflow alone would wait for minutes
    assert len(warnings) == 1
    assert mirror.behind
    # It is back: here a database, since starting a server takes long (see below).
    mirror.tracking_uri, mirror._next_try = uri, 0.0
    run_trial(ledger)
    assert not mirror.behind
    assert len(runs_of(uri)) == 3


def test_a_server_that_never_answers_is_asked_with_growing_pauses(directory, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")  # what the user sets stays
    warnings: list[str] = []
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        mirror = Mirror(directory, address, warn=warnings.append, retry_seconds=0.5)
        ledger = open_ledger(directory, mirror)
        began = time.monotonic()
        run_trial(ledger)
        assert time.monotonic() - began < 15  # MLflow alone would wait for minutes
        time.sleep(0.6)
        run_trial(ledger)
        assert mirror._pause >= 2.0
    assert len(warnings) == 1
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"


def test_another_study_of_the_same_name_gets_its_own_experiment(directory, uri, tmp_path):
    other = make_directory(tmp_path / "elsewhere" / "threshold")
    content = json.loads((other / STUDY_FILE).read_text()) | {"digest": "f" * 16}
    (other / STUDY_FILE).write_text(json.dumps(content))
    sync(directory, uri)
    sync(other, uri)
    with mlflow_client(uri, timeout_seconds=5) as client:
        names = {e.name for e in client.search_experiments()} - {"Default"}
    assert names == {"threshold", f"threshold {'f' * 16}"}


def test_an_experiment_or_run_deleted_in_the_page_comes_back_with_sync(directory, uri):
    run_study(directory, Mirror(directory, uri))
    with mlflow_client(uri, timeout_seconds=5) as client:
        client.delete_run(runs_of(uri)["simclr 500 seed 0"].info.run_id)
        client.delete_experiment(client.get_experiment_by_name("threshold").experiment_id)
    assert sync(directory, uri).runs_created <= 1
    assert len(runs_of(uri)) == 6


def test_long_values_are_cut_and_say_so(directory):
    run_study(directory, None)
    trial = next((directory / "trials").iterdir())
    row = json.loads((trial / "proposal.json").read_text())
    row["recipe"]["note"] = "x" * 7000
    content = finished_trial(row, read_result(trial), trial, study="s")
    assert len(content.params["note"]) == 6000
    assert content.params["note"].endswith("x ... (cut, 7000 characters)")


def test_more_than_1000_points_arrive_whole(directory, uri):
    curves = {"simclr": [(size, float(size)) for size in range(1, 2502)]}
    (content,) = curve_runs(curves, metric="m", study="s")
    study = json.loads((directory / STUDY_FILE).read_text())
    with mlflow_client(uri, timeout_seconds=5) as client:
        experiment = Experiment(client, study, artifacts=None)
        assert experiment.write(client, content) == "created"
        assert experiment.write(client, content) == "unchanged"
    (run,) = runs_of(uri, "curve").values()
    assert history(uri, run, "curve/m") == curves["simclr"]


def test_values_read_as_set_takes_them():
    assert [as_text(v) for v in (None, True, 0.5, (500, 2000), "none")] == [
        "none",
        "true",
        "0.5",
        "500,2000",
        "none",
    ]
    assert safe_name("val/acc@1") == "val/acc_1"


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("runs/mlflow.db", "such as sqlite:///"),
        ("localhost:5000", "such as http://localhost:5000"),
        ("htp://host:5000", "did you mean http://host:5000"),
        ("sqllite:///runs/mlflow.db", "did you mean sqlite:///runs/mlflow.db"),
        ("sqlite://runs/mlflow.db", "three slashes.*sqlite:///runs/mlflow.db"),
        ("http://host:port", "cannot be read"),
        ("http://", "names no server"),
        ("file:///runs", "unknown file://"),
        ("", "no address"),
    ],
)
def test_a_wrong_tracking_uri_is_told_in_a_sentence(address, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_tracking_uri(address)


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:////tmp/mlflow.db",
        "http://127.0.0.1:5000",
        "https://mlflow.example.org/team",
        "postgresql+psycopg2://user:secret@db:5432/mlflow",
    ],
)
def test_a_right_tracking_uri_is_taken_as_it_is(address):
    assert check_tracking_uri(address) == address
    assert "secret" not in shown(address)


def test_a_port_in_use_is_told_with_the_port_and_the_option(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"Port {port} on 127.0.0.1 .*--port"):
            serve_ui(default_tracking_uri(tmp_path), artifacts_directory(tmp_path), port=port)


def test_the_page_of_a_server_is_that_server(tmp_path):
    with pytest.raises(ValueError, match="open it in a browser"):
        start_ui("http://127.0.0.1:5000", tmp_path)
    command = ui_command("sqlite:////runs/mlflow.db", tmp_path, port=5001)
    assert command[-4:] == ["--host", "127.0.0.1", "--port", "5001"]


@pytest.mark.parametrize("scheme", ["postgresql+pg8000", "mysql+nodriver"])
def test_a_database_without_its_driver_is_told_before_a_trial_runs(directory, scheme):
    address = f"{scheme}://raysl:secret@127.0.0.1/mlflow"
    with pytest.raises(ValueError, match="install the database's Python package") as caught:
        sync(directory, address)
    assert "secret" not in str(caught.value)
    ledger = open_ledger(directory, Mirror(directory, address))
    with pytest.raises(ValueError, match="--tracking-uri"):
        ledger.next()


@pytest.mark.slow
def test_a_real_server_may_be_away_at_the_start_and_die_in_the_middle(directory, uri, tmp_path):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    warnings: list[str] = []
    mirror = Mirror(directory, address, warn=warnings.append, retry_seconds=0.0, flush_seconds=0)
    ledger = open_ledger(directory, mirror)
    run_trial(ledger)
    assert mirror.behind
    server = start_ui(uri, artifacts_directory(tmp_path / "runs"), port=port)
    try:
        run_trial(ledger)
        assert not mirror.behind
        assert len(runs_of(address)) == 2
    finally:
        stop_ui(server)
    run_trial(ledger, num_steps=5)
    run_trial(ledger)
    assert mirror.behind
    write_numbers(directory)
    mirror.report(directory)
    assert len(warnings) == 1
    with pytest.raises(ValueError, match="cannot be used"):
        sync(directory, address)
    server = start_ui(uri, artifacts_directory(tmp_path / "runs"), port=port)
    try:
        summary = sync(directory, address)
        assert (summary.runs_created, summary.runs_updated) == (5, 0)
        assert summary.trials_unfinished == 1
        summary = sync(directory, address)
        assert (summary.runs_created, summary.runs_updated, summary.runs_unchanged) == (0, 0, 7)
        for run in runs_of(address).values():
            assert history(address, run, "train/loss") == [*losses(), (NUM_STEPS + 1, 7.0)]
        (report,) = runs_of(address, "report").values()
        with mlflow_client(address, timeout_seconds=5) as client:
            assert len(client.list_artifacts(report.info.run_id)) == 3
        assert len(read_results(address, "threshold")) == 3
    finally:
        stop_ui(server)
    with socket.socket() as check:
        assert check.connect_ex(("127.0.0.1", port)) != 0  # its worker is gone too


@pytest.mark.slow
def test_the_page_links_to_each_study_and_ends_with_the_process_that_serves_it(
    directory, uri, tmp_path
):
    sync(directory, uri)
    port = free_port()
    code = (
        "import sys; from pathlib import Path; from raysl.mlflow_ui import serve_ui;"
        "serve_ui(sys.argv[1], Path(sys.argv[2]), port=int(sys.argv[3]),"
        " announce=lambda line: print(line, flush=True))"
    )
    command = [sys.executable, "-c", code, uri, str(tmp_path / "artifacts"), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        page, trials, curves = (process.stdout.readline().strip() for _ in range(3))
        assert page.startswith(f"MLflow answers at http://127.0.0.1:{port} ")
        study = f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning"
        assert trials == f"threshold: trials {study}&viewStateShareKey=trials"
        assert curves.startswith(f"threshold: curves {study}&viewStateShareKey=curves")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.terminate()  # and with it the server, which SIGKILL would leave behind
        process.wait(timeout=30)
    with socket.socket() as check:
        assert check.connect_ex(("127.0.0.1", port)) != 0


def find_postgres() -> Path | None:
    found = [Path(p).parent for p in [shutil.which("initdb")] if p]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    usable = [p for p in found if (p / "initdb").exists() and (p / "postgres").exists()]
    return usable[0] if usable else None


@pytest.fixture
def postgres():
    """The address of a database of a cluster of its own, run by a user other than root."""
    psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
    binaries = find_postgres()
    if binaries is None:
        pytest.skip("no PostgreSQL binaries here")
    as_user = []
    if os.geteuid() == 0:  # which PostgreSQL refuses
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL refuses root and there is no setpriv")
        as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    root = Path(tempfile.mkdtemp(prefix="raysl-postgres-"))  # tmp_path is closed to that user
    root.chmod(0o755)
    if as_user:
        os.chown(root, 65534, 65534)
    port = free_port()
    server = None
    try:
        init = [binaries / "initdb", "-D", root / "data", "-U", "raysl", "-A", "trust", "-N"]
        done = subprocess.run([*as_user, *init], capture_output=True, text=True, cwd=root)
        assert done.returncode == 0, done.stderr
        options = ["-D", root / "data", "-p", str(port), "-k", root, "-h", "127.0.0.1", "-F"]
        with (root / "log").open("w") as log:
            server = subprocess.Popen(
                [*as_user, binaries / "postgres", *options], stdout=log, stderr=log, cwd=root
            )
        for _ in range(100):
            try:
                psycopg.connect(f"postgresql://raysl@127.0.0.1:{port}/postgres").close()
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        yield f"postgresql://raysl@127.0.0.1:{port}/postgres", server
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGINT)
            server.wait(timeout=30)
        shutil.rmtree(root)


@pytest.mark.slow
def test_the_mirror_works_with_postgresql_and_outlives_its_end(directory, postgres):
    address, server = postgres
    warnings: list[str] = []
    mirror = Mirror(directory, address, warn=warnings.append, flush_seconds=0)
    ledger = open_ledger(directory, mirror)
    run_trial(ledger)
    run_trial(ledger, num_steps=5)
    mirror = Mirror(directory, address, warn=warnings.append, flush_seconds=0)
    run_study(directory, mirror)
    write_numbers(directory)
    mirror.report(directory)
    assert warnings == []
    assert sync(directory, address).runs_unchanged == 10
    assert len(runs_of(address)) == 6
    for run in runs_of(address).values():
        assert history(address, run, "train/loss") == [*losses(), (NUM_STEPS + 1, 7.0)]
        result = read_result(directory / "trials" / run.data.tags["raysl.digest"])
        assert {k: run.data.metrics[k] for k in result.metrics} == result.metrics
    assert history(address, runs_of(address, "curve")[SIMCLR], f"curve/{METRIC}") == [
        (500, 75.0),
        (2000, 90.0),
    ]
    server.send_signal(signal.SIGINT)
    server.wait(timeout=30)
    began = time.monotonic()
    mirror.report(directory)
    assert mirror.behind
    assert len(warnings) == 1
    assert time.monotonic() - began < 15  # MLflow alone would wait for minutes
