"""Super-resolution restores the details that a smaller version of an image lost."""

import pytest
import torch
from method_steps import batch_of, build

from raysl.methods.super_resolution import SuperResolutionConfig, coarsen


@pytest.mark.parametrize("size", [28, 32, 33])
@pytest.mark.parametrize("factor", [1.5, 2.0, 4.0])
def test_a_coarse_image_keeps_its_size_and_flat_areas(size, factor):
    images = torch.rand(2, 3, 1, 1).expand(-1, -1, size, size)
    torch.testing.assert_close(coarsen(images, factor), images)


def test_waves_below_the_coarse_pixels_vanish_and_those_above_stay():
    x = torch.arange(64)
    for period, kept in ((2, 0.0), (4, 0.0), (32, 1.0)):
        wave = torch.cos(2 * torch.pi * (x + 0.25) / period)
        image = wave.expand(1, 1, 64, 64).contiguous()
        contrast = coarsen(image, 4.0)[..., 16:48].std() / image[..., 16:48].std()
        assert float(contrast) == pytest.approx(kept, abs=0.1), period


def test_nothing_but_the_coarse_pixels_is_left():
    """Of 16 x 16 pixels at factor 4: 16 numbers, so no more dimensions than those."""
    images = torch.randn(40, 1, 16, 16, dtype=torch.float64)
    assert torch.linalg.matrix_rank(coarsen(images, 4.0).flatten(1)) == 16


def test_the_loss_is_the_mean_squared_difference_from_the_sharp_image():
    method = build("super_resolution", factor=2.0)
    batch = batch_of("super_resolution", 3)
    sharp = batch.views[0]
    restored = method.decoder(method.encoder.maps(coarsen(sharp, 2.0)))
    total = 0.0
    for ours, theirs in zip(restored.flatten().tolist(), sharp.flatten().tolist(), strict=True):
        total += (ours - theirs) ** 2
    assert method(batch)["loss"].item() == pytest.approx(total / sharp.numel(), abs=1e-6)


@pytest.mark.parametrize("factor", [1.01, 40.0])
def test_a_factor_that_leaves_nothing_to_do_or_to_see_gets_a_sentence(factor):
    with pytest.raises(ValueError, match="of 16 px; choose 2 to 16"):
        build("super_resolution", factor=factor)


def test_a_factor_that_is_not_above_1_gets_a_sentence():
    with pytest.raises(ValueError, match=r"method\.factor must be above 1"):
        SuperResolutionConfig(factor=1.0)
