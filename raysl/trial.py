"""One trial from recipe to result, idempotent in its directory."""

import resource
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysl.data.images import Images, Splits, Subset, resident
from raysl.data.subset import nested_order, require_labels
from raysl.evaluation import Evaluation, evaluate
from raysl.evaluation.diagnostics import collapsed, diagnose
from raysl.methods.collapse import collapse_signs
from raysl.methods.supervised_source import SupervisedSourceConfig, source_images
from raysl.provenance import provenance
from raysl.recipe import Recipe
from raysl.result import (
    METRICS_FILE,
    TrialResult,
    is_over,
    read_result,
    write_correct,
    write_result,
)
from raysl.signals import Interrupted, StopTrial, signals
from raysl.state import (
    ALONE,
    TrainState,
    World,
    initial_state,
    read_checkpoint,
    save_tensors,
    told_by_rank_0,
)
from raysl.tracking import Jsonl
from raysl.train import evaluation_steps, shared_steps, train

CHECKPOINT_FILE = "checkpoint.pt"
ENCODER_FILE = "encoder.pt"
CHECKPOINT_SECONDS = 10.0
SIGNS = ("embedding_std", "embedding_rank", "target_entropy", "target_usage")  # of a collapse

Progress = Callable[[int, Mapping[str, float]], None]


def ignore_progress(step: int, metrics: Mapping[str, float]) -> None:
    """The progress of a trial that nobody watches."""


def run_trial(
    recipe: Recipe,
    splits: Splits,
    *,
    directory: Path,
    final: bool,
    device: torch.device | str = "cpu",
    report: Progress = ignore_progress,
    interrupt: threading.Event | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    world: World = ALONE,
) -> TrialResult:
    """Train, evaluate and write result.json; what is there already is not done again.

    A stored result is returned as it is; a checkpoint is resumed. `final` also evaluates the test
    split, which nothing else reads, and keeps which of its images were right (`stored_correct`).
    report(step, metrics) may raise StopTrial: the result then has status "stopped". SIGTERM,
    SIGINT or `interrupt` save and raise Interrupted. Any other exception leaves no result. With
    more than one worker every rank calls this; rank 0 writes, and all ranks obey its StopTrial
    together, at the next report that they make after the same update.
    """
    stored = read_result(directory) if world.rank == 0 else None
    if is_over(stored, final=final):
        return stored
    started = time.perf_counter()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    directory.mkdir(parents=True, exist_ok=True)
    pool, labelled = check_splits(recipe, splits)
    images = resident(trained_images(recipe, pool, labelled), device)
    state = initial_state(recipe, images, device=device)
    saved = read_checkpoint(directory / CHECKPOINT_FILE, world=world)
    if saved is not None:
        state.restore(saved)
    tracker = Jsonl(directory / METRICS_FILE) if world.rank == 0 else None
    looks = evaluation_steps(recipe, state.num_steps)
    common = shared_steps(recipe, state.num_steps) if world.size > 1 else frozenset()
    last_save = time.perf_counter()
    status = "ok"
    stop: StopTrial | None = None

    def assess(*, test: bool) -> tuple[Evaluation, dict[str, float]]:
        encoder = state.method.evaluated
        evaluation = evaluate(
            encoder,
            train=labelled,
            val=splits.val,
            test=splits.test if test else None,
            views=recipe.views,
            config=recipe.evaluation,
            device=device,
            head=state.method.head,
        )
        diagnosis = diagnose(
            encoder,
            splits.val,
            recipe.views,
            device=device,
            seed=recipe.seed,
            num_examples=recipe.evaluation.diagnostics_examples,
            batch_size=recipe.evaluation.batch_size,
        )
        return evaluation, diagnosis

    with signals(interrupt) as interrupted:

        def on_report(state: TrainState, metrics: Mapping[str, float]) -> None:
            nonlocal stop
            try:
                if tracker is not None:
                    record(tracker, state, metrics)
            except StopTrial as order:
                stop = order
            if world.size > 1:
                if state.step in common and told_by_rank_0(stop is not None, device):
                    raise stop or StopTrial("rank 0 was told to end")
            elif stop is not None:
                raise stop

        def record(tracker: Jsonl, state: TrainState, metrics: Mapping[str, float]) -> None:
            nonlocal last_save
            if state.step in looks:
                found, diagnosis = assess(test=False)
                metrics = {**metrics, **found.metrics, **_prefixed(diagnosis)}
            due = time.perf_counter() - last_save > checkpoint_seconds
            if due or interrupted.is_set():
                state.save(directory / CHECKPOINT_FILE)
                last_save = time.perf_counter()
            tracker.log(state.step, metrics)
            if interrupted.is_set():
                raise Interrupted(f"saved after update {state.step} of {state.num_steps}")
            report(state.step, metrics)

        trained = (
            stored is not None and stored.status != "failed" and (directory / ENCODER_FILE).exists()
        )
        if world.size > 1:
            trained = told_by_rank_0(trained, device)
        if trained and stored is not None:
            _load_encoder(state, directory)
            status = stored.status
        earlier = state.seconds  # of processes before this one
        if not trained:
            try:
                state = train(
                    recipe,
                    images,
                    device=device,
                    report=on_report,
                    state=state,
                    validation=splits.val,
                    interrupted=interrupted.is_set,
                    world=world,
                )
            except StopTrial:
                status = "stopped"
                stop = None  # it holds all that the training did
                if state.best is not None:
                    state.method.load_state_dict(state.best["method"])

    if world.rank > 0:
        return TrialResult(
            digest=recipe.digest(), recipe=recipe.to_dict(), status="ok", final=final
        )
    evaluation, diagnosis = assess(test=final)
    signs = {f"train/{name}": state.metrics[name] for name in SIGNS if name in state.metrics}
    metrics = evaluation.metrics | _prefixed(diagnosis) | signs
    assert tracker is not None
    tracker.log(state.step, metrics)
    dead = collapsed(diagnosis) or collapse_signs(state.metrics)
    flags = ("collapsed",) if dead else ()
    seconds = earlier + time.perf_counter() - started
    result = TrialResult(
        digest=recipe.digest(),
        recipe=recipe.to_dict(),
        status="ok" if status == "ok" else "stopped",
        final=final,
        metrics=metrics,
        protocols=evaluation.protocols,
        flags=flags,
        cost=_cost(state, seconds, world=world, device=device),
        provenance=provenance(splits, device=device),
    )
    _save_encoder(state, directory)
    write_correct({name: right.numpy() for name, right in evaluation.correct.items()}, directory)
    write_result(result, directory)
    (directory / CHECKPOINT_FILE).unlink(missing_ok=True)
    return result


