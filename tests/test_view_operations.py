"""Each operation of the views against torchvision's."""

import dataclasses
import math

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor
from torchvision.transforms import InterpolationMode

from raysl.views import VIEWS, ViewConfig, make_views
from raysl.views.colour import LUMA, QUARTER_TURN, colour_map
from raysl.views.draws import Draws, draw
from raysl.views.filters import blur, blur_radius, gaussian_kernels
from raysl.views.geometry import Boxes, random_boxes, sample

STILL = dataclasses.replace(VIEWS["none"], mean=(0.0,), std=(1.0,))  # nothing random, 0-1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 8, channels: int = 3, size: int = 16) -> Tensor:
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(42))


def floats(count: int = 8, channels: int = 3, size: int = 16) -> Tensor:
    return images(count, channels, size).float() / 255


def draws_of(count: int, **fixed: Tensor | float) -> Draws:
    values = {k: torch.as_tensor(v).expand(count) for k, v in fixed.items()}
    return draw(count, seeded())._replace(**values)


def pixel_boxes(top: Tensor, left: Tensor, height: Tensor, width: Tensor, size: int) -> Boxes:
    """Boxes in whole pixels as the coordinates of grid_sample."""
    return Boxes(
        x=(2 * left + width) / size - 1,
        y=(2 * top + height) / size - 1,
        half_width=width / size,
        half_height=height / size,
    )


def whole(count: int) -> Boxes:
    zero, one = torch.zeros(count), torch.ones(count)
    return Boxes(x=zero, y=zero, half_width=one, half_height=one)


# Geometry


@pytest.mark.parametrize("size", [2, 8, 28, 32, 33])
def test_the_whole_image_as_a_crop_is_the_image(size):
    pixels = floats(size=size)
    torch.testing.assert_close(sample(pixels, whole(8), size), pixels, atol=2e-6, rtol=0)


def test_no_augmentation_reproduces_every_pixel():
    (view,) = make_views(images(), STILL, seeded())
    assert torch.equal(view, floats())


@pytest.mark.parametrize(("field", "axis"), [("flip", 3), ("vertical_flip", 2)])
def test_a_flip_is_exactly_a_flip(field, axis):
    (view,) = make_views(images(), dataclasses.replace(STILL, **{field: 1.0}), seeded())
    torch.testing.assert_close(view, floats().flip(axis), atol=2e-6, rtol=0)


@pytest.mark.parametrize(("size", "out"), [(32, 32), (32, 20), (17, 24), (8, 8)])
def test_a_crop_matches_torchvision(size, out):
    pixels = floats(64, size=size)
    height, width = (torch.randint(1, size + 1, (64,), generator=seeded(s)) for s in (1, 2))
    top = (torch.rand(64, generator=seeded(3)) * (size - height + 1)).long()
    left = (torch.rand(64, generator=seeded(4)) * (size - width + 1)).long()
    ours = sample(pixels, pixel_boxes(top, left, height, width, size), out)
    for i in range(64):
        box = [int(v[i]) for v in (top, left, height, width)]
        expected = TF.resized_crop(
            pixels[i], *box, [out, out], InterpolationMode.BILINEAR, antialias=False
        )
        torch.testing.assert_close(ours[i], expected, atol=1e-4, rtol=0)


def test_a_rotation_matches_torchvision_inside_the_image():
    pixels = floats(4, size=33)
    angles = torch.tensor([-30.0, 10.0, 90.0, 180.0])
    ours = sample(pixels, whole(4), 33, degrees=angles)
    for i, angle in enumerate(angles.tolist()):
        expected = TF.rotate(pixels[i], angle, InterpolationMode.BILINEAR)
        centre = slice(8, 25)  # what no angle brings in from outside
        torch.testing.assert_close(
            ours[i, :, centre, centre], expected[:, centre, centre], atol=1e-4, rtol=0
        )


def test_the_area_of_crops_is_uniform_in_its_range_and_boxes_fit():
    config = ViewConfig(crop_scale=(0.2, 1.0))
    boxes = random_boxes(draw(20_000, seeded()), config)
    area = boxes.half_width * boxes.half_height
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert area.quantile(quantile).item() == pytest.approx(0.2 + 0.8 * quantile, abs=0.01)
    ratio = boxes.half_width / boxes.half_height
    assert ratio.min() >= 0.75 - 1e-4
    assert ratio.max() <= 4 / 3 + 1e-4
    assert (boxes.x.abs() + boxes.half_width).max() <= 1 + 1e-6
    assert (boxes.y.abs() + boxes.half_height).max() <= 1 + 1e-6
    small = area < 0.5  # there every ratio fits
    assert ratio[small].log().mean().item() == pytest.approx(0, abs=0.01)
    assert ratio[small].log().std().item() == pytest.approx(2 * math.log(4 / 3) / 12**0.5, rel=0.03)


@pytest.mark.parametrize("ratio", [(2.0, 3.0), (0.2, 0.4), (0.01, 100.0)])
def test_ratios_that_do_not_fit_keep_the_area(ratio):
    boxes = random_boxes(draw(1000, seeded()), ViewConfig(crop_scale=(0.9, 1.0), crop_ratio=ratio))
    area = boxes.half_width * boxes.half_height
    assert area.min() >= 0.9 - 1e-5
    assert torch.maximum(boxes.half_width, boxes.half_height).max() <= 1


