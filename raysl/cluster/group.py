"""A trial of several workers: a Ray Train group inside the Tune trial, with DDP in `train`."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.actor import ActorHandle

from raysl.cluster.mailbox import Mailbox, News
from raysl.cluster.running import Running
from raysl.cluster.task import Task
from raysl.data.store import load_splits
from raysl.recipe import Recipe
from raysl.result import TrialResult, read_result
from raysl.state import Interrupted, StopTrial, World
from raysl.trial import failed, run_trial

TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # of 2 s: saves several seconds a trial
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process less; the checkpoint is ours
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # a node that must boot first takes minutes
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
RELAY_SECONDS = 0.5  # between two looks into the mailbox
GROUP_STARTS = 3  # attempts at getting the workers; Ray's default is to try for ever


def run_group(running: Running) -> TrialResult:
    """Run the trial in a group of workers and wait for rank 0's result.

    The group is not restarted by Ray Train: a failure is the ledger's to count and to retry, and
    the new attempt resumes from the checkpoint in the trial's directory.
    """
    task = running.task
    stored = read_result(Path(task.directory))
    if stored is not None and stored.status == "ok" and (stored.final or not task.final):
        return stored
    os.environ.update(TRAIN_ENVIRONMENT)  # Train hands these on to its controller and workers
    mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
    relay = threading.Thread(target=_relay, args=(running, mailbox), daemon=True)
    relay.start()
    per_worker = {"CPU": float(task.cpus_per_worker)}
    if task.gpus_per_worker:
        per_worker["GPU"] = task.gpus_per_worker
    trainer = ray.train.torch.TorchTrainer(
        work,
        train_loop_config={"task": task, "mailbox": mailbox},
        torch_config=ray.train.torch.TorchConfig(
            backend="nccl" if task.gpus_per_worker else "gloo"
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=task.workers,
            use_gpu=task.gpus_per_worker > 0,
            resources_per_worker=per_worker,
        ),
        run_config=ray.train.RunConfig(
            name=Path(task.directory).name,
            storage_path=task.storage,
            failure_config=ray.train.FailureConfig(
                max_failures=0, controller_failure_limit=GROUP_STARTS
            ),
        ),
    )
    try:
        result: TrialResult | None = trainer.fit().return_value
    except ray.train.WorkerGroupError as error:
        return first_failure(error, ray.get(mailbox.failed.remote()), task)
    finally:
        ray.kill(mailbox)
    if result is None:
        raise Interrupted("the group saved its state")
    return result


def work(config: dict[str, Any]) -> TrialResult | None:
    """One worker's part. Only rank 0 returns something; it is over when rank 0 is.

    Rank 0 alone hears of a stop, so the others may be left waiting in a collective: they train in
    a thread that nobody waits for once rank 0 is done, and the group ends as after any success.
    """
    task: Task = config["task"]
    mailbox: ActorHandle = config["mailbox"]
    torch.set_num_threads(task.cpus_per_worker)
    if ray.train.get_context().get_world_rank() == 0:
        result = _train(task, mailbox)
        ray.get(mailbox.close.remote())
        return result
    errors: list[Exception] = []

    def follow() -> None:
        try:
            _train(task, mailbox)
        except Exception as error:
            errors.append(error)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    while follower.is_alive() and not ray.get(mailbox.closed.remote()):
        follower.join(RELAY_SECONDS)
    if errors and not ray.get(mailbox.closed.remote()):
        raise errors[0]
    return None


def _train(task: Task, mailbox: ActorHandle) -> TrialResult | None:
    context = ray.train.get_context()
    recipe = Recipe.from_dict(task.recipe)
    world = World(context.get_world_rank(), context.get_world_size())
    interrupt = threading.Event()
    answer = None

    def report(step: int, metrics: Mapping[str, float]) -> None:
        nonlocal answer
        orders: set[str] = (
            set() if answer is None else ray.get(answer)
        )  # of the last report: no waiting
        answer = mailbox.post.remote(News(step, dict(metrics)))
        if "interrupt" in orders:
            interrupt.set()
        elif "stop" in orders:
            raise StopTrial("a scheduler ended the trial early")

    try:
        return run_trial(
            recipe,
            load_splits(task.source),
            directory=Path(task.directory),
            final=task.final,
            device=ray.train.torch.get_device() if task.device == "cuda" else "cpu",
            report=report,
            interrupt=interrupt,
            world=world,
        )
    except Interrupted:
        return None
    except Exception as error:
        result = failed(recipe, error, final=task.final)
        ray.get(mailbox.fail.remote(world.rank, result))
        raise


def _relay(running: Running, mailbox: ActorHandle) -> None:
    """Carry news and orders between the group and the Tune trial until the trial is over."""
    while running.thread.is_alive():
        orders: set[str] = set()
        if running.stop.is_set():
            orders.add("stop")
        if running.interrupt.is_set():
            orders.add("interrupt")
        try:
            news = ray.get(mailbox.exchange.remote(orders), timeout=60)
        except ray.exceptions.RayError:
            return  # the mailbox was closed with its trial
        if news.metrics:
            running.announce(news)
        running.thread.join(RELAY_SECONDS)


def first_failure(
    error: ray.train.WorkerGroupError, failures: Mapping[int, TrialResult], task: Task
) -> TrialResult:
    """Why the group failed: a worker that died, or the first that raised.

    When one worker ends the others fail in their next collective, so theirs is not the cause.
    """
    died = {rank: e for rank, e in error.worker_failures.items() if rank not in failures}
    if failures and not died:
        return next(iter(failures.values()))
    rank, cause = min(died.items())
    last_line = str(cause).strip().splitlines()[-1]
    text = f"Worker {rank} of {task.workers} ended: {last_line}"
    return failed(Recipe.from_dict(task.recipe), text, final=task.final)
