"""PIRL's puzzles are shuffled tiles of a view, and its loss mixes that of puzzle and view."""

import pytest
import torch
import torch.nn.functional as F
from method_steps import batch_of, build

from raysl.encoder import EncoderConfig, build_encoder
from raysl.methods.pirl import PIRLConfig, default_negatives, shuffled_tiles, tile_size


def marked_views(size, count=4):
    """Each pixel holds its cell's number; the second channel its row, the third its column."""
    cell = size // 3
    at = torch.arange(size).float()
    number = (at // cell).clamp(max=2)
    cells = number[:, None] * 3 + number[None, :]
    rows = at[:, None].expand(size, size)
    return torch.stack([cells, rows, rows.T]).expand(count, -1, -1, -1)


def tiles_of(size, tile, count=4, seed=0):
    return shuffled_tiles(marked_views(size, count), tile, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "tile"), [(28, 7), (32, 8), (16, 5), (9, 3), (8, 2)])
def test_a_puzzle_has_one_whole_tile_of_each_cell(size, tile):
    tiles = tiles_of(size, tile, count=20)
    assert tiles.shape == (20, 9, 3, tile, tile)
    for puzzle in tiles:
        numbers = [part[0].unique() for part in puzzle]
        assert all(len(number) == 1 for number in numbers)
        assert sorted(int(number) for number in numbers) == list(range(9))
        for part in puzzle:
            assert (part[1].diff(dim=0) == 1).all()
            assert (part[2].diff(dim=1) == 1).all()


def test_every_image_has_its_own_order_and_all_orders_come():
    first = tiles_of(28, 7, count=400)[:, 0, 0, 0, 0].long()
    counts = first.bincount(minlength=9)
    assert (counts > 20).all()  # 44 of 400 are expected, 6 is a standard deviation


def test_tiles_lie_anywhere_in_their_cell():
    tiles = tiles_of(28, 7, count=200)  # cells of 9 pixels: 3 places each way
    tops = (tiles[:, :, 1, 0, 0] % 9).unique()
    lefts = (tiles[:, :, 2, 0, 0] % 9).unique()
    assert tops.tolist() == lefts.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("name", "size", "patch_size", "expected"),
    [
        ("convnet", 28, None, 7),
        ("convnet", 32, None, 8),
        ("convnet", 96, None, 24),
        ("vit", 28, 2, 6),
        ("vit", 32, 4, 8),
        ("vit", 64, 8, 16),
    ],
)
def test_tiles_are_the_paper_s_share_of_a_cell_in_whole_patches(name, size, patch_size, expected):
    config = EncoderConfig(name=name, width=8, patch_size=patch_size)
    encoder = build_encoder(config, channels=1, image_size=size)
    assert tile_size(encoder) == expected
    assert expected <= size // 3


@pytest.mark.parametrize("name", ["convnet", "resnet18", "vit"])
def test_the_encoders_for_small_images_take_the_tiles(name):
    config = EncoderConfig(name=name)
    encoder = build_encoder(config, channels=3, image_size=28)
    method = type(build("pirl"))(
        PIRLConfig(), encoder, num_examples=4, num_classes=0, batch_size=2, num_steps=9
    )
    assert method.encoder.training
    assert encoder(torch.zeros(2, 3, method.tile, method.tile)).shape == (2, encoder.num_features)


def test_patches_larger_than_a_cell_are_refused_in_a_sentence():
    encoder = EncoderConfig(name="vit", width=8, patch_size=8)  # cells of 5 pixels
    with pytest.raises(ValueError, match=r"cells of 5 px and needs an encoder .*, not 'vit'"):
        build("pirl", encoder=encoder)


def test_the_loss_mixes_puzzle_and_view():
    method = build("pirl", jigsaw=0.3)
    outputs = method(batch_of("pirl", 8))
    expected = 0.3 * outputs["puzzle_loss"] + 0.7 * outputs["view_loss"]
    assert torch.allclose(outputs["loss"], expected)


def test_the_view_asks_for_its_image_s_own_row_among_all():
    """-log softmax(f . b / t) at the image's index, with f in evaluation mode."""
    method = build("pirl", loss="softmax").eval()
    batch = batch_of("pirl", 8)
    f = F.normalize(method.view_head(method.encoder(batch.views[0])), dim=1)
    logits = f @ method.instances.bank.rows.T / 0.07
    expected = -logits.log_softmax(dim=1)[torch.arange(8), batch.index].mean()
    found = method(batch)["view_loss"].detach()
    assert float(found) == pytest.approx(float(expected.detach()), abs=1e-5)


def test_the_puzzle_asks_for_the_same_row_through_its_two_heads():
    method = build("pirl", loss="softmax").eval()
    batch = batch_of("pirl", 8)
    tiles = shuffled_tiles(batch.views[1], method.tile, batch_of("pirl", 8).generator)
    projected = [method.tile_head(method.encoder(tiles[:, k])) for k in range(9)]
    g = F.normalize(method.puzzle_head(torch.cat(projected, dim=1)), dim=1)
    logits = g @ method.instances.bank.rows.T / 0.07
    expected = -logits.log_softmax(dim=1)[torch.arange(8), batch.index].mean()
    found = method(batch)["puzzle_loss"].detach()
    assert float(found) == pytest.approx(float(expected.detach()), abs=1e-5)


def test_the_bank_follows_the_view_and_not_the_puzzle():
    method = build("pirl", bank_momentum=0.0)
    before = method.instances.bank.rows.clone()
    batch = batch_of("pirl", 6)
    method(batch)["loss"].backward()
    f = F.normalize(method.view_head(method.encoder(batch.views[0])), dim=1)
    assert torch.allclose(method.instances.bank.rows[:6], f, atol=1e-5)
    assert torch.equal(method.instances.bank.rows[6:], before[6:])


def test_the_bank_moves_in_training_only():
    method = build("pirl").eval()
    before = method.instances.bank.rows.clone()
    method(batch_of("pirl", 6))
    assert torch.equal(method.instances.bank.rows, before)
    assert not method.has_validation_loss


def test_a_share_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"method\.jigsaw"):
        PIRLConfig(jigsaw=1.5)


@pytest.mark.parametrize(
    ("num_examples", "expected"),
    [(50, 50), (5000, 4096), (300_000, 7500), (1_280_000, 32_000), (9_000_000, 32_000)],
)
def test_negatives_are_the_paper_s_share_of_the_pool_within_bounds(num_examples, expected):
    assert default_negatives(num_examples) == expected
