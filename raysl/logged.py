"""What a training logs: the scalars of every update, kept on the device until a report is due."""

import time
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Logged(NamedTuple):
    """The scalars of one update as one tensor, which a report fetches at once."""

    names: tuple[str, ...]
    values: Tensor  # float [len(names)]

    @property
    def metrics(self) -> dict[str, float]:
        """By name; waits for the device."""
        return dict(zip(self.names, self.values.tolist(), strict=True))


def logged(outputs: Mapping[str, Tensor]) -> Logged:
    """A method's scalars, without their gradients."""
    values = torch.stack([value.detach().float() for value in outputs.values()])
    return Logged(tuple(outputs), values)


class RunningMeans:
    """Means since the last report. Adding to them is few operations, and none that waits."""

    def __init__(self, step: int):
        self.start(step)

    def start(self, step: int) -> None:
        """Afresh, after `step` updates."""
        self.step = step
        self.num_steps = 0
        self.sum: Tensor | None = None
        self.num_finite: Tensor | None = None  # updates before the first loss that was not
        self.started = time.perf_counter()

    def seconds(self) -> float:
        return max(time.perf_counter() - self.started, 1e-9)

    def add(self, update: Logged) -> None:
        """An update's scalars, whose memory the next one may overwrite."""
        self.names = update.names
        self.num_steps += 1
        self.sum = update.values.clone() if self.sum is None else self.sum + update.values
        # Once a loss is not finite, no later sum is.
        finite = self.sum[self.names.index("loss")].isfinite()
        self.num_finite = finite.long() if self.num_finite is None else self.num_finite + finite

    def take(self) -> dict[str, float]:
        """The means, once the device has made the updates.

        Raises FloatingPointError naming the first update whose loss was not finite.
        """
        assert self.sum is not None
        assert self.num_finite is not None
        num_finite = int(self.num_finite)
        if num_finite < self.num_steps:
            raise FloatingPointError(
                f"The loss was not finite in update {self.step + num_finite + 1}; lower optim.lr, "
                "raise method.temperature, or set optim.clip_norm=1."
            )
        means = (self.sum / self.num_steps).tolist()
        return {f"train/{name}": mean for name, mean in zip(self.names, means, strict=True)}
