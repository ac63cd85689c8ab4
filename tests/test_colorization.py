"""Colorization tells the chroma of an image, of which it sees the brightness only."""

import pytest
import torch
from method_steps import batch_of, build

from raysl.methods.colorization import split_colours
from raysl.methods.method import Batch
from raysl.rng import generator


def pixel(*rgb):
    brightness, chroma = split_colours(torch.tensor(rgb).view(1, 3, 1, 1))
    return [round(float(value), 3) for value in torch.cat([brightness, chroma], dim=1).flatten()]


def test_known_colours_have_their_brightness_and_chroma():
    """Full-range values of ITU-R BT.601."""
    assert pixel(1.0, 1.0, 1.0) == [1.0, 0.0, 0.0]
    assert pixel(0.5, 0.5, 0.5) == [0.5, 0.0, 0.0]
    assert pixel(1.0, 0.0, 0.0) == [0.299, -0.169, 0.5]
    assert pixel(0.0, 1.0, 0.0) == [0.587, -0.331, -0.419]
    assert pixel(0.0, 0.0, 1.0) == [0.114, 0.5, -0.081]


def test_brightness_and_chroma_are_the_whole_image():
    images = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    brightness, chroma = split_colours(images)
    blue = brightness + chroma[:, :1] / 0.564
    red = brightness + chroma[:, 1:] / 0.713
    green = (brightness - 0.299 * red - 0.114 * blue) / 0.587
    torch.testing.assert_close(torch.cat([red, green, blue], dim=1), images)


def test_normalising_the_pixels_scales_the_chroma_and_moves_the_brightness():
    images = torch.rand(2, 3, 5, 5, dtype=torch.float64)
    brightness, chroma = split_colours(images)
    normalised = split_colours((images - 0.5) / 0.25)
    torch.testing.assert_close(normalised, ((brightness - 0.5) / 0.25, chroma / 0.25))


def test_the_encoder_sees_nothing_of_the_colours():
    """Two images of one brightness get one guess, so their losses differ by the targets alone."""
    method = build("colorization").eval()
    first = batch_of("colorization", 3).views[0]
    brightness, _ = split_colours(first)
    grey = brightness.expand(-1, 3, -1, -1)
    guess = method.decoder(method.encoder.maps(grey))
    for images in (first, grey):
        _, chroma = split_colours(images)
        total = 0.0
        for ours, theirs in zip(guess.flatten().tolist(), chroma.flatten().tolist(), strict=True):
            total += (ours - theirs) ** 2
        batch = Batch([images], torch.arange(3), None, 0.0, generator(0, "test"))
        expected = pytest.approx(total / chroma.numel(), abs=1e-6)
        assert method(batch)["loss"].item() == expected


def test_the_first_layers_channels_move_alike():
    method = build("colorization")
    method(batch_of("colorization", 8))["loss"].backward()
    gradient = method.encoder.body[0].weight.grad  # [D, 3, 3, 3]
    assert gradient.abs().sum() > 0
    torch.testing.assert_close(gradient, gradient[:, :1].expand_as(gradient))
