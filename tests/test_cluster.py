"""Studies on a real Ray: same numbers as the plain loop, and nothing lost by kills and stops."""

import dataclasses
import os
import resource
import signal
import stat
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray_processes import descendants, kill_one, leftovers, listening, two_nodes, worker_pids
from ray_studies import (
    DIGITS,
    GoodThenBad,
    Watcher,
    another_ray,
    ledger_of,
    metrics_of,
    once,
    study_of,
)

from raysl.cluster import run_on_ray
from raysl.cluster.mailbox import News
from raysl.cluster.pruning import Pruning
from raysl.cluster.session import session, write_token
from raysl.cluster.tune import concurrent_trials
from raysl.data.store import load_splits
from raysl.study.local import run_locally
from raysl.study.spec import Resources

pytestmark = pytest.mark.ray


class WorkerWatcher(Watcher):
    """Notes the processes of the trial's workers at its end, and their environments."""

    def __init__(self, act: Callable[[Any], None] = lambda proposal: None) -> None:
        super().__init__(act)
        self.pids: list[set[int]] = []
        self.environments: list[bytes] = []

    def finished(self, proposal, result):
        super().finished(proposal, result)
        self.pids.append(worker_pids())
        self.environments += [Path(f"/proc/{p}/environ").read_bytes() for p in self.pids[-1]]


@pytest.mark.slow
def test_ray_and_a_plain_loop_give_identical_metrics(store, tmp_path):
    study = study_of(store, arms=("simclr", "scratch", "random"), changes={"num_evaluations": 2})
    study = study.with_overrides({"scratch.duration": "4 steps"})
    plain = ledger_of(study, tmp_path / "plain")
    run_locally(plain, load_splits(store))
    watcher = Watcher()
    on_ray = ledger_of(study, tmp_path / "ray", watcher)
    before = os.environ.copy()
    run_on_ray(on_ray, num_cpus=2)
    assert len(plain.results) == 8
    assert metrics_of(on_ray) == metrics_of(plain)
    assert {"train/loss", "images_per_second", "val/linear_top1"} <= set().union(*watcher.reports)
    assert dict(os.environ) == before
    assert leftovers() == []


@pytest.mark.slow
def test_an_own_ray_is_closed_to_the_network_and_to_other_users():
    with session(address=None, num_cpus=1) as folder:
        processes = [os.getpid(), *descendants(os.getpid())]
        assert len(processes) > 3
        assert set(listening(processes)) == {"127.0.0.1"}
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert os.environ["RAY_AUTH_MODE"] == "token"
    assert not folder.exists()
    assert leftovers() == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_trials_on_ray_keep_the_memory_that_an_update_frees():
    """In a thread, as trials run there: 160 MB an update would be 40,000 pages of 4 KiB."""

    def pages_of_updates() -> list[int]:
        import torch

        from raysl.memory import keep_freed_memory

        found = []

        def update() -> None:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            parts = [torch.ones(10 * 2**20) for _ in range(4)]
            del parts
            found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

        keep_freed_memory()
        for _ in range(10):
            thread = threading.Thread(target=update)
            thread.start()
            thread.join()
        return found

    with session(address=None, num_cpus=1):
        found = ray.get(ray.remote(pages_of_updates).remote())
    assert statistics.median(found) < 100


@pytest.mark.slow
def test_a_trial_that_could_never_fit_is_refused_with_the_numbers(store, tmp_path):
    ledger = ledger_of(study_of(store, cpus_per_worker=4), tmp_path)
    with pytest.raises(ValueError, match=r"1 workers with 4 CPUs .* nodes have 1 CPUs"):
        run_on_ray(ledger, num_cpus=1)


def test_pruning_without_evaluations_on_the_way_is_refused(store, tmp_path):
    ledger = ledger_of(study_of(store, scheduler="asha"), tmp_path)
    with pytest.raises(ValueError, match="set num_evaluations=10"):
        run_on_ray(ledger, num_cpus=1)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("auto", "reads HOST:PORT"),
        ("ray://head:10001", "reads HOST:PORT"),
        ("127.0.0.1:1", "No Ray cluster answers at 127.0.0.1:1; check the address"),
    ],
)
def test_an_address_without_a_cluster_is_refused_at_once(address, sentence, store, tmp_path):
    ledger = ledger_of(study_of(store), tmp_path)
    with pytest.raises(ValueError, match=sentence):
        run_on_ray(ledger, address=address, token_path=write_token(tmp_path / "token"))


def test_a_worker_fits_on_one_node_and_a_trial_on_several():
    resources = Resources(workers=2, cpus_per_worker=2)
    assert concurrent_trials(resources, [{"CPU": 3.0}] * 3) == 1
    assert concurrent_trials(resources, [{"CPU": 8.0}]) == 2
    on_gpus = Resources(workers=2, cpus_per_worker=1, gpus_per_worker=1)
    assert concurrent_trials(on_gpus, [{"CPU": 8.0}, {"CPU": 4.0, "GPU": 4.0}]) == 2
    with pytest.raises(ValueError, match="2 workers with 1 CPUs and 1 GPUs each"):
        concurrent_trials(on_gpus, [{"CPU": 8.0}])


