"""From how many unlabelled images on does pretraining beat training from scratch?

    raysl run studies/size_threshold.py data=STORE sizes=500,2000,8000 labels=500 seeds=3
    raysl run studies/size_threshold.py data=STORE planner=threshold sizes=500,1000,2000,4000,8000

Every size is pretrained on nested subsets of the pool and probed with the same labelled images
that the baseline trains on. The grid runs every size with every seed, and the frozen random encoder
beside them as the floor. planner=threshold buys trial by trial what tells most about the threshold,
and ends when its interval is narrow enough, or cannot become so.
"""

import dataclasses
from typing import Any, Literal

from raysl.data.store import load_splits
from raysl.optim import Duration
from raysl.recipe import Recipe
from raysl.study.design import Design
from raysl.study.sizes import normalised, size_study
from raysl.study.spec import Study
from raysl.study.threshold import search_threshold


def study(
    data: str,
    method: tuple[str, ...] = ("simclr",),
    baseline: str = "scratch",
    sizes: tuple[int, ...] = (500, 2000, 8000),
    labels: int | Literal["pool"] = 500,
    seeds: int = 3,
    encoder: str = "convnet",
    batch_size: int = 256,
    duration: Duration = Duration(1000, "steps"),
    workers: int = 1,
    cpus_per_worker: int = 1,
    gpus_per_worker: float | None = None,
    planner: Literal["grid", "threshold"] = "grid",
    ratio: float = 1.5,
    margin: float = 0.0,
    noise: float = 0.6,
    name: str | None = None,
) -> Study:
    """Compare a method with a baseline over pool sizes.

    data: a store made by `raysl data import`, or sklearn:digits
    method: the pretraining method, several share the baseline; `raysl methods` lists them
    baseline: the arm to beat: scratch, random or another method
    sizes: numbers of unlabelled images to pretrain on
    labels: labelled images for the probe and for scratch; "pool" labels the whole pool
    seeds: repetitions, each with its own subsets, initialisation and order
    encoder: convnet, or any timm model
    batch_size: global batch of the pretraining; the smallest size bounds it
    duration: of the pretraining, as "1000 steps", "100 epochs" or "1e6 examples"
    workers: processes of one trial (DDP when more than one)
    cpus_per_worker: CPU threads of each worker
    gpus_per_worker: below 1 shares a GPU between trials; none takes 1 where there is a GPU
    planner: grid, or threshold to search for it
    ratio: upper over lower end of the interval at which a search ends
    margin: points by which the method must be ahead
    noise: sd between seeds that a search expects beforehand, in points
    name: of the study and its folder; by default made from data and method
    """
    splits = load_splits(data)
    unit = "fixed " + duration.unit
    names = " and ".join(method)
    base = Recipe.create(
        method[0],
        dataset=splits.digest,
        pool_size=max(sizes),
        label_size=max(sizes) if labels == "pool" else labels,
        batch_size=min(batch_size, min(sizes)),
        duration=duration,
    ).with_overrides({"encoder.name": encoder})
    grid = size_study(
        splits,
        name=name or f"size-threshold-{splits.name}-{'-'.join(method)}",
        question=(
            f"From how many unlabelled images of {splits.name} on does {names} beat "
            f"{baseline} with {labels if labels != 'pool' else 'all'} labels ({unit})?"
        ),
        base=normalised(base, splits),
        arms=list(dict.fromkeys([*method, baseline, "random"])),
        baseline=baseline,
        sizes=sizes,
        seeds=seeds,
        follow_labels=labels == "pool",
        workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
    )
    design = Design(target_ratio=ratio, margin=margin, sd=noise)
    if planner == "threshold":
        return search_threshold(grid, design, methods=method)
    return dataclasses.replace(grid, methods=method, design=design)


def small() -> dict[str, Any]:
    """Arguments of a variant that finishes in about a minute on a laptop."""
    return {
        "data": "sklearn:digits",
        "sizes": (64, 256),
        "labels": 40,
        "seeds": 2,
        "batch_size": 64,
        "duration": Duration(20, "steps"),
        "name": "size-threshold-small",
    }
