"""kill -9 in the middle of a study through Ray, then the same command: nothing twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raysl import cli

STUDY = Path(__file__).parents[1] / "studies" / "size_threshold.py"
ARGUMENTS = ["--small", "seeds=2", "duration=60 steps", "name=resumed"]
SMALL_ENCODER = ["--set", "encoder.width=8"]


def arguments(runs, *options):
    return ["run", str(STUDY), *ARGUMENTS, *SMALL_ENCODER, "--runs", str(runs), *options]


def command(runs, *options):
    return [sys.executable, "-m", "raysl.cli", *arguments(runs, *options)]


def results(runs):
    return sorted((runs / "resumed" / "trials").glob("*/result.json"))


def metrics(runs):
    found = {}
    for path in results(runs):
        content = json.loads(path.read_text())
        assert content["status"] == "ok", content["error"]
        found[content["digest"]] = content["metrics"]
    return found


@pytest.mark.slow
@pytest.mark.ray
def test_a_killed_study_goes_on_where_it_was_and_ends_as_if_it_had_not_been_killed(
    tmp_path, monkeypatch
):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(command(killed), stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while len(results(killed)) < 3 and time.monotonic() < deadline:
        assert process.poll() is None, "the study ended before it could be killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in results(killed)}
    assert 3 <= len(done) < 8

    again = subprocess.run(command(killed), capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    after = {path: path.stat().st_mtime_ns for path in results(killed)}
    # A trial that was ending when its driver died may have written its result a moment later.
    kept = [path for path in done if done[path] == after[path]]
    assert len(kept) >= len(done) - 2
    assert len(after) == 8

    monkeypatch.setattr(sys, "argv", ["raysl", *arguments(whole, "--local")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert metrics(killed) == metrics(whole)
    tables = [json.loads((r / "resumed" / "report.json").read_text()) for r in (killed, whole)]
    assert tables[0]["cells"] == tables[1]["cells"]
    assert tables[0]["answer"] == tables[1]["answer"]

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{killed}/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == "resumed")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    digests = [r.data.tags["raysl.digest"] for r in runs if "raysl.digest" in r.data.tags]
    assert sorted(digests) == sorted(metrics(killed))
    for run in runs:
        if "raysl.digest" in run.data.tags:
            assert run.info.status == "FINISHED"
            history = client.get_metric_history(run.info.run_id, "train/loss")
            steps = [point.step for point in history]
            assert len(steps) == len(set(steps))


@pytest.mark.slow
@pytest.mark.ray
def test_ctrl_c_stops_cleanly_and_says_how_to_resume(tmp_path):
    process = subprocess.Popen(
        command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(results(tmp_path)) < 2 and time.monotonic() < deadline:
        assert process.poll() is None, "the study ended before it could be interrupted"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=40)
    assert process.returncode == 130
    assert "Go on with:" in out
    assert "Traceback" not in err
    assert not list(tmp_path.rglob("*.new"))


@pytest.mark.slow
def test_sigterm_in_a_plain_loop_saves_the_running_trial_and_exits(tmp_path):
    process = subprocess.Popen(
        [*command(tmp_path, "--local"), "--set", "duration=100000 steps"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob("metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Go on with:" in out
    assert len(list(tmp_path.rglob("checkpoint.pt"))) == 1
