"""Masks hide what they say, in the shapes that they promise."""

import math

import pytest
import torch

from raysl.methods.parts.masks import (
    NUM_BLOCKS,
    block_patches,
    block_size,
    blockwise,
    multi_block,
    num_hidden,
    random_split,
)

JEPA = {
    "num_targets": 4,
    "target_scale": (0.15, 0.2),
    "target_aspect": (0.75, 1.5),
    "context_scale": (0.85, 1.0),
}


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_random_split_has_every_patch_once_and_hides_all_equally_often():
    visible, hidden = random_split(torch.rand(4000, 16, generator=draw()), 4)
    assert visible.shape == (4000, 4)
    both = torch.cat([visible, hidden], dim=1)
    assert torch.equal(both.sort(dim=1).values, torch.arange(16).expand(4000, -1))
    rate = torch.bincount(hidden.flatten(), minlength=16) / 4000
    assert (rate - 0.75).abs().max() < 4 * math.sqrt(0.75 * 0.25 / 4000)


@pytest.mark.parametrize(
    ("patches", "ratio", "hidden"),
    [(196, 0.75, 147), (64, 0.75, 48), (196, 0.4, 79), (2, 0.01, 1), (2, 0.99, 1), (16, 0.999, 15)],
)
def test_a_ratio_hides_so_many_and_never_none_nor_all(patches, ratio, hidden):
    assert num_hidden(patches, ratio) == hidden


def naive_blocks(numbers, side, num_hidden, min_share):
    """BEiT's algorithm 1 for one image, block by block and patch by patch."""
    smallest = max(1.0, min_share * side * side)
    from_below = numbers[0][0] < 0.5
    hidden = []
    for area, aspect, top, left in numbers:
        missing = num_hidden - len(hidden)
        if missing <= 0:
            break
        area = smallest + area * (missing - smallest)
        aspect = 0.3 * (1 / 0.3**2) ** aspect  # log-uniform from 0.3 to 1 / 0.3
        height = min(side, max(1, round(math.sqrt(area * aspect))))
        width = min(side, max(1, round(math.sqrt(area / aspect))))
        top, left = int(top * (side - height + 1)), int(left * (side - width + 1))
        rows, columns = range(top, top + height), range(left, left + width)
        new = [row * side + column for row in rows for column in columns]
        new = [patch for patch in new if patch not in hidden]
        hidden += reversed(new) if from_below else new
    rest = [patch for patch in range(side * side) if patch not in hidden]
    return [*hidden, *(reversed(rest) if from_below else rest)][:num_hidden]


@pytest.mark.parametrize("min_share", [0.08, 4 / 256])
@pytest.mark.parametrize(("side", "hidden"), [(2, 1), (4, 7), (8, 26), (14, 79), (14, 195)])
def test_blocks_are_those_of_the_algorithm(side, hidden, min_share):
    numbers = torch.rand(50, NUM_BLOCKS, 4, generator=draw(side))
    found = blockwise(numbers, side=side, num_hidden=hidden, min_share=min_share)
    for row, of_image in zip(found.tolist(), numbers.tolist(), strict=True):
        assert row == naive_blocks(of_image, side, hidden, min_share)


@pytest.mark.parametrize(("side", "hidden"), [(2, 1), (4, 7), (8, 26), (14, 79), (14, 195)])
def test_blocks_hide_exactly_so_many_different_patches(side, hidden):
    numbers = torch.rand(200, NUM_BLOCKS, 4, generator=draw())
    found = blockwise(numbers, side=side, num_hidden=hidden, min_share=0.08)
    assert found.shape == (200, hidden)
    assert all(len(row.unique()) == hidden for row in found)
    assert found.min() >= 0
    assert found.max() < side * side


def test_one_block_of_known_size_and_place_hides_a_square():
    numbers = torch.full((2, NUM_BLOCKS, 4), 0.5)  # aspect 1
    numbers[0, :, 2:] = 0.0
    numbers[1, :, 2:] = 0.999
    found = blockwise(numbers, side=8, num_hidden=16, min_share=0.25).sort(dim=1).values
    square = (torch.arange(4)[:, None] * 8 + torch.arange(4)).flatten()
    assert torch.equal(found, torch.stack([square, square + 4 * 8 + 4]))


