"""At which numbers of labels and of unlabelled images does pretraining pay?

    raysl run studies/labels_by_pool.py data=STORE sizes=500,2000,8000 labels=100,400,1600 seeds=3
    raysl run studies/labels_by_pool.py data=STORE sizes=8000 labels=100,200,400,800,1600 seeds=3

Labels and pool sizes are crossed. Several of both give a threshold in unlabelled images at each
number of labels, and the frontier through them; one pool size gives the threshold in labels there,
which is usually the number of labels at which the baseline catches up.
"""

from typing import Any

from raysl.data.store import load_splits
from raysl.optim import Duration
from raysl.recipe import Recipe
from raysl.study.sizes import normalised, size_study
from raysl.study.spec import Study


def study(
    data: str,
    method: str = "simclr",
    baseline: str = "scratch",
    sizes: tuple[int, ...] = (500, 2000, 8000),
    labels: tuple[int, ...] = (100, 400, 1600),
    seeds: int = 3,
    encoder: str = "convnet",
    batch_size: int = 256,
    duration: Duration = Duration(1000, "steps"),
    workers: int = 1,
    cpus_per_worker: int = 1,
    gpus_per_worker: float | None = None,
    name: str | None = None,
) -> Study:
    """Compare a method with a baseline over label sizes and pool sizes.

    data: a store made by `raysl data import`, or sklearn:digits
    method: the pretraining method; `raysl methods` lists them
    baseline: the arm to beat: scratch, random or another method
    sizes: numbers of unlabelled images to pretrain on
    labels: numbers of labelled images for the probe and for scratch
    seeds: repetitions, each with its own subsets, initialisation and order
    encoder: convnet, or any timm model
    batch_size: global batch of the pretraining; the smallest pool bounds it
    duration: of the pretraining, as "1000 steps", "100 epochs" or "1e6 examples"
    workers: processes of one trial (DDP when more than one)
    cpus_per_worker: CPU threads of each worker
    gpus_per_worker: below 1 shares a GPU between trials; none takes 1 where there is a GPU
    name: of the study and its folder; by default made from data and method
    """
    splits = load_splits(data)
    base = Recipe.create(
        method,
        dataset=splits.digest,
        pool_size=max(sizes),
        label_size=max(labels),
        batch_size=min(batch_size, min(sizes)),
        duration=duration,
    ).with_overrides({"encoder.name": encoder})
    return size_study(
        splits,
        name=name or f"labels-by-pool-{splits.name}-{method}",
        question=_question(splits.name, method, baseline, sizes, labels, duration),
        base=normalised(base, splits),
        arms=list(dict.fromkeys([method, baseline, "random"])),
        baseline=baseline,
        sizes=sizes,
        labels=labels,
        seeds=seeds,
        workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
    )


def _question(
    data: str,
    method: str,
    baseline: str,
    sizes: tuple[int, ...],
    labels: tuple[int, ...],
    duration: Duration,
) -> str:
    policy = f"fixed {duration.unit}"
    if len(sizes) > 1:
        return (
            f"At which numbers of labelled and unlabelled images of {data} does {method} beat "
            f"{baseline} ({policy})?"
        )
    return (
        f"At which numbers of labelled images does {method}, pretrained on {sizes[0]:,} images of "
        f"{data}, beat {baseline} ({policy})?"
    )


def small() -> dict[str, Any]:
    """Arguments of a variant that finishes in about a minute on a laptop."""
    return {
        "data": "sklearn:digits",
        "sizes": (64, 256),
        "labels": (40, 160),
        "seeds": 2,
        "batch_size": 64,
        "duration": Duration(20, "steps"),
        "name": "labels-by-pool-small",
    }
