"""What a method keeps of earlier images: a bank with a row for each, and a queue of the last ones.

Both are buffers that every worker updates with what all workers saw, in the order of their ranks,
so they agree everywhere and with those of one worker that saw the joined batch.

A loss that was computed with `rows` needs them unchanged for its gradient: compute it with a clone
of `rows`, or with some of them (`rows[index]`, which is a copy too).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysl.methods.parts.workers import gather


class FeatureBank(nn.Module):
    """A row of `width` for each training image, random and normalised at first."""

    rows: Tensor  # [num_examples, width]

    def __init__(self, num_examples: int, width: int):
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(num_examples, width), dim=1))

    @torch.no_grad()
    def store(self, index: Tensor, features: Tensor) -> None:
        """Overwrite the rows of all workers' images; index int64 [B], features [B, width].

        An image must not be twice in the joined batch; the loop's batches are of distinct images.
        """
        self.rows[gather(index)] = gather(features.to(self.rows.dtype))

    @torch.no_grad()
    def mix(self, index: Tensor, features: Tensor, momentum: float) -> None:
        """As `store`, but with momentum * row + (1 - momentum) * features, normalised."""
        mixed = torch.lerp(features.to(self.rows.dtype), self.rows[index], momentum)
        self.store(index, F.normalize(mixed, dim=1))


class FeatureQueue(nn.Module):
    """The last `size` features, random and normalised at first."""

    rows: Tensor  # [size, width]
    num_stored: Tensor  # int64, rows written so far; from `size` on none is random any more

    def __init__(self, size: int, width: int):
        super().__init__()
        self.register_buffer("rows", F.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("num_stored", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, features: Tensor) -> None:
        """Replace the oldest rows by all workers' features [B, width]; the last of too many."""
        features = gather(features.to(self.rows.dtype))[-len(self.rows) :]
        places = torch.arange(len(features), device=self.rows.device) + self.num_stored
        self.rows[places % len(self.rows)] = features
        self.num_stored.add_(len(features))
