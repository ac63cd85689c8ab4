"""Multi-crop: a pass for each resolution, outputs in the order of the views."""

import pytest
import torch

from raysl.methods.parts.views import (
    each_view,
    global_views,
    require_global_views,
    require_views,
)


def views_of(*sizes, batch_size=3):
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(batch_size, 1, size, size, generator=draw) for size in sizes]


def mean(images):
    return images.flatten(1).mean(dim=1, keepdim=True)


@pytest.mark.parametrize("sizes", [(8,), (8, 8), (8, 8, 4, 4, 4), (8, 4, 8), (8, 4)])
def test_the_outputs_are_those_of_each_view_alone_in_their_order(sizes):
    views = views_of(*sizes)
    outputs = each_view(mean, views)
    assert len(outputs) == len(views)
    for output, view in zip(outputs, views, strict=True):
        assert torch.allclose(output, mean(view))


def test_views_of_one_size_share_a_pass():
    passes = []

    def noted(images):
        passes.append(tuple(images.shape))
        return mean(images)

    each_view(noted, views_of(8, 8, 4, 4, 4))
    assert passes == [(6, 1, 8, 8), (9, 1, 4, 4)]


def test_no_views_give_no_outputs():
    assert each_view(mean, []) == []


def test_the_global_views_are_those_of_the_first_ones_size():
    assert len(global_views(views_of(8, 8, 4, 4))) == 2
    assert len(global_views(views_of(8))) == 1


def test_too_few_too_many_or_local_views_get_a_sentence_that_counts_them():
    require_views("X", views_of(8, 8), 2)
    for sizes, counted in (((8,), "not 1 and 0"), ((8, 8, 8), "not 3 and 0"), ((8, 4), "1 and 1")):
        with pytest.raises(ValueError, match=rf"X needs views.num_views=2.*{counted}"):
            require_views("X", views_of(*sizes), 2)


def test_multi_crop_needs_its_leading_views_and_takes_any_number_of_others():
    for sizes in ((8, 8), (8, 8, 4), (8, 8, 4, 4, 4), (8, 8, 8)):
        require_global_views("X", views_of(*sizes))
    for sizes in ((8,), (8, 4, 4), (8, 4)):
        with pytest.raises(ValueError, match=r"X needs views.num_views=2, not 1"):
            require_global_views("X", views_of(*sizes))
