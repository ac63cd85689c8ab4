"""From how many unlabelled digits on does SimCLR beat training from scratch?

    make study        or        raysl run studies/digits_threshold.py

UCI digits (8x8 grey, shipped with scikit-learn): SimCLR pretraining on nested subsets of the pool
against training from scratch on the same few labels and against a frozen random encoder. Digits
are not mirrored and lie nearly upright, so views turn a little and never flip; from-scratch
training gets the same augmentation.
"""

from typing import Any

from raysl.data.store import load_splits
from raysl.optim import Duration
from raysl.recipe import Recipe
from raysl.study.sizes import normalised, size_study
from raysl.study.spec import Study

VIEWS = {"views.flip": 0.0, "views.rotation": 15.0, "views.crop_scale": (0.5, 1.0)}
JITTER = {"views.jitter_prob": 0.8}  # SimCLR's own; scratch has none by default


def study(
    sizes: tuple[int, ...] = (32, 64, 128, 256, 512, 1024),
    labels: int = 50,
    seeds: int = 8,
    batch_size: int = 32,
    duration: Duration = Duration(300, "steps"),
    name: str = "digits-threshold",
) -> Study:
    """Find the threshold on UCI digits.

    sizes: numbers of unlabelled images to pretrain on
    labels: labelled images for the probe and for scratch
    seeds: repetitions, each with its own subsets, initialisation and order
    batch_size: of the pretraining; the smallest size bounds it
    duration: of the pretraining; fixed steps give every size the same compute
    name: of the study and its folder
    """
    splits = load_splits("sklearn:digits")
    base = Recipe.create(
        "simclr",
        dataset=splits.digest,
        pool_size=max(sizes),
        label_size=labels,
        batch_size=min(batch_size, min(sizes)),
        duration=duration,
    ).with_overrides({**VIEWS, "method.projector": (128, 64)})
    return size_study(
        splits,
        name=name,
        question=(
            f"From how many unlabelled digits on does SimCLR beat training from scratch with "
            f"{labels} labels (fixed {duration.unit})?"
        ),
        base=normalised(base, splits),
        arms=["simclr", "scratch", "random"],
        baseline="scratch",
        sizes=sizes,
        seeds=seeds,
        arm_overrides={"scratch": VIEWS | JITTER},
    )


def small() -> dict[str, Any]:
    """Arguments of a variant that finishes in about a minute on a laptop."""
    return {
        "sizes": (64, 256),
        "labels": 40,
        "seeds": 2,
        "duration": Duration(30, "steps"),
        "name": "digits-threshold-small",
    }
