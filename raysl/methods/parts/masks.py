"""Which patches are hidden: at random, in blocks (BEiT), or as several targets (I-JEPA).

All shapes are known before the device has computed anything, so that nothing waits for it.
"""

import math

import torch
from torch import Generator, Tensor

from raysl.methods.parts.workers import num_workers, worker_rank

NUM_BLOCKS = 10  # tries a mask; over 99.7 % of masks are then made of blocks only


def random_split(noise: Tensor, num_visible: int) -> tuple[Tensor, Tensor]:
    """The patches of lowest noise [B, N] and the others, int64 [B, num_visible] and the rest."""
    order = noise.argsort(dim=1)
    return order[:, :num_visible], order[:, num_visible:]


def num_hidden(num_patches: int, ratio: float) -> int:
    """How many patches that share is: at least one, and not all."""
    return min(num_patches - 1, max(1, num_patches - int(num_patches * (1 - ratio))))


def blockwise(
    numbers: Tensor, *, side: int, num_hidden: int, min_share: float, min_aspect: float = 0.3
) -> Tensor:
    """The patches that blocks of random size, shape and place hide, int64 [B, num_hidden].

    numbers: uniform in 0 to 1, [B, blocks, 4]. min_share: the smallest block's share of the
    patches. BEiT's algorithm 1: blocks are added until enough patches are hidden, the area of
    each between the smallest one's and what is still missing. The last is cut off row by row, in
    half of the images from below, where the authors draw another.
    """
    batch_size, num_blocks, _ = numbers.shape
    numbers, num_patches = numbers.float(), side * side
    u_area, u_aspect = numbers[:, :, 0, None], numbers[:, :, 1, None]  # [B, blocks, 1]
    aspect = (math.log(min_aspect) * (1 - 2 * u_aspect)).exp()
    smallest = max(1.0, min_share * num_patches)
    # Where a block lies depends on how many patches the earlier ones hide: a number from 0 to all.
    # Every such number is worked out at once, which starts a fifth of the kernels on a GPU that
    # block after block does.
    count = torch.arange(num_patches + 1, device=numbers.device)
    missing = (num_hidden - count).clamp_min(1)
    area = smallest + u_area * (missing - smallest)  # [B, blocks, N + 1]
    size = torch.stack([area * aspect, area / aspect], dim=-1).sqrt().round().clamp(1, side)
    first = (numbers[:, :, None, 2:] * (side + 1 - size)).floor()  # [B, blocks, N + 1, 2]
    line, place = count[:side], count[:num_patches]
    lines = (line >= first[..., None]) & (line < (first + size)[..., None])  # [..., 2, side]

    hidden = lines.new_zeros(batch_size, side, side)
    after_each = []
    for i in range(num_blocks):
        so_far = hidden.sum(dim=(1, 2)).view(-1, 1, 1, 1).expand(-1, 1, 2, side)
        rows, columns = lines[:, i].gather(1, so_far).unbind(2)  # [B, 1, side] each
        hidden = hidden | (rows.mT & columns)
        after_each.append(hidden)
    earliness = torch.stack(after_each).sum(dim=0).flatten(1)  # [B, N]
    place = place.copysign(numbers[:, :1, 0] - 0.5)  # falls where the mask is cut from below
    return torch.sub(place, earliness, alpha=2 * num_patches).argsort(dim=1)[:, :num_hidden]


def multi_block(
    generator: Generator,
    batch_size: int,
    *,
    side: int,
    num_targets: int,
    target_scale: tuple[float, float],
    target_aspect: tuple[float, float],
    context_scale: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """I-JEPA's context, int64 [B, K], and target blocks, int64 [B, num_targets, M], on the CPU.

    As the authors' collator does: all blocks of a batch have one size each, only their places
    differ; the context is a block without the targets, and all images keep as many patches of it
    as the poorest has, here a random choice and not the upper ones. Where too few are left, others
    that are not targets fill up. `generator` is a CPU generator that all workers have alike.
    """
    size, shape, context_size = torch.rand(3, generator=generator).tolist()
    height, width = block_size(
        side, scale=between(target_scale, size), aspect=between(target_aspect, shape)
    )
    square, _ = block_size(side, scale=between(context_scale, context_size), aspect=1.0)
    joined, num_patches = num_workers() * batch_size, side * side
    corners = torch.rand(joined, num_targets + 1, 2, generator=generator)
    noise = torch.rand(joined, num_patches, generator=generator)
    targets = block_patches(corners[:, 1:], height, width, side=side)
    context = block_patches(corners[:, :1], square, square, side=side)
    rank = torch.ones(joined, num_patches)  # 0: context, 1: outside of its block, 2: targets
    rank.scatter_(1, context.flatten(1), 0.0).scatter_(1, targets.flatten(1), 2.0)
    fewest = max(1, num_patches * 10 // 256)  # the authors' min_keep=10 of 16 x 16
    num_kept = max(fewest, int((rank == 0).sum(dim=1).min()))
    kept = (rank + noise).argsort(dim=1)[:, :num_kept]
    own = slice(worker_rank() * batch_size, (worker_rank() + 1) * batch_size)
    return kept[own], targets[own]


def block_size(side: int, *, scale: float, aspect: float) -> tuple[int, int]:
    """Height and width in patches of a block with this share of side x side patches."""
    area = int(side * side * scale)
    height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    return min(side, max(1, height)), min(side, max(1, width))


def block_patches(corners: Tensor, height: int, width: int, *, side: int) -> Tensor:
    """The patches of the blocks at places [B, T, 2] in 0 to 1, int64 [B, T, height * width]."""
    room = torch.tensor([side - height + 1, side - width + 1], device=corners.device)
    first = (corners * room).long()  # [B, T, 2]
    rows = first[:, :, 0, None] + torch.arange(height, device=corners.device)
    columns = first[:, :, 1, None] + torch.arange(width, device=corners.device)
    return (rows[:, :, :, None] * side + columns[:, :, None, :]).flatten(2)


def between(limits: tuple[float, float], number: float) -> float:
    """The number in 0 to 1 stretched to the limits."""
    return limits[0] + (limits[1] - limits[0]) * number


def require_range(name: str, limits: tuple[float, float], highest: float = math.inf) -> None:
    """A sentence unless these are limits above 0 in order."""
    if not 0 < limits[0] <= limits[1] <= highest:
        end = "" if highest == math.inf else f" up to {highest:g}"
        raise ValueError(
            f"method.{name} must be a range above 0{end} such as {name_example(name)}, "
            f"not {limits[0]},{limits[1]}."
        )


def name_example(name: str) -> str:
    return "0.75,1.5" if "aspect" in name else "0.15,0.2"
