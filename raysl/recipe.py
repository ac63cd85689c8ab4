"""The complete description of one trial, as a value."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from raysl.config import from_dict, replace_at, to_dict, unknown_name
from raysl.encoder import EncoderConfig
from raysl.evaluation import EvaluationConfig
from raysl.methods import METHODS, Method, MethodConfig
from raysl.methods.method import TrainsOn
from raysl.methods.supervised_source import SupervisedSourceConfig, source_images
from raysl.optim import Duration, OptimConfig
from raysl.views import ViewConfig

DIGEST_VERSION = 1  # raise when equal recipes no longer give equal trials


@dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """Stop when the loss on the validation images has not fallen for `patience` looks.

    every: updates between two looks. The weights of the best look are the ones evaluated.
    """

    every: int = 20
    patience: int = 5

    def __post_init__(self) -> None:
        if min(self.every, self.patience) < 1:
            raise ValueError("early_stopping.every and .patience must be at least 1.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Frozen, complete, hashable: all that a trial does follows from (recipe, data, seed).

    dataset: digest of the data, so that a changed store is never taken for the old one.
    pool_size: unlabelled images to pretrain on; None for arms that use none.
    label_size: labelled images for the probe and the from-scratch arm.
    subset_seed: chooses both subsets; seed: initialisation, order of batches and views.
    batch_size: global, over all workers; scratch takes smaller ones where it has fewer labels.
    early_stopping: None trains to the end. num_evaluations: evenly spaced, the last at the end.
    precision: of forward passes; float32 products are TensorFloat-32 in a GPU's updates.
    compile: encoders by torch.compile, 1.3 to 1.5 times as fast on a GPU after 6 to 15 s a process.
    """

    dataset: str
    pool_size: int | None
    label_size: int
    seed: int = 0
    subset_seed: int = 0
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    method: MethodConfig
    views: ViewConfig
    optim: OptimConfig
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    batch_size: int = 256
    duration: Duration = Duration(1000, "steps")
    early_stopping: EarlyStopping | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = True
    compile: bool = False
    num_evaluations: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be at least 2, not {self.batch_size}.")
        if self.label_size < 2:
            raise ValueError(f"label_size must be at least 2, not {self.label_size}.")
        if self.pool_size is not None and self.pool_size < 2:
            raise ValueError(f"pool_size must be at least 2, not {self.pool_size}.")
        if self.early_stopping is not None and not METHODS[self.method_name].has_validation_loss:
            raise ValueError(
                f"{self.method_name} has no loss on images that it does not train on; leave "
                "early_stopping at none."
            )
        trained = {"pool": self.pool_size, "labels": self.label_size}.get(self.trains_on)
        if trained is not None and self.batch_size > trained:
            raise ValueError(
                f"batch_size={self.batch_size} is larger than the {trained} images of the "
                f"{'pool' if self.trains_on == 'pool' else 'labels'}; set batch_size={trained} "
                "or less."
            )

    @classmethod
    def create(cls, method: str, **fields: Any) -> Self:
        """A recipe with the method's own encoder, views and optimiser where none are given."""
        chosen = method_class(method)
        defaults: dict[str, Any] = {
            "method": chosen.Config(),
            "encoder": chosen.encoder_config,
            "views": chosen.views,
            "optim": chosen.optim,
        }
        if chosen.trains_on != "pool":
            defaults["pool_size"] = None
        return cls(**(defaults | fields))

    @property
    def method_name(self) -> str:
        """The method's key in METHODS."""
        return next(name for name, m in METHODS.items() if m.Config is type(self.method))

    @property
    def trains_on(self) -> TrainsOn:
        """Which images the loop feeds to the method."""
        return METHODS[self.method_name].trains_on

    @property
    def num_trained(self) -> int:
        """Images that the training cycles through; 0 without training."""
        if isinstance(self.method, SupervisedSourceConfig):
            return len(source_images(self.method))
        number = {"pool": self.pool_size, "labels": self.label_size}.get(self.trains_on, 0)
        assert number is not None
        return number

    @property
    def num_steps(self) -> int:
        """Updates of a training that nothing stops early."""
        if self.trains_on == "nothing":
            return 0
        return self.duration.to_steps(num_examples=self.num_trained, batch_size=self.batch_size)

    def with_overrides(self, changes: Mapping[str, Any]) -> "Recipe":
        """A copy with {"method.temperature": 0.1, ...}; text is parsed to the field's type."""
        recipe = self
        for path, value in changes.items():
            if path == "early_stopping" or not path.startswith("early_stopping."):
                recipe = replace_at(recipe, path, value)
            else:  # naming one of its fields switches it on
                stopping = recipe.early_stopping or EarlyStopping()
                leaf = path.removeprefix("early_stopping.")
                stopping = replace_at(stopping, leaf, value, where="early_stopping.")
                recipe = dataclasses.replace(recipe, early_stopping=stopping)
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Plain values; the method's config carries its name."""
        values: dict[str, Any] = to_dict(self)
        values["method"] = {"name": self.method_name} | values["method"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_dict`; also from JSON."""
        method = dict(values["method"])
        config = method_class(method.pop("name")).Config
        built = from_dict(config, method, where="method.")
        recipe: Recipe = from_dict(cls, {**values, "method": built})
        return recipe

    def digest(self) -> str:
        """16 hex digits, equal for equal recipes on every machine and Python version."""
        text = json.dumps(_canonical(self.to_dict()), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(f"raysl recipe {DIGEST_VERSION} {text}".encode()).hexdigest()[:16]


def method_class(name: str) -> type[Method]:
    """The method of that name, or a sentence with the nearest one."""
    if name not in METHODS:
        raise ValueError(unknown_name("method", name, METHODS))
    return METHODS[name]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as {"method.temperature": 0.5, ...}."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


def parse_override(text: str) -> tuple[str, str]:
    """("method.temperature", "0.2") from "method.temperature=0.2"."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ValueError(f"An override reads field=value, such as seed=1, not {text!r}.")
    return path.strip(), value.strip()


def _canonical(value: Any) -> Any:
    """1 and 1.0 are one number, whatever wrote them."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return value
