"""From how many unlabelled clothes on does SimCLR beat training from scratch with 100 labels?

    raysl data import FASHION_MNIST stores/fashion --size 28
    raysl run studies/fashion_threshold.py data=stores/fashion
    raysl run studies/fashion_threshold.py data=stores/fashion planner=threshold name=fashion-search

Fashion-MNIST (28x28 grey, 60,000 training images as IDX files): SimCLR pretraining on nested
subsets of the pool for a fixed number of epochs, so that more images also mean more updates,
against training from scratch on the same labels and against a frozen random encoder. Labels,
views, temperature and the length of training were chosen on val: studies/LOG.md has the pilots.
Clothes are upright and mirrored ones stay clothes: a mild crop, flips, brightness and contrast.
From-scratch training gets the same flips and jitter, and time to end by its validation loss.

Hardware: any CPU; where it computes bfloat16 itself (AMX) a trial of 16,000 images takes about
2 minutes on one core and the whole study about 35 core-minutes. Elsewhere add
precision=float32, which takes 1.5 times as long on the same core.
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

VIEWS = {"views.crop_scale": (0.6, 1.0), "views.jitter_prob": 0.8}
# Its own crop (half of the area or more) was better on val than SimCLR's. 100 epochs, the default,
# end before the validation loss of so few labels has settled.
SCRATCH = {"views.jitter_prob": 0.8, "duration": "300 epochs"}
NOISE = 2.0  # points: the sd of 20 seeds of SimCLR at 1,000 images on val (studies/LOG.md)


def study(
    data: str,
    sizes: tuple[int, ...] = (250, 450, 820, 1500, 2700, 4900, 8800, 16000),
    labels: int = 100,
    seeds: int = 6,
    batch_size: int = 64,
    duration: Duration = Duration(20, "epochs"),
    precision: Literal["bfloat16", "float32"] = "bfloat16",
    planner: Literal["grid", "threshold"] = "grid",
    ratio: float = 8.0,
    name: str = "fashion-threshold",
) -> Study:
    """Find the threshold on Fashion-MNIST.

    data: its store, made by `raysl data import`
    sizes: numbers of unlabelled images to pretrain on
    labels: labelled images for the probe and for scratch
    seeds: repetitions, each with its own subsets, initialisation and order
    batch_size: of the pretraining; the smallest size bounds it
    duration: of the pretraining; with fixed epochs the compute grows with the size
    precision: bfloat16 only where the processor has it; elsewhere it is emulated
    planner: grid, or threshold to search for it
    ratio: upper over lower end of the interval at which a search ends
    name: of the study and its folder
    """
    splits = load_splits(data)
    base = Recipe.create(
        "simclr",
        dataset=splits.digest,
        pool_size=max(sizes),
        label_size=labels,
        batch_size=min(batch_size, min(sizes)),
        duration=duration,
        precision=precision,
    ).with_overrides({**VIEWS, "method.temperature": 0.2})
    grid = size_study(
        splits,
        name=name,
        question=(
            f"From how many unlabelled images of {splits.name} on does SimCLR beat training from "
            f"scratch with {labels} labels (fixed {duration.unit})?"
        ),
        base=normalised(base, splits),
        arms=["simclr", "scratch", "random"],
        baseline="scratch",
        sizes=sizes,
        seeds=seeds,
        arm_overrides={"scratch": SCRATCH},
    )
    design = Design(target_ratio=ratio, sd=NOISE)
    if planner == "threshold":
        return search_threshold(grid, design)
    return dataclasses.replace(grid, design=design)


def small() -> dict[str, Any]:
    """Arguments of a variant that finishes in about a minute on a laptop."""
    return {
        "data": "sklearn:digits",
        "sizes": (64, 256),
        "labels": 40,
        "seeds": 2,
        "duration": Duration(10, "epochs"),
        "precision": "float32",
        "name": "fashion-threshold-small",
    }
