"""How long to train and how to step: durations, schedules as functions of progress, optimisers."""

import math
import re
from dataclasses import dataclass
from typing import Literal

import torch
from timm.optim import Lars
from torch import nn

Unit = Literal["steps", "epochs", "examples"]


@dataclass(frozen=True)
class Duration:
    """How long to train, in exactly one unit; `to_steps` is the only place that converts.

    Fixed epochs and fixed steps answer different questions when the number of images varies.
    """

    amount: float
    unit: Unit

    def __post_init__(self) -> None:
        if not (self.amount >= 0 and math.isfinite(self.amount)):
            raise ValueError(f"duration must be a number from 0 up, not {self.amount}.")
        if self.unit == "steps" and self.amount != int(self.amount):
            raise ValueError(f"duration must be a whole number of steps, not {self.amount}.")

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """From "200 steps", "30epochs" or "1e6 examples"."""
        match = re.fullmatch(r"\s*([\d.]+(?:e\+?\d+)?)\s*(steps|epochs|examples)\s*", text.lower())
        if match is None:
            raise ValueError(
                f"A duration reads '200 steps', '30 epochs' or '1e6 examples', not {text!r}."
            )
        unit: Unit = match[2]  # type: ignore[assignment]
        return cls(float(match[1]), unit)

    def to_steps(self, *, num_examples: int, batch_size: int) -> int:
        """Updates to make; at least one unless the amount is 0."""
        if self.amount == 0:
            return 0
        examples = {
            "steps": self.amount * batch_size,
            "epochs": self.amount * num_examples,
            "examples": self.amount,
        }[self.unit]
        return max(1, round(examples / batch_size))

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimiser and its cosine schedule with linear warm-up.

    lr: peak learning rate. lr_scaling: "linear" or "sqrt" multiply it by batch_size / 256 or its
    root. warmup: share of all steps. final_lr: share of the peak at the end. final_weight_decay:
    where a cosine takes the weight decay; None: it stays. momentum: SGD and LARS; AdamW takes
    `betas`. Biases and norms are never decayed (nor adapted by LARS).
    """

    name: Literal["adamw", "sgd", "lars"] = "adamw"
    lr: float = 1e-3
    lr_scaling: Literal["none", "linear", "sqrt"] = "none"
    weight_decay: float = 1e-4
    final_weight_decay: float | None = None
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: float = 0.1
    final_lr: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"optim.lr must be above 0, not {self.lr}.")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"optim.warmup is a share of all steps in 0 to 1, not {self.warmup}.")
        for name in ("weight_decay", "final_weight_decay"):
            decay = getattr(self, name)
            if decay is not None and decay < 0:
                raise ValueError(f"optim.{name} must not be below 0, not {decay}.")


def peak_lr(config: OptimConfig, batch_size: int) -> float:
    """The learning rate after warm-up, scaled to the global batch."""
    ratio = batch_size / 256
    return config.lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[config.lr_scaling]


def lr_factor(config: OptimConfig, step: int, num_steps: int) -> float:
    """What the peak learning rate is multiplied by in update `step` (0 is the first).

    Linear warm-up that ends at 1, then half a cosine down to `final_lr` in the last update.
    """
    warmup_steps = round(config.warmup * num_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return cosine((step - warmup_steps) / max(1, num_steps - 1 - warmup_steps), 1, config.final_lr)


def build_optimizer(
    config: OptimConfig, module: nn.Module, *, batch_size: int
) -> torch.optim.Optimizer:
    """The optimiser over all trainable parameters; each group carries its `initial_lr`."""
    lr = peak_lr(config, batch_size)
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (plain if parameter.ndim <= 1 else decayed).append(parameter)
    groups = [
        {"params": params, "weight_decay": decay, "initial_lr": lr, "decays": decays}
        for params, decay, decays in ((decayed, config.weight_decay, True), (plain, 0.0, False))
        if params
    ]
    if config.name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=config.betas, fused=True)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, fused=True)
    # timm's LARS leaves groups without weight decay unadapted (always_adapt=False).
    return Lars(groups, lr=lr, momentum=config.momentum, always_adapt=False)


def weight_decay_at(config: OptimConfig, step: int, num_steps: int) -> float:
    """The weight decay in update `step`: half a cosine from the first to the last value."""
    if config.final_weight_decay is None:
        return config.weight_decay
    return cosine(step / max(1, num_steps - 1), config.weight_decay, config.final_weight_decay)


def cosine(progress: float, start: float, end: float) -> float:
    """Half a cosine from `start` at progress 0 to `end` at 1."""
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, max(0.0, progress)))) / 2


def set_step(
    optimizer: torch.optim.Optimizer, config: OptimConfig, step: int, num_steps: int
) -> None:
    """Give every group the learning rate and weight decay of update `step`, before it is made."""
    factor = lr_factor(config, step, num_steps)
    decay = weight_decay_at(config, step, num_steps)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
        if group["decays"]:
            group["weight_decay"] = decay
