"""Which temperature and augmentations suit SimCLR at each number of images?

    raysl run studies/simclr_temperature.py data=STORE sizes=500,2000,8000 trials=20

At every size Optuna searches temperature, crop scale and colour strength for the best linear probe
on val; the best recipe of each size is then repeated with fresh seeds and measured on test. The
report shows accuracy against temperature at each size, and what each parameter matters there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from raysl.data.store import load_splits
from raysl.optim import Duration
from raysl.recipe import Recipe
from raysl.study.sizes import normalised, size_study
from raysl.study.spec import Cell, Study


@dataclass(frozen=True)
class Space:
    """Ranges of the three parameters; the baseline has none of them."""

    temperature: tuple[float, float] = (0.05, 2.0)
    crop_scale: tuple[float, float] = (0.08, 0.8)
    colour_strength: tuple[float, float] = (0.0, 1.5)

    def __call__(self, trial: Any, cell: Cell) -> Mapping[str, Any]:
        if cell["arm"] != "simclr":
            return {}
        smallest = trial.suggest_float("views.crop_scale", *self.crop_scale)
        return {
            "method.temperature": trial.suggest_float(
                "method.temperature", *self.temperature, log=True
            ),
            "views.crop_scale": (smallest, 1.0),
            "views.colour_strength": trial.suggest_float(
                "views.colour_strength", *self.colour_strength
            ),
        }


def study(
    data: str = "sklearn:digits",
    sizes: tuple[int, ...] = (128, 512, 1024),
    labels: int = 100,
    trials: int = 20,
    seeds: int = 3,
    encoder: str = "convnet",
    batch_size: int = 128,
    duration: Duration = Duration(200, "steps"),
    sampler: str = "TPESampler",
    scheduler: Literal["asha"] | None = None,
    name: str | None = None,
) -> Study:
    """Search SimCLR's temperature and views at each size, then confirm the best.

    data: a store made by `raysl data import`, or sklearn:digits
    sizes: numbers of unlabelled images to pretrain on
    labels: labelled images for the probe
    trials: of the search at each size
    seeds: fresh seeds that confirm the best recipe of each size
    encoder: convnet, or any timm model
    batch_size: global batch of the pretraining
    duration: of the pretraining, as "1000 steps", "100 epochs" or "1e6 examples"
    sampler: any Optuna sampler by name
    scheduler: asha stops hopeless trials of the search early
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
        num_evaluations=5 if scheduler else 1,
    ).with_overrides({"encoder.name": encoder})
    return size_study(
        splits,
        name=name or f"simclr-temperature-{splits.name}",
        question=(
            f"Which temperature, crop scale and colour strength suit SimCLR on {splits.name} "
            f"at each number of images (fixed {duration.unit})?"
        ),
        base=normalised(base, splits),
        arms=["simclr", "random"],
        baseline="random",
        sizes=sizes,
        seeds=seeds,
        space=Space(),
        trials=trials,
        sampler=sampler,
        scheduler=scheduler,
    )


def small() -> dict[str, Any]:
    """Arguments of a variant that finishes in about a minute on a laptop."""
    return {
        "sizes": (64, 256),
        "labels": 40,
        "trials": 4,
        "seeds": 2,
        "batch_size": 64,
        "duration": Duration(20, "steps"),
        "name": "simclr-temperature-small",
    }
