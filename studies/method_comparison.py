"""Which method suits these images best, and is any of them worth its pretraining?

    raysl run studies/method_comparison.py data=STORE methods=simclr,vicreg,byol,dino sizes=8000
    raysl run studies/method_comparison.py data=STORE methods=all encoder=resnet18 sizes=2000,8000

Every method is tuned on val with equally many trials at each size: its learning rate around its own
default, and the one parameter that it is most sensitive to. Fresh seeds then measure the best
recipes on test, beside training from scratch (tuned as well), a frozen random encoder and, where
they are named, public weights and supervised pretraining on another data set. The report ranks all
of them with probabilities, and says which ones the data cannot tell apart.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysl.data.digest import file_hash
from raysl.data.images import Splits
from raysl.data.store import load_splits
from raysl.encoder import EncoderConfig
from raysl.methods import METHODS
from raysl.optim import Duration
from raysl.recipe import Recipe, method_class
from raysl.state import initial_state
from raysl.study.sizes import normalised, size_study
from raysl.study.spec import Cell, Study
from raysl.trial import check_splits, trained_images

LR_FACTOR = 8.0  # the learning rate is searched this far below and above a method's default
WEIGHT_DECAY = (1e-5, 0.5)  # searched for methods without an entry below
TEMPERATURE = (0.05, 1.0)

# What a method is most sensitive to beside the learning rate, and where to look; searched in the
# logarithm but for the shares, which lie in 0 to 1.
KEYS: dict[str, tuple[str, tuple[float, float]]] = {
    "denoising": ("masking", (0.1, 0.7)),
    "super_resolution": ("factor", (2.0, 6.0)),
    "mae": ("mask_ratio", (0.4, 0.9)),
    "spark": ("mask_ratio", (0.4, 0.8)),
    "beit": ("mask_ratio", (0.2, 0.7)),
    "ijepa": ("momentum", (0.98, 0.999)),
    "npid": ("temperature", TEMPERATURE),
    "pirl": ("temperature", TEMPERATURE),
    "simclr": ("temperature", TEMPERATURE),
    "alignment_uniformity": ("uniformity", (0.25, 4.0)),
    "moco": ("temperature", TEMPERATURE),
    "mocov3": ("temperature", TEMPERATURE),
    "ressl": ("teacher_temperature", (0.02, 0.08)),
    "barlow_twins": ("redundancy", (5e-4, 5e-2)),
    "vicreg": ("covariance", (0.1, 10.0)),
    "byol": ("momentum", (0.95, 0.999)),
    "dino": ("teacher_temperature", (0.04, 0.08)),
    "deepclusterv2": ("temperature", TEMPERATURE),
    "sela": ("sharpness", (10.0, 50.0)),
    "swav": ("temperature", TEMPERATURE),
}
SHARES = ("masking", "mask_ratio", "momentum")


@dataclass(frozen=True)
class Space:
    """Two parameters for every arm that trains, so that equal trials are equal effort."""

    lr_factor: float = LR_FACTOR
    weight_decay: tuple[float, float] = WEIGHT_DECAY
    keys: Mapping[str, tuple[str, tuple[float, float]]] = dataclasses.field(
        default_factory=lambda: dict(KEYS)
    )

    def __call__(self, trial: Any, cell: Cell) -> Mapping[str, Any]:
        arm = cell["arm"]
        method = METHODS[arm]
        if method.trains_on == "nothing":
            return {}
        usual = method.optim.lr
        ends = usual / self.lr_factor, usual * self.lr_factor
        chosen = {"optim.lr": trial.suggest_float("optim.lr", *ends, log=True)}
        name, ends = self.keys.get(arm, ("", self.weight_decay))
        path = f"method.{name}" if name else "optim.weight_decay"
        return chosen | {path: trial.suggest_float(path, *ends, log=name not in SHARES)}


def study(
    data: str = "sklearn:digits",
    methods: tuple[str, ...] = ("rotation", "mae", "simclr", "vicreg", "byol", "swav"),
    sizes: tuple[int, ...] = (1024,),
    labels: int = 100,
    trials: int = 8,
    seeds: int = 4,
    encoder: str | None = None,
    baseline: str = "scratch",
    public: str | None = None,
    weights: str | None = None,
    source: str | None = None,
    batch_size: int = 128,
    duration: Duration = Duration(300, "steps"),
    sampler: str = "TPESampler",
    workers: int = 1,
    cpus_per_worker: int = 1,
    gpus_per_worker: float | None = None,
    name: str | None = None,
) -> Study:
    """Tune methods with equal budgets, confirm the best recipes on test, and rank them.

    data: a store made by `raysl data import`, or sklearn:digits
    methods: to compare, or all; `raysl methods` lists them
    sizes: numbers of unlabelled images to pretrain on, each tuned for itself
    labels: labelled images for the probe and for scratch
    trials: of the search of each method at each size, and of scratch's
    seeds: fresh seeds that confirm each best recipe
    encoder: one for all, convnet or any timm model; none gives each method its own default
    baseline: the arm to beat
    public: a timm model with public weights, such as resnet18 or vit_small_patch14_dinov2.lvd142m
    weights: a file with the weights of `public`; none takes them from timm's hub
    source: the store of another labelled data set to pretrain on with its labels
    batch_size: global batch of the pretraining; the smallest size bounds it
    duration: of the pretraining, as "1000 steps", "100 epochs" or "1e6 examples"
    sampler: any Optuna sampler by name
    workers: processes of one trial (DDP when more than one)
    cpus_per_worker: CPU threads of each worker
    gpus_per_worker: below 1 shares a GPU between trials; none takes 1 where there is a GPU
    name: of the study and its folder
    """
    splits = load_splits(data)
    methods = chosen_methods(methods)
    extra = [*(["pretrained"] if public else []), *(["supervised_source"] if source else [])]
    arms = list(dict.fromkeys([*methods, baseline, "scratch", "random", *extra]))
    base = Recipe.create(
        methods[0],
        dataset=splits.digest,
        pool_size=max(sizes),
        label_size=labels,
        batch_size=min(batch_size, min(sizes)),
        duration=duration,
    )
    if encoder is not None:
        base = dataclasses.replace(base, encoder=EncoderConfig(name=encoder))
    overrides: dict[str, dict[str, Any]] = {}
    for arm in arms:
        own = base.encoder if encoder is not None else method_class(arm).encoder_config
        # Not where it is the shared one anyway, so that --set encoder.width=64 reaches the arm.
        overrides[arm] = {"encoder": own} if own != base.encoder else {}
    if public:
        overrides["pretrained"] = {"encoder": EncoderConfig(name=public)} | file_of(weights)
    elif weights:
        raise ValueError("weights belong to a model: name it, such as public=resnet18.")
    if source:
        overrides["supervised_source"] |= {
            "method.data": source,
            "method.digest": load_splits(source).digest,
        }
    plain = size_study(
        splits,
        name=name or f"method-comparison-{splits.name}",
        question=(
            f"Which of {', '.join(arms)} suits {splits.name} best with {labels} labels and "
            f"{' or '.join(f'{n:,}' for n in sizes)} unlabelled images (fixed {duration.unit}, "
            f"{'the encoder of each' if encoder is None else encoder}, {trials} trials each)?"
        ),
        base=normalised(base, splits),
        arms=arms,
        baseline=baseline,
        sizes=sizes,
        seeds=seeds,
        space=Space(),
        trials=trials,
        sampler=sampler,
        arm_overrides=overrides,
        workers=workers,
        cpus_per_worker=cpus_per_worker,
        gpus_per_worker=gpus_per_worker,
    )
    compared = tuple(arm for arm in arms if METHODS[arm].trains_on == "pool" and arm != baseline)
    found = dataclasses.replace(plain, methods=compared)
    check_arms(found, splits)
    return found


def chosen_methods(names: tuple[str, ...]) -> tuple[str, ...]:
    """The methods by name; every one that pretrains on the pool for "all"."""
    pretraining = tuple(name for name, m in METHODS.items() if m.trains_on == "pool")
    if names == ("all",):
        return pretraining
    for name in names:
        if method_class(name).trains_on != "pool":
            raise ValueError(
                f"methods names {name}, which does not pretrain on the pool; scratch and random "
                "are there anyway, public=... and source=... add the other baselines."
            )
    if not names:
        raise ValueError(f"methods is empty; choose from {', '.join(pretraining)}.")
    return tuple(dict.fromkeys(names))


def file_of(weights: str | None) -> dict[str, Any]:
    """What makes the pretrained arm load a file, and know it by its content."""
    if weights is None:
        return {}
    path = Path(weights).expanduser()
    digest = file_hash(path)[:16] if path.is_file() else None
    return {"method.weights": weights, "method.digest": digest}


def check_arms(study: Study, splits: Splits) -> None:
    """Build every arm once, so that one that does not fit says so before anything is spent."""
    for arm in study.axes["arm"]:
        cell = next(cell for cell in study.cells() if cell["arm"] == arm)
        recipe = study.recipe(cell, {}, 0)
        try:
            initial_state(recipe, trained_images(recipe, *check_splits(recipe, splits)))
        except ValueError as error:
            raise ValueError(f"{arm}: {error} Or leave {arm} out.") from error


def small() -> dict[str, Any]:
    """Arguments of a variant that finishes in about a minute on a laptop."""
    return {
        "methods": ("rotation", "simclr", "vicreg", "byol"),
        "sizes": (256,),
        "labels": 40,
        "trials": 4,
        "seeds": 2,
        "batch_size": 64,
        "duration": Duration(20, "steps"),
        "name": "method-comparison-small",
    }
