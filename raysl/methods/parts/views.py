"""Views of several resolutions: each resolution in one pass."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def each_view(module: Callable[[Tensor], Tensor], views: Sequence[Tensor]) -> list[Tensor]:
    """`module` of every view, views of one size joined into one pass: a tensor [B, ...] each."""
    outputs: list[Tensor] = []
    start = 0
    for end in range(1, len(views) + 1):
        if end == len(views) or views[end].shape[-1] != views[start].shape[-1]:
            outputs += module(torch.cat(list(views[start:end]))).chunk(end - start)
            start = end
    return outputs


def global_views(views: Sequence[Tensor]) -> Sequence[Tensor]:
    """The leading views, which have the size of the first."""
    return [view for view in views if view.shape[-1] == views[0].shape[-1]]


def require_views(name: str, views: Sequence[Tensor], num_views: int) -> None:
    """A sentence unless there are so many views, all of one size."""
    if len(views) != num_views or len(global_views(views)) != num_views:
        raise ValueError(
            f"{name} needs views.num_views={num_views} and views.num_local_views=0, not "
            f"{len(global_views(views))} and {len(views) - len(global_views(views))}."
        )


def require_global_views(name: str, views: Sequence[Tensor], num_views: int = 2) -> None:
    """A sentence unless so many views lead, all of one size; any number of local ones may follow.

    Local views that have the size of the leading ones are local all the same.
    """
    if len(views) < num_views or len(global_views(views[:num_views])) != num_views:
        raise ValueError(
            f"{name} needs views.num_views={num_views}, not {len(global_views(views))}."
        )
