"""One worker of a group: it takes one trial after the other, with DDP in `train`."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
import torch
from ray.actor import ActorHandle

from raysl.cluster.mailbox import News
from raysl.cluster.memory import let_go
from raysl.cluster.task import Task
from raysl.data.store import load_splits
from raysl.memory import keep_freed_memory
from raysl.recipe import Recipe
from raysl.result import TrialResult
from raysl.signals import Interrupted, StopTrial
from raysl.state import World
from raysl.trial import failed, ignore_progress, run_trial

LOOK_SECONDS = 0.5  # how soon a worker that raised is noticed
LEAVE_SECONDS = 2.0  # for the other ranks to end once rank 0 has; they take milliseconds


def work(config: dict[str, Any]) -> None:
    """Ray Train's function of every worker: trials until the mailbox has no more.

    The process and its process group stay from trial to trial. A trial that raises ends the
    group, since its other workers wait in a collective.
    """
    keep_freed_memory()
    mailbox: ActorHandle = config["mailbox"]
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size())
    part = _lead if world.rank == 0 else _follow
    in_step = True
    while in_step and (task := ray.get(mailbox.take.remote(world.rank))) is not None:
        device = ray.train.torch.get_device() if task.device == "cuda" else torch.device("cpu")
        torch.set_num_threads(task.cpus_per_worker)
        in_step = part(task, mailbox, world, device)
        let_go()
    ray.get(mailbox.end.remote())


def _lead(task: Task, mailbox: ActorHandle, world: World, device: torch.device) -> bool:
    """Rank 0's part: it hears the orders and has the result; whether another trial may follow."""
    interrupt = threading.Event()
    answer = None

    def report(step: int, metrics: Mapping[str, float]) -> None:
        nonlocal answer
        orders: set[str] = set()
        if answer is not None:
            orders = ray.get(answer)  # to the last report: no waiting
        answer = mailbox.post.remote(News(step, dict(metrics)))
        if "interrupt" in orders:
            interrupt.set()
        elif "stop" in orders:
            raise StopTrial("a scheduler ended the trial early")

    try:
        result = _train(task, mailbox, world, device, report=report, interrupt=interrupt)
    except Interrupted:
        result = None
    if answer is not None:
        ray.get(answer)  # so that no news of this trial comes in during the next
    ray.get(mailbox.finish.remote(result))
    return result is not None


def _follow(task: Task, mailbox: ActorHandle, world: World, device: torch.device) -> bool:
    """Another rank's part: over when rank 0 is; whether another trial may follow.

    Rank 0 may leave alone, and the others are then left waiting in a collective: so they train in
    a thread that nobody waits for once rank 0 is over, and the group ends.
    """
    errors: list[Exception] = []

    def follow() -> None:
        try:
            _train(task, mailbox, world, device)
        except Exception as error:
            errors.append(error)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    finished = False
    while follower.is_alive() and not finished:
        finished = ray.get(mailbox.finished.remote(LOOK_SECONDS))
    if errors and not ray.get(mailbox.finished.remote(0.0)):
        raise errors[0]
    follower.join(LEAVE_SECONDS)
    return not follower.is_alive() and not errors


def _train(
    task: Task,
    mailbox: ActorHandle,
    world: World,
    device: torch.device,
    *,
    report: Callable[[int, Mapping[str, float]], None] = ignore_progress,
    interrupt: threading.Event | None = None,
) -> TrialResult:
    if device.type == "cuda":
        torch.cuda.set_device(device)  # it is a thread's own, and objects are sent through it
    recipe = Recipe.from_dict(task.recipe)
    try:
        return run_trial(
            recipe,
            load_splits(task.source),
            directory=Path(task.directory),
            final=task.final,
            device=device,
            report=report,
            interrupt=interrupt,
            world=world,
        )
    except Exception as error:
        result = failed(recipe, error, final=task.final)
        ray.get(mailbox.fail.remote(world.rank, result))
        raise
