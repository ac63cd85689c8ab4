"""A convnet that sees only some squares of an image, as sparse convolutions would compute it.

Dense layers run, and what they put into hidden places is set back to zero before another place can
read it; norms over space get visible places only. Tian et al., ICLR 2023, section 3.1.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.layers import BlurPool2d, LayerNorm2d, Mlp
from timm.models.convnext import ConvNeXtBlock
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from raysl.precision import at_least_float32

POINTWISE_OR_LOCAL = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, BlurPool2d, nn.LayerNorm, nn.Linear)
NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
Forward = Callable[[Tensor], Tensor]


class Squares:
    """Which of u x u squares of each image are visible, on maps of any size from u up.

    visible: bool [B, u, u]. Place i of a side of `size` belongs to square i u // size, so that
    squares differ by one place where u does not divide the size.
    num_visible: of each image's squares, where it is the same for all and known without asking.
    """

    def __init__(self, visible: Tensor, num_visible: int | None = None):
        self.visible = visible
        self.num_visible = num_visible
        self.side = visible.shape[1]
        self._at: dict[int, Tensor] = {}
        self._places: dict[int, Tensor] = {}

    def at(self, size: int) -> Tensor:
        """Visible places of a map of `size`, bool [B, 1, size, size]."""
        if size not in self._at:
            self._at[size] = self.spread(self.visible, size)
        return self._at[size]

    def spread(self, x: Tensor, size: int) -> Tensor:
        """What squares have, [B, u, u], at each of their places: [B, 1, size, size]."""
        square = square_of(size, self.side, x.device)
        return x.index_select(1, square).index_select(2, square)[:, None]

    def places(self, size: int) -> Tensor:
        """Visible places of the batch's maps of `size`, which are one long row: int64 [M]."""
        if size not in self._places:
            flat = self.at(size).flatten()
            self._places[size] = torch.nonzero_static(flat, size=self._num_places(size))[:, 0]
        return self._places[size]

    def places_each(self, size: int) -> int | None:
        """Visible places of each image's map, where all are known to have equally many."""
        if self.num_visible is None or size % self.side:
            return None
        return self.num_visible * (size // self.side) ** 2

    def _num_places(self, size: int) -> int:
        each = self.places_each(size)
        if each is not None:
            return len(self.visible) * each
        length = torch.bincount(square_of(size, self.side, torch.device("cpu")))
        return int((self._num_images * length[:, None] * length).sum())

    @functools.cached_property
    def _num_images(self) -> Tensor:
        """In how many images each square is visible, int64 [u, u]: the one wait for the device."""
        return self.visible.sum(dim=0).cpu()


def square_of(size: int, side: int, device: torch.device) -> Tensor:
    """The square, 0 to side - 1, that each place of a side belongs to: int64 [size]."""
    return torch.arange(size, device=device) * side // size


@contextmanager
def only(squares: Squares, module: nn.Module) -> Iterator[None]:
    """Within it the module's layers compute visible places only, and zeros elsewhere."""
    changed: list[nn.Module] = []
    unmasked = read_by_place(module)
    try:
        for layer in module.modules():
            forward: Forward
            if isinstance(layer, _BatchNorm):
                forward = functools.partial(_of_visible, layer.forward, squares)
            elif isinstance(layer, nn.GroupNorm):
                forward = functools.partial(_group_norm, layer, layer.forward, squares)
            elif isinstance(layer, POINTWISE_OR_LOCAL) and layer not in unmasked:
                last = isinstance(layer, nn.Linear | nn.LayerNorm)
                channels_last = last and not isinstance(layer, LayerNorm2d)
                forward = functools.partial(_masked, layer.forward, squares, channels_last)
            else:
                continue
            layer.__dict__["forward"] = forward  # the instance's goes before its class's
            changed.append(layer)
        yield
    finally:
        for layer in changed:
            del layer.__dict__["forward"]


def read_by_place(module: nn.Module) -> set[nn.Module]:
    """Layers that one other alone reads, which mixes no hidden place with another: a norm, an MLP.

    What they put into hidden places goes nowhere, and need not be set back to zero.
    """
    found: set[nn.Module] = set()
    parents: Iterable[Any] = module.modules()
    for parent in parents:
        kind = type(parent)  # no subclass, whose forward may differ
        pairs: list[tuple[nn.Module, nn.Module]] = []
        if kind is nn.Sequential:
            pairs = list(itertools.pairwise(parent))
        elif kind in (ResNet, BasicBlock, Bottleneck):
            layers = dict(parent.named_children())
            pairs = [(layers[f"conv{i}"], layers[f"bn{i}"]) for i in "123" if f"bn{i}" in layers]
        elif kind is ConvNeXtBlock:
            found |= {parent.conv_dw, parent.norm}
            if type(parent.mlp) is Mlp:  # another has a norm over space before its second layer
                found.add(parent.mlp.fc1)
        for layer, reader in pairs:
            if isinstance(reader, NORMS):
                found.add(layer[-1] if isinstance(layer, nn.Sequential) else layer)
    return found


def _masked(forward: Forward, squares: Squares, channels_last: bool, x: Tensor) -> Tensor:
    y = forward(x)
    size = y.shape[1 if channels_last else 2] if y.ndim == 4 else 0
    if size < squares.side:  # pooled over space, as within squeeze-and-excite
        return y
    visible = squares.at(size)
    return y * (visible.permute(0, 2, 3, 1) if channels_last else visible)


def _of_visible(norm: Forward, squares: Squares, x: Tensor) -> Tensor:
    """The norm itself, of the visible places: of each image where they have equally many."""
    size = x.shape[2]
    if size < squares.side:  # as above
        return norm(x)
    places = squares.places(size)
    rows: Tensor = _Take.apply(x, places)
    images = len(x) if squares.places_each(size) else 1
    y = norm(rows.view(images, -1, 1, x.shape[1]).permute(0, 3, 1, 2))  # of [B, C, M / B, 1]
    found: Tensor = _Put.apply(y.permute(0, 2, 3, 1).reshape(rows.shape), places, x.shape)
    return found


def _group_norm(norm: nn.GroupNorm, forward: Forward, squares: Squares, x: Tensor) -> Tensor:
    """Group norm over the visible places of each image."""
    size = x.shape[2]
    if size < squares.side or squares.places_each(size):
        return _of_visible(forward, squares, x)
    visible = squares.at(size)
    kept = at_least_float32(x) * visible
    groups = kept.unflatten(1, (norm.num_groups, -1))  # [B, G, C / G, h, w]
    count = visible.sum(dim=(1, 2, 3)).view(-1, 1, 1, 1, 1) * groups.shape[2]
    mean = groups.sum(dim=(2, 3, 4), keepdim=True) / count
    centred = (groups - mean) * visible[:, None]
    variance = centred.square().sum(dim=(2, 3, 4), keepdim=True) / count
    y = (centred * (variance + norm.eps).rsqrt()).flatten(1, 2)
    if norm.weight is not None:
        y = y * norm.weight[:, None, None] + norm.bias[:, None, None]
    return (y * visible).to(x.dtype)


def take(x: Tensor, places: Tensor) -> Tensor:
    """Rows [M, C] of a map [B, C, h, w] at `places`, which are views of one in channels_last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).index_select(0, places)


def put(rows: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
    """The map of this shape, in channels_last, with these rows at `places` and zeros elsewhere."""
    y = torch.empty(
        shape, dtype=rows.dtype, device=rows.device, memory_format=torch.channels_last
    ).zero_()
    y.permute(0, 2, 3, 1).view(-1, shape[1]).index_copy_(0, places, rows)
    return y


class _Take(torch.autograd.Function):
    """`take` of places that all differ, so that its gradient is `put` and adds nothing up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.shape = x.shape
        return take(x, places)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        return put(grads[0], places, ctx.shape), None


class _Put(torch.autograd.Function):
    """`put`, whose gradient is `take`; as one operation, its map is no view for what comes next."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(places)
        return put(rows, places, shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return take(grads[0], places), None, None
