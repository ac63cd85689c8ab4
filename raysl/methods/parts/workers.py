"""What the workers that train one model together share; all of it is the identity for one."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Generator, Tensor


def num_workers() -> int:
    """Workers that train this model together; 1 outside of distributed training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def worker_rank() -> int:
    """This worker's place among them; 0 outside of distributed training."""
    return dist.get_rank() if num_workers() > 1 else 0


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        # Every worker's loss depends on every worker's x: sum what all of them send back.
        # A copy, for autograd may hand the same tensor to others.
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def gather(x: Tensor) -> Tensor:
    """All workers' x in rank order, [B, ...] -> [workers * B, ...], with gradient.

    The gradient is that of the sum of all workers' losses, so that DDP's mean over workers gives
    the gradient of the mean loss: k workers with batch B/k equal one with batch B.
    """
    return _Gather.apply(x.contiguous()) if num_workers() > 1 else x


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


def summed(x: Tensor) -> Tensor:
    """The sum of all workers' x, with the gradient of the sum of all workers' losses.

    A loss that is the same on every worker (of summed statistics, say) then gets DDP's mean right.
    """
    return _Sum.apply(x) if num_workers() > 1 else x


def averaged(x: Tensor) -> Tensor:
    """The mean of all workers' x, with gradient as `summed`."""
    return summed(x) / num_workers() if num_workers() > 1 else x


def batch_mean(x: Tensor) -> Tensor:
    """[..., 1, D] over the global batch of x [..., B, D], this worker's rows."""
    return averaged(x.mean(dim=-2, keepdim=True))


def draw(generator: Generator, batch_size: int, *shape: int) -> Tensor:
    """Uniform numbers [batch_size, *shape] in 0 to 1 for this worker's images.

    They are this worker's rows of the joined batch's numbers, so that with equal generators k
    workers draw for each image what one would.
    """
    rank = worker_rank()
    rows = torch.rand(
        (num_workers() * batch_size, *shape), generator=generator, device=generator.device
    )
    return rows[rank * batch_size : (rank + 1) * batch_size]


def common_generator(seed: Tensor, number: int = 0) -> Generator:
    """A generator that is the same on every worker, on the CPU: of a method's own `seed` buffer.

    A method that needs one has `self.register_buffer("seed", torch.randint(2**31, ()))`.
    """
    return Generator().manual_seed(int(seed) * 1_000_003 + number)