def attempt_trial(recipe: Recipe, splits: Splits, **arguments: Any) -> TrialResult:
    """`run_trial`, with an exception turned into a result of status "failed"; nothing is stored."""
    try:
        return run_trial(recipe, splits, **arguments)
    except Interrupted:
        raise
    except Exception as error:
        if torch.device(arguments.get("device", "cpu")).type == "cuda":
            torch.cuda.synchronize()  # raises where the error has spoilt the process for good
        return failed(recipe, error, final=arguments["final"])


def failed(recipe: Recipe, error: BaseException | str, *, final: bool) -> TrialResult:
    """The result of a trial that raised `error`: its last lines, the sentence first."""
    if isinstance(error, BaseException):
        trace = "".join(traceback.format_exception(error)).strip().splitlines()
        error = "\n".join([f"{type(error).__name__}: {error}", *trace[-12:]])
    return TrialResult(
        digest=recipe.digest(),
        recipe=recipe.to_dict(),
        status="failed",
        final=final,
        error=error,
    )


def check_splits(recipe: Recipe, splits: Splits) -> tuple[Images, Images]:
    """The pool and the labelled images of this recipe, or a sentence that says what is wrong."""
    if recipe.dataset != splits.digest:
        raise ValueError(
            f"The recipe is for data {recipe.dataset}, but {splits.source or 'the store'} holds "
            f"{splits.digest}; start the study anew under another name."
        )
    num_pool = len(splits.pool)
    if recipe.pool_size is not None and recipe.pool_size > num_pool:
        raise ValueError(
            f"pool_size={recipe.pool_size} is above the {num_pool} images of the pool; "
            f"use sizes up to {num_pool}."
        )
    require_labels(splits, recipe.label_size)
    pool_order = nested_order(num_pool, recipe.subset_seed)[: recipe.pool_size]
    labels = splits.train.labels.numpy()
    label_order = nested_order(len(labels), recipe.subset_seed, labels)[: recipe.label_size]
    pool = Subset(splits.pool, _indices(pool_order))
    return pool, Subset(splits.train, _indices(label_order))


def trained_images(recipe: Recipe, pool: Images, labelled: Images) -> Images:
    """The images that the recipe's training cycles through, of those that a trial may see."""
    if isinstance(recipe.method, SupervisedSourceConfig):
        images = source_images(recipe.method, shape=labelled.shape)
        if recipe.batch_size > len(images):
            raise ValueError(
                f"batch_size={recipe.batch_size} is larger than the {len(images)} images of "
                f"{recipe.method.data}; set batch_size={len(images)} or less."
            )
        return images
    return pool if recipe.trains_on == "pool" else labelled


def _cost(
    state: TrainState, seconds: float, *, world: World, device: torch.device | str
) -> dict[str, float]:
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cost = {
        "seconds": seconds,
        "train_seconds": state.seconds,
        "device_seconds": seconds * world.size,
        "examples": float(state.num_examples),
        "steps": float(state.step),
        "peak_memory_mb": peak_kb / 1024,
    }
    if state.seconds > 0:
        cost["images_per_second"] = state.num_examples / state.seconds
    if torch.device(device).type == "cuda":
        cost["peak_device_memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
    return cost


def _prefixed(diagnosis: Mapping[str, float]) -> dict[str, float]:
    return {f"features/{name}": value for name, value in diagnosis.items()}


def _indices(order: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(order)).long()


def _save_encoder(state: TrainState, directory: Path) -> None:
    """The evaluated encoder and head: what a later final evaluation, and the user, load."""
    head = state.method.head
    content = {
        "encoder": state.method.evaluated.state_dict(),
        "head": None if head is None else head.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
        "num_examples": state.num_examples,
        "metrics": state.metrics,
    }
    save_tensors(content, directory / ENCODER_FILE)


def _load_encoder(state: TrainState, directory: Path) -> None:
    saved = torch.load(directory / ENCODER_FILE, map_location="cpu", weights_only=True)
    state.method.evaluated.load_state_dict(saved["encoder"])
    if state.method.head is not None:
        state.method.head.load_state_dict(saved["head"])
    state.step, state.seconds = saved["step"], saved["seconds"]
    state.num_examples = saved["num_examples"]
    state.metrics = saved.get("metrics", {})  # files of earlier versions have none
