"""Trials of several workers: a Ray Train group beside the Tune trial, kept for the next one."""

import os
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path

import ray
import ray.train
import ray.train.torch
from ray.train.v2._internal.constants import ENV_VARS_TO_PROPAGATE

from raysl.cluster.loop import work
from raysl.cluster.mailbox import Mailbox, Reply, calls_at_once
from raysl.cluster.running import Running, failed_trial
from raysl.cluster.task import Task
from raysl.result import TrialResult, is_over, read_result
from raysl.signals import Interrupted

TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # of 2 s: saves seconds a start and a failure
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process less; the checkpoint is ours
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # a node that must boot first takes minutes
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
RELAY_SECONDS = 0.5  # between two looks into the mailbox
GROUP_STARTS = 3  # attempts at getting the workers; Ray's default is to try for ever
END_SECONDS = 30.0  # for the workers of a group of another shape to give back their CPUs
IDLE_SECONDS = 60.0  # an unused group keeps nodes up; starting one takes about 15 s


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
    return failed_trial(task, f"Worker {rank} of {task.workers} ended: {last_line}")


def shape(task: Task) -> tuple[int, int, float]:
    """What a group must have for this trial: workers, and each one's CPUs and GPUs."""
    return task.workers, task.cpus_per_worker, task.gpus_per_worker


class Group:
    """Workers of Ray Train that take one trial after the other, until one fails or leaves early.

    `thread` lives as long as the group holds its CPUs; `error` is what Ray Train ended with.
    """

    def __init__(self, task: Task):
        self.shape = shape(task)
        self.num_trials = 0
        self.error: Exception | None = None
        actor = ray.remote(num_cpus=0, max_concurrency=calls_at_once(task.workers))(Mailbox)
        self.mailbox = actor.remote(task.workers, idle_seconds=IDLE_SECONDS)
        self.thread = threading.Thread(
            target=self._run, args=(task,), name="raysl group", daemon=True
        )
        self.thread.start()

    @property
    def alive(self) -> bool:
        return self.thread.is_alive()

    def submit(self, task: Task) -> bool:
        """Start the trial; False if the workers are not ready for one after a moment, or gone."""
        accepted: bool = ray.get(self.mailbox.submit.remote(task, RELAY_SECONDS))
        self.num_trials += accepted
        if not accepted:
            self.thread.join(RELAY_SECONDS)
        return accepted

    def exchange(self, orders: set[str]) -> Reply:
        """Orders to the trial against its news, or its result at once when it is over."""
        reply: Reply = ray.get(self.mailbox.exchange.remote(orders, RELAY_SECONDS))
        return reply

    def failure(self, task: Task) -> TrialResult:
        """The result of the trial with which the group ended; raises what was not its workers'."""
        if isinstance(self.error, ray.train.WorkerGroupError):
            return first_failure(self.error, ray.get(self.mailbox.failed.remote()), task)
        raise self.error or RuntimeError("The group of workers ended before its trial.")

    def end(self, seconds: float) -> None:
        """Let the workers go; they have that long to give back what they hold by themselves."""
        self.mailbox.end.remote()
        self.thread.join(seconds)
        ray.kill(self.mailbox)

    def _run(self, task: Task) -> None:
        os.environ.update(TRAIN_ENVIRONMENT)  # Train hands these on to its controller and workers
        # So that Ray's own clean-up after a kill asks this cluster: where two run on one machine it
        # finds neither by itself, and the CPUs of the killed group would never come back.
        os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
        ENV_VARS_TO_PROPAGATE.add("RAY_ADDRESS")
        per_worker = {"CPU": float(task.cpus_per_worker)}
        if task.gpus_per_worker:
            per_worker["GPU"] = task.gpus_per_worker
        trainer = ray.train.torch.TorchTrainer(
            work,
            train_loop_config={"mailbox": self.mailbox},
            torch_config=ray.train.torch.TorchConfig(
                backend="nccl" if task.gpus_per_worker else "gloo"
            ),
            scaling_config=ray.train.ScalingConfig(
                num_workers=task.workers,
                use_gpu=task.gpus_per_worker > 0,
                resources_per_worker=per_worker,
            ),
            run_config=ray.train.RunConfig(
                name=f"group-{uuid.uuid4().hex}",
                storage_path=task.storage,
                failure_config=ray.train.FailureConfig(
                    max_failures=0, controller_failure_limit=GROUP_STARTS
                ),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            self.error = error


class Groups:
    """Where a Tune trial's process runs its trials: in one group for as long as that lasts."""

    def __init__(self) -> None:
        self.group: Group | None = None

    def run(self, running: Running) -> TrialResult:
        """Run the trial in a group of workers and wait for rank 0's result.

        A group is not restarted by Ray Train: a failure is the ledger's to count and to retry,
        and the new attempt resumes in a new group from the checkpoint in the trial's directory.
        """
        task = running.task
        stored = read_result(Path(task.directory))
        if is_over(stored, final=task.final):
            return stored
        group = self._fitting(task)
        while not group.submit(task):
            if running.interrupt.is_set():
                raise Interrupted("the group had not started")
            if not group.alive:
                if not group.num_trials:
                    return group.failure(task)  # it could not be started
                group = self._fitting(task)
        while True:
            alive = group.alive  # looked at first: what it said before its end is still there
            reply = group.exchange(running.orders)
            if reply.news.metrics:
                running.announce(reply.news)
            if reply.result is not None:
                return reply.result
            if reply.over:
                raise Interrupted("the group saved its state")
            if not alive:
                return group.failure(task)

    def end(self, seconds: float) -> None:
        """Let go of the group, which has that long to give back what it holds."""
        if self.group is not None:
            self.group.end(seconds)
            self.group = None

    def _fitting(self, task: Task) -> Group:
        """The group of the trial before, or a new one where that is over or has another shape."""
        if self.group is None or not self.group.alive or self.group.shape != shape(task):
            self.end(END_SECONDS)
            self.group = Group(task)
        return self.group
