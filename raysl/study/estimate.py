"""What trials will cost: a few timed updates of every arm, corrected by what finished ones took."""

import gc
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from raysl.capture import WARMUP_UPDATES
from raysl.data.images import Splits
from raysl.recipe import Recipe
from raysl.study.spec import Cell, Planner, Proposal, Resources, Study
from raysl.train import train
from raysl.trial import check_splits, trained_images

# On a GPU updates are slow until a graph of one is recorded; below 50 updates each is reported.
UNTIMED_STEPS = {"cpu": 1, "cuda": WARMUP_UPDATES + 2}
TIMED_STEPS = {"cpu": 4, "cuda": 40}
EVALUATION_SECONDS = 2.0  # reading, probes and writing of a small trial; dwarfed by long ones
REACH = 2.0  # a fit is believed up to this many times the images of the longest trial seen
UNSEEN = 1.25  # set aside for a kind of trial that none has finished of, in its first estimates
MOST = 2.0  # a single slow trial may not lock up more of what is left than this
Seconds = Callable[[Recipe], float]  # device-seconds of a trial


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """One cell: updates and images of a trial, what it takes on this device, how many trials.

    seconds: of the clock, what the executor adds included. device_seconds: over all workers.
    """

    cell: Cell
    steps: int
    examples: int
    seconds: float
    device_seconds: float
    num_trials: int


def estimate(
    study: Study, planner: Planner, device_seconds: Seconds, *, overhead_seconds: float
) -> list[CellPlan]:
    """A plan for every cell; `overhead_seconds` is what the executor adds to a trial."""
    plans = []
    for cell, num_trials in planner.planned():
        recipe = study.recipe(cell, {}, study.confirm_seeds[0])
        seconds = device_seconds(recipe)
        plans.append(
            CellPlan(
                cell=cell,
                steps=recipe.num_steps,
                examples=planned_images(recipe),
                seconds=seconds / study.resources.workers + overhead_seconds,
                device_seconds=seconds,
                num_trials=num_trials,
            )
        )
    return plans


def timed(splits: Splits, resources: Resources, *, device: torch.device | str = "cpu") -> Seconds:
    """Device-seconds by recipe, from a few updates of the first recipe of each kind.

    They are those of a trial that runs alone with its own number of threads; early stopping and
    pruning can only shorten it. With several workers one worker's share of the batch is timed,
    without what they tell each other.
    """
    rates: dict[Hashable, float] = {}

    def device_seconds(recipe: Recipe) -> float:
        kind = (*kind_of(recipe), recipe.batch_size)
        if kind not in rates:
            rates[kind] = seconds_per_step(
                recipe, splits, num_workers=resources.workers, device=device
            )
        seconds = recipe.num_steps * rates[kind] + EVALUATION_SECONDS
        return seconds * resources.workers

    return device_seconds


class Timings:
    """Device-seconds of a proposal: a first estimate, corrected by what finished trials took.

    The trials of an arm (with one encoder) give seconds = rate x images + constant by least
    squares, neither below 0; where all have as many images, the first estimate is scaled to them.
    Beyond `REACH` times their images the larger of this and the first estimate is taken.
    """

    def __init__(self, first_estimate: Callable[[Proposal], float]):
        self.first_estimate = first_estimate
        self.taken: dict[Hashable, list[tuple[Proposal, float]]] = {}

    def add(self, proposal: Proposal, device_seconds: float) -> None:
        """A trial that ran to its end took this long."""
        self.taken.setdefault(kind_of(proposal.recipe), []).append((proposal, device_seconds))

    def seconds(self, proposal: Proposal) -> float:
        first = self.first_estimate(proposal)
        taken = self.taken.get(kind_of(proposal.recipe), [])
        if not taken:
            return first
        images = np.array([planned_images(p.recipe) for p, _ in taken], dtype=float)  # [T]
        seconds = np.array([s for _, s in taken])  # [T]
        wanted = planned_images(proposal.recipe)
        if np.ptp(images) > 0:
            (rate, constant), _ = nnls(np.stack([images, np.ones_like(images)], axis=1), seconds)
            fitted = float(rate * wanted + constant)
        else:
            fitted = first * float(seconds.sum() / sum(self.first_estimate(p) for p, _ in taken))
        return max(first, fitted) if wanted > REACH * images.max() else fitted

    def at_most(self, proposal: Proposal) -> float:
        """What to set aside: the seconds times the largest ratio of taken to fitted ones so far."""
        taken = self.taken.get(kind_of(proposal.recipe), [])
        ratios = [seconds / self.seconds(p) for p, seconds in taken]
        caution = min(max(1.0, *ratios), MOST) if ratios else UNSEEN
        return caution * self.seconds(proposal)


def kind_of(recipe: Recipe) -> tuple[Hashable, ...]:
    """Recipes of one kind cost the same for an image."""
    return (
        recipe.method_name,
        recipe.encoder,
        recipe.views.size,
        recipe.precision,
        recipe.compile,
    )


def planned_images(recipe: Recipe) -> int:
    """Images that a trial trains on, each counted as often as it is seen."""
    return recipe.num_steps * recipe.batch_size


def seconds_per_step(
    recipe: Recipe, splits: Splits, *, num_workers: int = 1, device: torch.device | str
) -> float:
    """Seconds of an update of one worker's share of the batch, after those that are not counted."""
    if recipe.trains_on == "nothing":
        return 0.0
    kind = torch.device(device).type
    first = UNTIMED_STEPS[kind]
    last = first + TIMED_STEPS[kind]
    changes: dict[str, Any] = {
        "duration": f"{last} steps",
        "early_stopping": None,
        "batch_size": max(2, recipe.batch_size // num_workers),
    }
    recipe = recipe.with_overrides(changes)
    pool, labelled = check_splits(recipe, splits)
    moments: dict[int, float] = {}
    train(
        recipe,
        trained_images(recipe, pool, labelled),
        device=device,
        report=lambda state, metrics: moments.update({state.step: time.perf_counter()}),
    )
    if kind == "cuda":  # the trials of other processes need what this one keeps
        gc.collect()
        torch.cuda.empty_cache()
    return (moments[last] - moments[first]) / (last - first)
