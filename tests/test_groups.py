"""Groups of workers that outlive a trial: kept after a success, given up after anything else."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray_processes import kill_one, worker_pids

from raysl.cluster.group import Groups
from raysl.cluster.mailbox import Mailbox, News
from raysl.cluster.running import Running
from raysl.cluster.session import session
from raysl.cluster.task import Task
from raysl.data.store import load_splits
from raysl.recipe import Recipe
from raysl.result import TrialResult
from raysl.trial import CHECKPOINT_FILE

START_SECONDS = 200.0  # of a group's workers, beside other tests
DIVERGING = {"optim.name": "sgd", "optim.lr": 1e30, "optim.warmup": 0.0}


def recipe_of(
    store: Path, *, method: str = "simclr", seed: int = 0, steps: int = 4, **changes
) -> Recipe:
    recipe = Recipe.create(
        method, dataset=load_splits(store).digest, pool_size=16, label_size=30, batch_size=8
    )
    base = {"encoder.width": 8, "duration": f"{steps} steps", "seed": seed}
    return recipe.with_overrides({**base, **changes})


def task_of(recipe: Recipe, store: Path, directory: Path, *, workers: int = 2) -> Task:
    return Task(
        recipe=recipe.to_dict(), source=str(store), directory=str(directory / recipe.digest()),
        final=False, storage=str(directory / "train"), workers=workers, cpus_per_worker=1,
        gpus_per_worker=0.0,
    )  # fmt: skip


def take(box: Mailbox, rank: int) -> list[Task | None]:
    """Where the worker's next trial appears once it has it."""
    taken: list[Task | None] = []
    threading.Thread(target=lambda: taken.append(box.take(rank)), daemon=True).start()
    wait_for(lambda: rank in box.ready)
    return taken


def wait_for(condition, *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def task(tmp_path) -> Task:
    return Task(
        recipe={}, source="", directory=str(tmp_path), final=False, storage="", workers=2,
        cpus_per_worker=1, gpus_per_worker=0.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def groups() -> Iterator[Groups]:
    """Those of one Ray of two CPUs: its start, and that of each group, takes many seconds."""
    with session(address=None, num_cpus=2, groups=True):
        yield Groups()


def test_a_trial_starts_once_all_workers_ask_for_it(task):
    box = Mailbox(2, idle_seconds=60)
    first = take(box, 0)
    assert not box.submit(task, 0.0)
    second = take(box, 1)
    assert box.submit(task, 0.0)
    wait_for(lambda: first == second == [task])
    assert not box.submit(task, 0.0)  # they are busy with this one


def test_news_orders_and_failures_of_a_trial_do_not_reach_the_next(task):
    box = Mailbox(1, idle_seconds=60)
    take(box, 0)
    assert box.submit(task, 0.0)
    assert box.post(News(3, {"train/loss": 1.0})) == set()
    assert box.exchange({"stop"}, 0.0).news == News(3, {"train/loss": 1.0})
    assert box.post(News(4, {"train/loss": 0.5})) == {"stop"}
    box.fail(0, TrialResult(digest="", recipe={}, status="failed", final=False))
    box.finish(None)
    assert box.exchange(set(), 60.0).over
    take(box, 0)
    assert box.submit(task, 0.0)
    reply = box.exchange(set(), 0.0)
    assert (reply.news, reply.over, reply.result, box.failed()) == (News(), False, None, {})
    assert box.post(News(1)) == set()
    assert not box.finished(0.0)


def test_the_others_wait_as_long_as_one_is_busy_and_only_then_for_a_trial(task):
    box = Mailbox(2, idle_seconds=0.05)
    second = take(box, 1)
    time.sleep(0.3)  # rank 0 evaluates
    first = take(box, 0)
    assert box.submit(task, 60.0)
    wait_for(lambda: first == second == [task])


def test_workers_leave_when_no_trial_comes_and_none_is_accepted_then(task):
    box = Mailbox(1, idle_seconds=0.05)
    taken: list[Task | None] = [box.take(0)]
    assert taken == [None]
    assert not box.submit(task, 60.0)


@pytest.mark.ray
@pytest.mark.slow
def test_a_stopped_trial_leaves_its_workers_to_the_next(groups, store, tmp_path):
    stopped = Running(task_of(recipe_of(store, steps=2000), store, tmp_path), groups.run)
    wait_for(lambda: stopped.take_news().step > 0, seconds=START_SECONDS)
    pids = worker_pids()
    stopped.stop.set()
    stopped.thread.join(60)
    assert stopped.result.status == "stopped"
    trained = recipe_of(store)
    for final in (False, True):  # the second only evaluates: rank 0 has the encoder's file
        task = dataclasses.replace(task_of(trained, store, tmp_path), final=final)
        after = Running(task, groups.run)
        after.thread.join(60)
        assert after.result.status == "ok"
        assert ("test/linear_top1" in after.result.metrics) == final
    after = Running(task_of(recipe_of(store, seed=1), store, tmp_path), groups.run)
    after.thread.join(60)
    assert after.result.status == "ok"
    assert worker_pids() == pids


@pytest.mark.ray
@pytest.mark.slow
def test_a_group_ends_with_a_failure_and_the_next_trial_has_another(groups, store, tmp_path):
    """A trial gives the same in both: after MoCo, with its teacher and queue, and as the first."""
    long, repeated = recipe_of(store, steps=2000), recipe_of(store, seed=1, steps=20)
    pids = []

    def finish(recipe: Recipe, directory: Path = tmp_path, **shape) -> TrialResult:
        running = Running(task_of(recipe, store, directory, **shape), groups.run)
        running.thread.join(START_SECONDS)
        assert running.result is not None
        return running.result

    assert finish(recipe_of(store, method="moco")).status == "ok"
    later = finish(repeated)
    assert later.status == "ok"
    pids.append(worker_pids())

    diverged = finish(recipe_of(store, **DIVERGING))
    assert diverged.status == "failed"
    assert "FloatingPointError: The loss was not finite in update" in diverged.error
    assert finish(repeated, tmp_path / "fresh").metrics == later.metrics
    pids.append(worker_pids())

    running = Running(task_of(long, store, tmp_path), groups.run)
    wait_for(lambda: running.take_news().step > 0, seconds=START_SECONDS)
    kill_one("ray::RayTrainWorker")
    running.thread.join(60)
    assert running.result.status == "failed"
    assert "Worker " in running.result.error
    assert " of 2 ended: " in running.result.error
    assert finish(recipe_of(store, seed=2)).status == "ok"
    pids.append(worker_pids())

    assert finish(recipe_of(store, seed=3), workers=1).status == "ok"
    pids.append(worker_pids())
    assert ray.available_resources()["CPU"] == 1

    running = Running(task_of(long, store, tmp_path, workers=1), groups.run)
    wait_for(lambda: running.take_news().step > 0, seconds=START_SECONDS)
    running.interrupt.set()
    running.thread.join(60)
    assert not running.thread.is_alive()
    assert running.result is None
    assert (Path(running.task.directory) / CHECKPOINT_FILE).exists()
    groups.end(60)
    wait_for(lambda: ray.available_resources()["CPU"] == 2)
    assert [len(found) for found in pids] == [2, 2, 2, 1]
    assert len(set().union(*pids)) == 7
