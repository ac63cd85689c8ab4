"""What DINO and DINOv2 share: the head, the teacher's targets, and how they scale."""

import math
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from raysl.methods.parts.fields import require
from raysl.methods.parts.sinkhorn import sinkhorn
from raysl.methods.parts.teacher import MOMENTUM_RULE, Copied, teacher_of
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.workers import summed
from raysl.precision import full_precision

Balance = Literal["centring", "sinkhorn", "batch-softmax"]
SCALING = {
    "num_outputs": "num_examples / 20 to the nearest power of 2, in 256 to 65536",
    "hidden": "2048, or 6 times the encoder's features where that is less",
    "momentum": MOMENTUM_RULE,
}


class DinoHead(nn.Module):
    """Features to cosines [B, K] with K prototypes: an MLP with GELU, a narrow layer, L2.

    The prototypes' norm is fixed at 1. `hidden`: None follows the rule above.
    """

    def __init__(
        self,
        num_features: int,
        num_outputs: int,
        *,
        hidden: int | None,
        bottleneck: int,
        depth: int,
    ):
        super().__init__()
        widths = [num_features, *[hidden or min(2048, 6 * num_features)] * (depth - 1), bottleneck]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            linear = nn.Linear(inputs, outputs)
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
            layers += [linear, nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.prototypes = nn.Linear(bottleneck, num_outputs, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        z = self.mlp(features)
        with full_precision(z):  # a bfloat16 cosine is off by a tenth of the teacher's temperature
            prototypes = self.prototypes.weight
            rows = unit_rows(torch.cat([z.to(prototypes.dtype), prototypes]))
            return F.linear(*rows.split([len(z), len(prototypes)]))

    def rest_prototypes(self) -> None:
        """Leave the last layer out of the update that is due."""
        self.prototypes.weight.grad = None


class Targets(nn.Module):
    """From the teacher's scores [B, K] to distributions that use all K outputs.

    "centring": softmax((scores - centre) / temperature); the centre follows the means of the
    joined batches with `momentum`, after they were used. "sinkhorn": three iterations;
    "batch-softmax": one. Only training moves the centre.
    """

    centre: Tensor  # [K]

    def __init__(self, num_outputs: int, *, balance: Balance, momentum: float):
        super().__init__()
        self.balance = balance
        self.momentum = momentum
        self.register_buffer("centre", torch.zeros(num_outputs))

    @torch.no_grad()
    def forward(self, scores: Tensor, temperature: float) -> Tensor:
        scores = scores.to(self.centre.dtype)
        if self.balance != "centring":
            num_iterations = 3 if self.balance == "sinkhorn" else 1
            return sinkhorn(scores, epsilon=temperature, num_iterations=num_iterations)
        targets = ((scores - self.centre) / temperature).softmax(dim=1)
        if self.training:
            total = summed(scores.sum(dim=0))
            count = summed(scores.new_full((), len(scores)))  # may differ between workers
            mean = torch.where(count > 0, total / count.clamp_min(1), self.centre)
            self.centre.lerp_(mean, 1 - self.momentum)
        return targets


def warmed_up(progress: float, start: float, end: float, share: float) -> float:
    """From `start` at progress 0 in a line to `end` at `share` of the training, then constant."""
    return end if progress >= share else start + (end - start) * progress / share


def default_num_outputs(num_examples: int) -> int:
    """65,536 for ImageNet's 1.28 million images, as in the paper, and in proportion below."""
    return int(min(65536, max(256, 2 ** round(math.log2(max(1, num_examples) / 20)))))


def require_fields(config: Any) -> None:
    """A sentence about the first field of a DINO or DINOv2 config that cannot be."""
    require(config, "at least 1", "num_outputs", "hidden", "bottleneck", "depth")
    require(config, "above 0", "student_temperature", "teacher_temperature", "warmup_temperature")
    require(config, "from 0 to 1", "warmup", "centre_momentum", "momentum", "frozen")


def still_teacher_of(student: Copied) -> Copied:
    """A copy without gradients and without stochastic depth."""
    teacher = teacher_of(student)
    for module in teacher.modules():
        if isinstance(module, DropPath):
            module.drop_prob = 0.0
    return teacher