def test_the_largest_aspects_are_those_of_the_authors():
    numbers = torch.full((2, NUM_BLOCKS, 4), 0.0)
    numbers[1, :, 1] = 1.0
    found = blockwise(numbers, side=16, num_hidden=52, min_share=48 / 256)
    heights, widths = (
        torch.tensor([len(row.unique()) for row in where]) for where in (found // 16, found % 16)
    )
    assert (heights.tolist(), widths.tolist()) == ([4, 13], [13, 4])  # sqrt(48 * 0.3), and / 0.3


def test_blocks_hide_neighbours_and_random_masks_do_not():
    side, hidden = 14, 79

    def neighbours(index):
        mask = torch.zeros(len(index), side * side).scatter(1, index, 1.0).view(-1, side, side)
        return float((mask[:, :, 1:] * mask[:, :, :-1]).sum() / mask.sum())

    numbers = torch.rand(300, NUM_BLOCKS, 4, generator=draw())
    blocks = blockwise(numbers, side=side, num_hidden=hidden, min_share=16 / 196)
    _, scattered = random_split(torch.rand(300, side * side, generator=draw()), 196 - hidden)
    assert neighbours(scattered) < 0.42
    assert neighbours(blocks) > 0.75


def test_blocks_hide_both_halves_of_the_image_equally_often():
    numbers = torch.rand(4000, NUM_BLOCKS, 4, generator=draw())
    found = blockwise(numbers, side=8, num_hidden=26, min_share=0.08)
    assert float((found < 32).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert float((found % 8 < 4).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_a_mask_depends_on_its_own_numbers_only():
    numbers = torch.rand(9, NUM_BLOCKS, 4, generator=draw())
    whole = blockwise(numbers, side=8, num_hidden=26, min_share=0.08)
    assert torch.equal(whole[3:5], blockwise(numbers[3:5], side=8, num_hidden=26, min_share=0.08))


@pytest.mark.parametrize(
    ("scale", "aspect", "size"),
    [(0.2, 1.0, (6, 6)), (0.2, 1.5, (8, 5)), (0.15, 0.75, (5, 6)), (1.0, 1.0, (14, 14))],
)
def test_a_block_of_14_x_14_patches_has_the_size_of_its_share_and_aspect(scale, aspect, size):
    assert block_size(14, scale=scale, aspect=aspect) == size


def test_the_patches_of_blocks_are_rectangles_that_reach_all_edges():
    corners = torch.tensor([[[0.0, 0.0], [0.999, 0.999], [0.5, 0.0]]])
    found = block_patches(corners, 2, 3, side=4)
    assert found.tolist() == [[[0, 1, 2, 4, 5, 6], [9, 10, 11, 13, 14, 15], [4, 5, 6, 8, 9, 10]]]


@pytest.mark.parametrize("side", [7, 8, 14])
def test_i_jepas_context_is_a_block_without_its_targets_and_as_large_as_the_poorest(side):
    for seed in range(5):
        context, targets = multi_block(draw(seed), 20, side=side, **JEPA)
        assert len(context) == 20
        assert targets.shape[:2] == (20, 4)
        for kept, blocks in zip(context.tolist(), targets.flatten(1).tolist(), strict=True):
            assert len(set(kept)) == len(kept)
            assert not set(kept) & set(blocks)
        assert 0.1 * side**2 < targets.shape[2] <= 0.25 * side**2
        free = side**2 - max(len(set(blocks)) for blocks in targets.flatten(1).tolist())
        assert context.shape[1] <= free


def test_i_jepas_context_is_drawn_from_its_whole_block():
    """With one small target almost nothing is taken out, so that every patch is kept often."""
    settings = {**JEPA, "num_targets": 1, "target_scale": (0.05, 0.05)}
    kept = torch.zeros(64)
    for seed in range(40):
        context, _ = multi_block(draw(seed), 10, side=8, **settings)
        kept += torch.bincount(context.flatten(), minlength=64)
    assert kept.min() > 0.4 * 400


def test_i_jepa_has_a_context_even_where_targets_cover_everything():
    settings = {**JEPA, "target_scale": (1.0, 1.0), "target_aspect": (1.0, 1.0)}
    context, targets = multi_block(draw(), 3, side=4, **settings)
    assert context.shape == (3, 1)
    assert targets.shape == (3, 4, 16)