def test_views_smaller_than_half_the_image_do_not_alias():
    stripes = torch.zeros(4, 1, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    config = dataclasses.replace(STILL, size=8, crop_scale=(0.9, 1.0), num_views=2)
    for view in make_views(stripes, config, seeded()):
        assert (view - 0.5).abs().max() < 0.05


# Colour


def colour_only(**fields: float) -> ViewConfig:
    zero = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
    return dataclasses.replace(STILL, **(zero | {"jitter_prob": 1.0} | fields))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_a_factor_matches_torchvision(name, channels):
    pixels = 0.3 + 0.4 * floats(32, channels)  # far enough from 0 and 1 that nothing is clamped
    draws = draws_of(32)
    matrix, bias = colour_map(pixels.mean((2, 3)), draws, colour_only(**{name: 0.3}), num_images=32)
    ours = (matrix @ pixels.flatten(2) + bias).view_as(pixels)
    adjust = getattr(TF, f"adjust_{name}")
    for i in range(32):
        factor = 0.7 + 0.6 * getattr(draws, name)[i].item()
        expected = adjust(pixels[i], factor) if (name, channels) != ("saturation", 1) else pixels[i]
        torch.testing.assert_close(ours[i], expected, atol=1e-5, rtol=0)


def test_grayscale_matches_torchvision():
    config = dataclasses.replace(STILL, grayscale_prob=1.0)
    (view,) = make_views(images(), config, seeded())
    torch.testing.assert_close(view, TF.rgb_to_grayscale(floats(), 3), atol=1e-5, rtol=0)


def test_hue_is_the_rotation_in_yiq():
    yiq = torch.tensor([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)]).double()
    turn = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]]).double()
    expected = yiq.inverse() @ turn @ yiq
    torch.testing.assert_close(torch.tensor(QUARTER_TURN).double(), expected, atol=1e-6, rtol=0)


def test_hue_keeps_luma_and_grey_and_turns_red_towards_green():
    luma = torch.tensor(LUMA)
    pixels = 0.4 + 0.2 * floats(64)
    matrix, bias = colour_map(
        pixels.mean((2, 3)), draws_of(64), colour_only(hue=0.5), num_images=64
    )
    shifted = (matrix @ pixels.flatten(2) + bias).view_as(pixels)
    before, after = (torch.einsum("nchw,c->nhw", p, luma) for p in (pixels, shifted))
    torch.testing.assert_close(before, after, atol=2e-4, rtol=0)
    torch.testing.assert_close(matrix.sum(2), torch.ones(64, 3), atol=2e-4, rtol=0)
    quarter_turn = draws_of(1, hue=0.999), colour_only(hue=0.25)
    (quarter, _) = colour_map(torch.zeros(1, 3), *quarter_turn, num_images=1)
    red, green, _ = quarter[0, :, 0]
    assert red < 0.3 < green


def test_colour_strength_scales_all_four_jitters():
    draws, means = draws_of(16), torch.rand(16, 3, generator=seeded())
    strong = colour_only(brightness=0.4, contrast=0.2, saturation=0.6, hue=0.1)
    strong = dataclasses.replace(strong, colour_strength=0.5)
    weak = colour_only(brightness=0.2, contrast=0.1, saturation=0.3, hue=0.05)
    maps = (colour_map(means, draws, config, num_images=16) for config in (strong, weak))
    for ours, expected in zip(*maps, strict=True):
        torch.testing.assert_close(ours, expected)


def test_colours_stay_in_the_range_of_pixels():
    config = dataclasses.replace(VIEWS["simclr"], mean=(0.0,), std=(1.0,))
    for view in make_views(images(64), config, seeded()):
        assert view.min() >= -1e-6
        assert view.max() <= 1 + 1e-6


def test_saturation_hue_and_grayscale_do_nothing_to_grey_images():
    config = dataclasses.replace(colour_only(saturation=0.9, hue=0.5), grayscale_prob=0.5)
    (view,) = make_views(images(channels=1), config, seeded())
    torch.testing.assert_close(view, floats(channels=1), atol=1e-6, rtol=0)


# Filters


@pytest.mark.parametrize("size", [2, 8, 32, 64, 130])
def test_blur_matches_torchvision(size):
    pixels, sigma = floats(6, size=size), torch.tensor([0.1, 0.3, 0.5, 1.0, 1.5, 2.0])
    radius = blur_radius(size)
    ours = blur(pixels, gaussian_kernels(sigma, radius))
    for i in range(6):
        expected = TF.gaussian_blur(pixels[i], [2 * radius + 1] * 2, [sigma[i].item()] * 2)
        torch.testing.assert_close(ours[i], expected, atol=1e-5, rtol=0)


def test_the_blur_kernel_is_odd_and_about_a_tenth_of_the_view():
    sizes = {size: 2 * blur_radius(size) + 1 for size in (2, 8, 32, 64, 96, 224)}
    assert sizes == {2: 3, 8: 3, 32: 3, 64: 7, 96: 9, 224: 23}


def test_blur_leaves_the_images_that_are_not_chosen():
    config = dataclasses.replace(STILL, blur_prob=0.5, blur_sigma=(1.0, 1.0))
    (view,) = make_views(images(64), config, seeded())
    untouched = (view == floats(64)).flatten(1).all(1)
    assert 16 <= untouched.sum() <= 48
    expected = TF.gaussian_blur(floats(64)[~untouched], [3, 3], [1.0, 1.0])
    torch.testing.assert_close(view[~untouched], expected, atol=1e-5, rtol=0)


def test_solarize_matches_torchvision():
    config = dataclasses.replace(STILL, solarize_prob=1.0, solarize_threshold=0.6)
    (view,) = make_views(images(), config, seeded())
    torch.testing.assert_close(view, TF.solarize(floats(), 0.6), atol=1e-6, rtol=0)
