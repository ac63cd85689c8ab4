"""Does the threshold depend on who tunes, and on what "the same training" means?

    raysl run studies/tuned_threshold.py data=STORE sizes=500,2000,8000 reference=2000 trials=20

Four thresholds of SimCLR against training from scratch on the same few labels, since these are
different questions: with the best recipe of each size, and with the best recipe of one reference
size used at all of them; with fixed epochs, and with fixed steps. Every search chooses on val among
equally many trials, scratch's too; fresh seeds then measure the chosen recipes on test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raysl.data.store import load_splits
from raysl.optim import Duration
from raysl.recipe import Recipe
from raysl.study.policy import tuned_and_frozen
from raysl.study.sizes import normalised, size_study
from raysl.study.spec import Cell, Study


@dataclass(frozen=True)
class Space:
    """Two parameters an arm: the learning rate, and what matters most beside it."""

    lr: tuple[float, float] = (2e-4, 2e-2)
    temperature: tuple[float, float] = (0.05, 2.0)
    weight_decay: tuple[float, float] = (1e-4, 1.0)

    def __call__(self, trial: Any, cell: Cell) -> Mapping[str, Any]:
        ranges = {
            "simclr": {"optim.lr": self.lr, "method.temperature": self.temperature},
            "scratch": {"optim.lr": self.lr, "optim.weight_decay": self.weight_decay},
        }[cell["arm"]]
        return {name: trial.suggest_float(name, *ends, log=True) for name, ends in ranges.items()}


def study(
    data: str = "sklearn:digits",
    sizes: tuple[int, ...] = (64, 256, 1024),
    reference: int | None = None,
    labels: int = 50,
    trials: int = 12,
    seeds: int = 4,
    encoder: str = "convnet",
    batch_size: int = 64,
    duration: Duration = Duration(200, "steps"),
    sampler: str = "TPESampler",
    name: str | None = None,
) -> Study:
    """Tune SimCLR and scratch at each size and at one size, for fixed epochs and fixed steps.

    data: a store made by `raysl data import`, or sklearn:digits
    sizes: numbers of unlabelled images to pretrain on
    reference: the size whose best recipe is used at all sizes too; none takes the middle one
    labels: labelled images for the probe and for scratch
    trials: of the search at each size and policy, and of scratch's
    seeds: fresh seeds that confirm each recipe
    encoder: convnet, or any timm model
    batch_size: global batch of the pretraining; the smallest size bounds it
    duration: of the pretraining at the reference size, where both policies are the same
    sampler: any Optuna sampler by name
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
    ).with_overrides({"encoder.name": encoder})
    reference = sorted(sizes)[len(sizes) // 2] if reference is None else reference
    plain = size_study(
        splits,
        name=name or f"tuned-threshold-{splits.name}",
        question=(
            f"From how many unlabelled images of {splits.name} on does SimCLR beat scratch with "
            f"{labels} labels, tuned at each size or at {reference:,} only, with fixed epochs or "
            f"fixed steps ({duration} at {reference:,})?"
        ),
        base=normalised(base, splits),
        arms=["simclr", "scratch"],
        baseline="scratch",
        sizes=sizes,
        seeds=seeds,
        space=Space(),
        trials=trials,
        sampler=sampler,
    )
    return tuned_and_frozen(plain, reference=reference)


def small() -> dict[str, Any]:
    """Arguments of a variant that finishes in about a minute on a laptop."""
    return {
        "sizes": (64, 256),
        "labels": 40,
        "trials": 4,
        "seeds": 2,
        "duration": Duration(20, "steps"),
        "name": "tuned-threshold-small",
    }
