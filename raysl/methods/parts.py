"""Parts that two methods share."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def mlp(num_features: int, widths: Sequence[int], *, final_norm: bool = False) -> nn.Sequential:
    """Linear layers of the given widths with batch norm and ReLU between them.

    The last layer is linear without bias; `final_norm` adds a batch norm after it.
    """
    layers: list[nn.Module] = []
    for i, width in enumerate(widths):
        last = i == len(widths) - 1
        layers.append(nn.Linear(num_features, width, bias=False))
        if not last or final_norm:
            layers.append(nn.BatchNorm1d(width))
        if not last:
            layers.append(nn.ReLU(inplace=True))
        num_features = width
    return nn.Sequential(*layers)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Every worker's loss depends on every worker's x: sum what all of them send back.
        total = grads[0].contiguous()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def gather(x: Tensor) -> Tensor:
    """All workers' x in rank order, [B, ...] -> [workers * B, ...], with gradient.

    The gradient is that of the sum of all workers' losses, so that DDP's mean over workers gives
    the gradient of the mean loss: k workers with batch B/k equal one with batch B.
    """
    return _Gather.apply(x) if num_workers() > 1 else x


def num_workers() -> int:
    """Workers that train this model together; 1 outside of distributed training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def worker_rank() -> int:
    """This worker's place among them; 0 outside of distributed training."""
    return dist.get_rank() if num_workers() > 1 else 0