def test_pruning_compares_search_trials_of_one_cell_only(store, tmp_path):
    study = study_of(
        store, space=GoodThenBad(), trials=3, scheduler="asha", changes={"num_evaluations": 10}
    )
    ledger = ledger_of(study, tmp_path)
    searched = [ledger.next() for _ in range(6)]
    small = [p for p in searched if p.cell["pool_size"] == 16]
    large = [p for p in searched if p.cell["pool_size"] == 32]
    confirmed = dataclasses.replace(small[2], phase="confirm")
    scores = [(large[0], 90.0), (small[0], 10.0), (small[1], 5.0), (confirmed, 0.0)]
    proposals = {str(number): proposal for number, (proposal, _) in enumerate(scores)}
    pruning = Pruning(study, proposals)
    stopped = []
    for number, (_, score) in enumerate(scores):
        order = SimpleNamespace(remote=lambda number=number: stopped.append(number))
        actor = SimpleNamespace(ray_actor=SimpleNamespace(end_early=order))
        trial = SimpleNamespace(trial_id=str(number), temporary_state=actor)
        news = News(10, {"val/linear_top1": score, "progress": 0.1})
        assert pruning.on_trial_result(None, trial, {"news": news}) == "CONTINUE"
    assert stopped == [2]


@pytest.mark.slow
def test_a_killed_trial_is_tried_again_and_others_go_on(store, tmp_path):
    study = study_of(
        store, arms=("simclr", "scratch"), sizes=(16,), seeds=1,
        steps=1000,  # seconds, so that the kill comes in time
    )  # fmt: skip
    study = study.with_overrides({"scratch.duration": "4 steps"})
    plain = ledger_of(study, tmp_path / "plain")
    run_locally(plain, load_splits(store))
    watcher = Watcher(once(lambda: kill_one("ray::Trial"), number=0))
    ledger = ledger_of(study, tmp_path / "ray", watcher)
    run_on_ray(ledger, num_cpus=1)
    assert sorted(result.attempts for result in watcher.finishes) == [1, 2]
    assert metrics_of(ledger) == metrics_of(plain)


@pytest.mark.slow
def test_a_trial_that_always_fails_is_kept_as_failed_with_its_error(store, tmp_path):
    watcher = Watcher()
    changes = {"optim.name": "sgd", "optim.lr": 1e30, "optim.warmup": 0.0}
    ledger = ledger_of(study_of(store, sizes=(16,), seeds=1, changes=changes), tmp_path, watcher)
    run_on_ray(ledger, num_cpus=1)
    (result,) = watcher.finishes
    assert (result.status, result.attempts) == ("failed", 3)
    assert "FloatingPointError: The loss was not finite in update" in (result.error or "")


@pytest.mark.slow
def test_asha_stops_search_trials_early_and_later_ones_run(tmp_path):
    study = study_of(
        DIGITS, sizes=(32,), seeds=1, steps=300, space=GoodThenBad(), trials=4, scheduler="asha",
        changes={"num_evaluations": 10},
    )  # fmt: skip
    watcher = Watcher()
    ledger = ledger_of(study, tmp_path, watcher)
    run_on_ray(ledger, num_cpus=1)
    *search, confirmed = watcher.finishes
    assert [result.status for result in search] == ["ok", "stopped", "stopped", "stopped"]
    assert all(result.cost["steps"] < 300 for result in search[1:])
    assert all("val/linear_top1" in result.metrics for result in search)
    assert confirmed.status == "ok"
    assert "test/linear_top1" in confirmed.metrics


@pytest.mark.slow
def test_ctrl_c_saves_the_running_trial_and_the_next_call_finishes_it(store, tmp_path):
    study = study_of(store, sizes=(32,), steps=800, seeds=1)
    plain = ledger_of(study, tmp_path / "plain")
    run_locally(plain, load_splits(store))
    pressed = []

    def press() -> None:
        pressed.append(time.time())
        os.kill(os.getpid(), signal.SIGINT)

    watcher = Watcher(once(press, number=0))
    with pytest.raises(KeyboardInterrupt):
        run_on_ray(ledger_of(study, tmp_path / "ray", watcher), num_cpus=1)
    assert time.time() - pressed[0] < 10
    assert watcher.finishes == []
    assert list((tmp_path / "ray").glob("trials/*/checkpoint.pt"))
    assert leftovers() == []
    again = ledger_of(study, tmp_path / "ray")
    run_on_ray(again, num_cpus=1)
    assert metrics_of(again) == metrics_of(plain)


@pytest.mark.slow
def test_trials_share_their_workers_and_a_killed_one_gives_their_cpus_to_the_next(tmp_path):
    """Attempt 1 loses its Tune trial, the second trial is pruned (test_groups.py kills a worker).

    Beside another Ray on this machine, where Ray's clean-up must know which one is meant.
    """
    study = study_of(
        DIGITS, sizes=(32,), seeds=1, steps=300, space=GoodThenBad(), trials=2, scheduler="asha",
        workers=2, changes={"num_evaluations": 10},
    )  # fmt: skip
    watcher = WorkerWatcher(once(lambda: kill_one("ray::Trial"), number=0))
    ledger = ledger_of(study, tmp_path, watcher)
    with another_ray():
        run_on_ray(ledger, num_cpus=2)
    assert [result.status for result in watcher.finishes] == ["ok", "stopped", "ok"]
    assert [result.attempts for result in watcher.finishes] == [2, 1, 1]
    assert len(watcher.pids[0]) == 2
    assert watcher.pids == [watcher.pids[0]] * 3
    assert leftovers() == []


@pytest.mark.slow
def test_a_trial_of_two_workers_spans_two_nodes_of_a_cluster(store, tmp_path):
    study = study_of(store, sizes=(32,), seeds=1, workers=2)
    watcher = WorkerWatcher()
    with two_nodes() as (address, token):
        ledger = ledger_of(study, tmp_path / "ray", watcher)
        run_on_ray(ledger, address=address, token_path=token)
    (result,) = ledger.results.values()
    assert result.status == "ok"
    assert len(watcher.environments) == 2
    for variables in watcher.environments:  # as in a Ray of its own, where processes inherit it
        assert b"MALLOC_ARENA_MAX=1" in variables
    # Each node has one CPU and each worker needs one, so no node can have held both.
    assert result.cost["device_seconds"] == 2 * result.cost["seconds"]
