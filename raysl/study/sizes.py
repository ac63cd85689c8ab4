"""Studies over sizes: one method against its baselines over the pool, the labels or both.

A from-scratch classifier and a frozen random encoder see the labels only, a pretrained encoder
sees both: `Study.cells` makes one cell of those that a pool size does not change.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from raysl.data.images import Splits, channel_statistics
from raysl.data.subset import require_labels
from raysl.encoder import build_encoder
from raysl.optim import Duration
from raysl.recipe import EarlyStopping, Recipe, method_class
from raysl.study.spec import Cell, Resources, Space, Study

# A classifier on a few hundred labels sees each of them many times; the validation loss, not this
# number, ends its training.
SCRATCH_DURATION = Duration(100, "epochs")
SCRATCH_BATCH = 64
SCRATCH_STOPPING = EarlyStopping(every=20, patience=10)


def resolve_arm(base: Recipe, cell: Cell) -> Recipe:
    """The base at the cell's sizes for its own method, the baseline's own recipe otherwise.

    What the arms share is the data, the encoder, the labels, the evaluation, the precision and
    the pixels' normalisation.
    """
    if "label_size" in cell:
        base = dataclasses.replace(base, label_size=cell["label_size"])
    if cell["arm"] == base.method_name:
        return dataclasses.replace(base, pool_size=cell["pool_size"])
    return baseline_recipe(base, cell["arm"], cell["pool_size"])


def resolve_labelled_pool(base: Recipe, cell: Cell) -> Recipe:
    """`resolve_arm` where every image of the pool is labelled."""
    return resolve_arm(dataclasses.replace(base, label_size=cell["pool_size"]), cell)


def baseline_recipe(base: Recipe, arm: str, pool_size: int) -> Recipe:
    """The recipe of another arm beside `base`, with that arm's own views and optimiser."""
    chosen = method_class(arm)
    views = dataclasses.replace(
        chosen.views,
        size=base.views.size or chosen.views.size,
        mean=base.views.mean,
        std=base.views.std,
    )
    recipe = dataclasses.replace(
        base,
        method=chosen.Config(),
        views=views,
        optim=chosen.optim,
        pool_size=pool_size if chosen.trains_on == "pool" else None,
        batch_size=base.batch_size if chosen.trains_on in ("pool", "source") else 2,
        early_stopping=base.early_stopping if chosen.has_validation_loss else None,
    )
    if chosen.trains_on == "labels":
        return dataclasses.replace(
            recipe,
            batch_size=min(SCRATCH_BATCH, recipe.label_size),
            duration=SCRATCH_DURATION,
            early_stopping=SCRATCH_STOPPING if chosen.has_validation_loss else None,
        )
    if chosen.trains_on == "nothing":
        return dataclasses.replace(
            recipe, duration=Duration(0, "steps"), early_stopping=None, num_evaluations=1
        )
    return recipe


def size_study(
    splits: Splits,
    *,
    name: str,
    question: str,
    base: Recipe,
    arms: Sequence[str],
    baseline: str | None,
    sizes: Sequence[int],
    labels: Sequence[int] = (),
    seeds: int,
    follow_labels: bool = False,
    arm_overrides: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    space: Space | None = None,
    trials: int = 0,
    sampler: str = "TPESampler",
    scheduler: Any = None,
    workers: int = 1,
    cpus_per_worker: int = 1,
    gpus_per_worker: float | None = None,
) -> Study:
    """A study over sizes, checked against the data before anything is spent.

    sizes: of the pool. labels: label sizes, crossed with them; none: the base's in every cell.
    The size axis, along which the threshold is sought, is the pool, or the labels where they
    alone have several sizes.
    follow_labels: all images of the pool are labelled, label_size = pool_size in every cell.
    arm_overrides: of the other arms' recipes, {arm: {dotted field: value}}.
    gpus_per_worker: None is 1 where this machine has a GPU, else 0.
    """
    if follow_labels and labels:
        raise ValueError("follow_labels labels the whole pool, so labels cannot name sizes too.")
    check_sizes(splits, sizes)
    check_labels(splits, sizes if follow_labels else labels or [base.label_size])
    if seeds < 1:
        raise ValueError(f"seeds must be at least 1, not {seeds}.")
    for arm in arms:
        method_class(arm)
    if gpus_per_worker is None:
        gpus_per_worker = 1.0 if torch.cuda.is_available() else 0.0
    axes: dict[str, tuple[Any, ...]] = {"arm": tuple(arms), "pool_size": tuple(sorted(sizes))}
    if labels:
        axes["label_size"] = tuple(sorted(labels))
    study = Study(
        name=name,
        question=question,
        data=splits.source,
        base=base,
        axes=axes,
        resolve=resolve_labelled_pool if follow_labels else resolve_arm,
        arm=base.method_name,
        baseline=baseline,
        confirm_seeds=tuple(range(seeds)),
        size_axis="label_size" if len(labels) > 1 and len(sizes) == 1 else "pool_size",
        space=space,
        trials=trials,
        sampler=sampler,
        scheduler=scheduler,
        arm_overrides=arm_overrides,
        resources=Resources(
            workers=workers, cpus_per_worker=cpus_per_worker, gpus_per_worker=gpus_per_worker
        ),
    )
    study.cells()  # builds every recipe once, so that a wrong one raises here ...
    channels, side, _ = splits.pool.shape
    with torch.device("meta"):  # ... and so does an encoder that does not exist or does not fit
        build_encoder(base.encoder, channels=channels, image_size=base.views.size or side)
    return study


def normalised(recipe: Recipe, splits: Splits) -> Recipe:
    """The recipe with the pool's own channel statistics as its normalisation."""
    mean, std = channel_statistics(splits.pool)
    return dataclasses.replace(recipe, views=dataclasses.replace(recipe.views, mean=mean, std=std))


def require_sizes(sizes: Sequence[int]) -> None:
    """A sentence if these are no pool sizes, whatever the data."""
    if not sizes:
        raise ValueError("sizes is empty; give pool sizes such as sizes=500,2000,8000.")
    if min(sizes) < 2:
        raise ValueError(f"sizes must be at least 2 images, not {min(sizes)}.")
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"sizes names a size twice: {', '.join(map(str, sizes))}.")


def check_sizes(splits: Splits, sizes: Sequence[int]) -> None:
    """A sentence if the sizes cannot be drawn from the pool."""
    require_sizes(sizes)
    if max(sizes) > len(splits.pool):
        raise ValueError(
            f"sizes goes up to {max(sizes)}, but the pool of {splits.source} has "
            f"{len(splits.pool)} images; use sizes up to {len(splits.pool)}."
        )


def check_labels(splits: Splits, labels: Sequence[int]) -> None:
    """A sentence if the label sizes cannot be drawn from the labelled images."""
    if len(set(labels)) < len(labels):
        raise ValueError(f"labels names a size twice: {', '.join(map(str, labels))}.")
    for label_size in labels:
        require_labels(splits, label_size)
