"""From how many unlabelled images on does pretraining beat training from scratch?

    raysl run studies/size_threshold.py data=STORE sizes=500,2000,8000 labels=500 seeds=3

Every size is pretrained on nested subsets of the pool and probed with the same labelled images
that the baseline trains on. The frozen random encoder is run beside them as the floor.
"""

from typing import Any, Literal

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
    labels: int | Literal["pool"] = 500,
    seeds: int = 3,
    encoder: str = "convnet",
    batch_size: int = 256,
    duration: Duration = Duration(1000, "steps"),
    workers: int = 1,
    cpus_per_worker: int = 1,
    gpus_per_worker: float | None = None,
    name: str | None = None,
) -> Study:
    """Compare a method with a baseline over pool sizes.

    data: a store made by `raysl data import`, or sklearn:digits
    method: the pretraining method; `raysl methods` lists them
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
    name: of the study and its folder; by default made from data and method
    """
    splits = load_splits(data)
    unit = "fixed " + duration.unit
    base = Recipe.create(
        method,
        dataset=splits.digest,
        pool_size=max(sizes),
        label_size=max(sizes) if labels == "pool" else labels,
        batch_size=min(batch_size, min(sizes)),
        duration=duration,
    ).with_overrides({"encoder.name": encoder})
    return size_study(
        splits,
        name=name or f"size-threshold-{splits.name}-{method}",
        question=(
            f"From how many unlabelled images of {splits.name} on does {method} beat "
            f"{baseline} with {labels if labels != 'pool' else 'all'} labels ({unit})?"
        ),
        base=normalised(base, splits),
        arms=list(dict.fromkeys([method, baseline, "random"])),
        baseline=baseline,
        sizes=sizes,
        seeds=seeds,
        follow_labels=labels == "pool",
        workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
    )


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
