"""SparK sees visible squares only, and its loss is the normalised error of the others."""

import pytest
import torch
from test_sparse import ENCODERS, random_squares, small_encoder
from torch.utils._python_dispatch import TorchDispatchMode

from raysl.methods.method import Batch
from raysl.methods.parts.sparse import only
from raysl.methods.parts.stages import maps_of
from raysl.methods.spark import SparK, SparKConfig, hidden_loss


def spark(name, size, **fields):
    encoder = small_encoder(name, size)
    sizes = {"num_examples": 8, "num_classes": 0, "batch_size": 4, "num_steps": 9}
    return SparK(SparKConfig(decoder_width=16, **fields), encoder, **sizes)


def naive_loss(drawn, images, visible):
    """Square by square and pixel by pixel in float64."""
    size, side, errors = images.shape[2], visible.shape[1], []
    for b in range(len(images)):
        for i in range(side):
            for j in range(side):
                if visible[b, i, j]:
                    continue
                rows = [y for y in range(size) if y * side // size == i]
                columns = [x for x in range(size) if x * side // size == j]
                places = [(c, y, x) for c in range(images.shape[1]) for y in rows for x in columns]
                pixels = [float(images[b][place]) for place in places]
                mean = sum(pixels) / len(pixels)
                variance = sum((p - mean) ** 2 for p in pixels) / (len(pixels) - 1)
                targets = [(p - mean) / (variance + 1e-6) ** 0.5 for p in pixels]
                wrong = [
                    (float(drawn[b][at]) - t) ** 2 for at, t in zip(places, targets, strict=True)
                ]
                errors.append(sum(wrong) / len(wrong))
    return sum(errors) / len(errors)


@pytest.mark.parametrize(("channels", "size", "side"), [(3, 8, 4), (1, 10, 4), (2, 7, 3)])
def test_the_loss_is_the_equation(channels, size, side):
    draw = torch.Generator().manual_seed(size)
    images, drawn = torch.randn(
        2, 3, channels, size, size, generator=draw, dtype=torch.float64
    ).unbind()
    squares = random_squares(3, side)
    expected = naive_loss(drawn, images, squares.visible)
    assert float(hidden_loss(drawn, images, squares)) == pytest.approx(expected, abs=1e-6)


def test_drawing_the_normalised_squares_costs_nothing_and_grey_costs_about_one():
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64) * 5 + 3
    squares = random_squares(2, 3)
    cut = images.unfold(2, 4, 4).unfold(3, 4, 4)  # [B, C, 3, 3, 4, 4]
    mean, std = cut.mean((1, 4, 5), keepdim=True), cut.std((1, 4, 5), keepdim=True)
    perfect = ((cut - mean) / std).permute(0, 1, 2, 4, 3, 5).reshape(images.shape)
    assert float(hidden_loss(perfect, images, squares)) == pytest.approx(0, abs=1e-6)
    assert float(hidden_loss(0 * images, images, squares)) == pytest.approx(47 / 48, abs=1e-5)


def test_visible_squares_cost_nothing_whatever_is_drawn_there():
    images, drawn = torch.randn(2, 2, 1, 8, 8).unbind()
    squares = random_squares(2, 4)
    elsewhere = drawn + 100 * squares.at(8)
    assert hidden_loss(elsewhere, images, squares) == hidden_loss(drawn, images, squares)


@pytest.mark.parametrize(("name", "size"), ENCODERS)
def test_hidden_pixels_change_neither_maps_nor_what_is_drawn(name, size):
    method = spark(name, size)
    images = torch.randn(4, 3, size, size)
    squares = random_squares(4, method.side)
    changed = torch.where(squares.at(size), images, torch.randn_like(images) * 10)
    assert torch.equal(method.draw_from(images, squares), method.draw_from(changed, squares))
    seen = torch.where(squares.at(size), torch.randn_like(images), images)
    assert not torch.equal(method.draw_from(images, squares), method.draw_from(seen, squares))


@pytest.mark.parametrize(("name", "size"), ENCODERS)
@pytest.mark.parametrize("training", [True, False])
def test_hidden_places_of_every_map_are_zero_and_visible_ones_are_not(name, size, training):
    method = spark(name, size).train(training)
    squares = random_squares(4, method.side)
    with only(squares, method.encoder):
        maps = maps_of(method.encoder, torch.randn(4, 3, size, size) * squares.at(size))
    assert len({m.shape[2] for m in maps}) == len(maps) > 1
    for x in maps:
        visible = squares.at(x.shape[2]).expand_as(x)
        assert not x[~visible].any()
        assert x[visible].any()


def test_of_16_squares_6_are_visible_whatever_the_image():
    method = spark("convnet", 28)
    assert (method.side, method.num_visible) == (4, 6)
    squares = method.random_squares(64, torch.Generator().manual_seed(0))
    assert (squares.visible.sum(dim=(1, 2)) == 6).all()
    share = squares.visible.float().mean(dim=0)
    assert (share - 6 / 16).abs().max() < 0.25  # any square can be
    assert torch.equal(squares.at(28)[0, 0, ::7, ::7], squares.visible[0])
    assert (squares.at(28).sum(dim=(1, 2, 3)) == 6 * 7 * 7).all()


@pytest.mark.parametrize(("ratio", "num_visible"), [(0.01, 15), (0.99, 1)])
def test_something_is_always_visible_and_something_hidden(ratio, num_visible):
    assert spark("convnet", 28, mask_ratio=ratio).num_visible == num_visible


def test_an_encoder_with_a_single_last_place_gets_a_sentence():
    with pytest.raises(ValueError, match=r"set views\.size to larger images"):
        spark("convnext", 32)


@pytest.mark.parametrize("fields", [{"mask_ratio": 1.0}, {"decoder_width": 0}])
def test_wrong_parameters_get_a_sentence(fields):
    with pytest.raises(ValueError, match=rf"method\.{next(iter(fields))} must"):
        SparKConfig(**fields)


class Asked(TorchDispatchMode):
    """Counts the operations whose result the processor has to wait for, on any device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        waits = ("_local_scalar_dense", "nonzero.", "masked_select", "_unique", "bincount")
        self.count += any(name in str(function) for name in waits)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "size"), [("convnet", 32), ("convnet", 28), ("resnet10t", 16)])
def test_an_update_asks_for_nothing_on_the_device_where_squares_divide_all_maps(name, size):
    method = spark(name, size)
    images = torch.randn(4, 3, size, size)
    batch = Batch([images], torch.arange(4), None, 0.0, torch.Generator())
    with Asked() as asked:
        method(batch)["loss"].backward()
    assert (asked.count == 0) == (size % 16 == 0)
