"""What a study will cost, before it is run: a few timed updates of every arm."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from raysl.data.images import Splits
from raysl.recipe import Recipe
from raysl.state import initial_state
from raysl.study.spec import Cell, Planner, Study
from raysl.train import train
from raysl.trial import check_splits

TIMED_STEPS = 4
EVALUATION_SECONDS = 2.0  # reading, probes and writing of a small trial; dwarfed by long ones


@dataclass(frozen=True, kw_only=True)
class CellPlan:
    """One cell: updates and images of a trial, its seconds on this device, how many trials."""

    cell: Cell
    steps: int
    examples: int
    seconds: float
    num_trials: int

    @property
    def total_seconds(self) -> float:
        return self.seconds * self.num_trials


def estimate(
    study: Study,
    planner: Planner,
    splits: Splits,
    *,
    device: torch.device | str = "cpu",
    overhead_seconds: float,
) -> list[CellPlan]:
    """A plan for every cell; `overhead_seconds` is what the executor adds to a trial.

    The seconds are those of a trial that runs alone with its own number of threads, measured over
    a few updates; early stopping and pruning can only shorten it.
    """
    plans = []
    rates: dict[str, float] = {}
    for cell, num_trials in planner.planned():
        recipe = study.recipe(cell, {}, study.confirm_seeds[0])
        key = f"{recipe.method_name} {recipe.batch_size}"
        if key not in rates:
            rates[key] = seconds_per_step(recipe, splits, device=device)
        steps = planned_steps(recipe)
        plans.append(
            CellPlan(
                cell=cell,
                steps=steps,
                examples=steps * recipe.batch_size,
                seconds=steps * rates[key] + EVALUATION_SECONDS + overhead_seconds,
                num_trials=num_trials,
            )
        )
    return plans


def planned_steps(recipe: Recipe) -> int:
    """Updates of a trial that nothing stops early."""
    if recipe.trains_on == "nothing":
        return 0
    num_examples = recipe.pool_size if recipe.trains_on == "pool" else recipe.label_size
    assert num_examples is not None
    return recipe.duration.to_steps(num_examples=num_examples, batch_size=recipe.batch_size)


def seconds_per_step(recipe: Recipe, splits: Splits, *, device: torch.device | str) -> float:
    """Seconds of an update, after a first one that is not counted."""
    if recipe.trains_on == "nothing":
        return 0.0
    changes: dict[str, Any] = {"duration": f"{TIMED_STEPS + 1} steps", "early_stopping": None}
    recipe = recipe.with_overrides(changes)
    pool, labelled = check_splits(recipe, splits)
    images = pool if recipe.trains_on == "pool" else labelled
    state = initial_state(recipe, images, device=device)
    warm = recipe.with_overrides({"duration": "1 steps"})
    train(warm, images, device=device)
    started = time.perf_counter()
    train(recipe, images, device=device, state=state)
    return (time.perf_counter() - started) / (TIMED_STEPS + 1)
