"""What trials will cost: a few timed updates of every arm, corrected by what finished ones took."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from raysl.data.images import Splits
from raysl.recipe import Recipe
from raysl.state import initial_state
from raysl.study.spec import Cell, Planner, Proposal, Resources, Study
from raysl.train import train
from raysl.trial import check_splits

TIMED_STEPS = 4
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
                steps=planned_steps(recipe),
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
        seconds = planned_steps(recipe) * rates[kind] + EVALUATION_SECONDS
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
    return (recipe.method_name, recipe.encoder, recipe.views.size, recipe.precision)


def planned_steps(recipe: Recipe) -> int:
    """Updates of a trial that nothing stops early."""
    if recipe.trains_on == "nothing":
        return 0
    num_examples = recipe.pool_size if recipe.trains_on == "pool" else recipe.label_size
    assert num_examples is not None
    return recipe.duration.to_steps(num_examples=num_examples, batch_size=recipe.batch_size)


def planned_images(recipe: Recipe) -> int:
    """Images that a trial trains on, each counted as often as it is seen."""
    return planned_steps(recipe) * recipe.batch_size


def seconds_per_step(
    recipe: Recipe, splits: Splits, *, num_workers: int = 1, device: torch.device | str
) -> float:
    """Seconds of an update of one worker's share of the batch, after one that is not counted."""
    if recipe.trains_on == "nothing":
        return 0.0
    changes: dict[str, Any] = {
        "duration": f"{TIMED_STEPS + 1} steps",
        "early_stopping": None,
        "batch_size": max(2, recipe.batch_size // num_workers),
    }
    recipe = recipe.with_overrides(changes)
    pool, labelled = check_splits(recipe, splits)
    images = pool if recipe.trains_on == "pool" else labelled
    state = initial_state(recipe, images, device=device)
    warm = recipe.with_overrides({"duration": "1 steps"})
    train(warm, images, device=device)
    started = time.perf_counter()
    train(recipe, images, device=device, state=state)
    return (time.perf_counter() - started) / (TIMED_STEPS + 1)
