"""Brightness, contrast, saturation, hue and grayscale as one affine map on each view's channels.

    x -> b c (G + s (cos(t) (1 - G) + sin(t) J)) x + (1 - c) b mean(luma(x))

with G the projection on luma, J a quarter turn of the two colour axes of YIQ, b, c, s the factors
of brightness, contrast and saturation, t the hue angle; grayscale is s = 0. Without clamping the
factors commute, so their order does not matter. Three differences from torchvision's ColorJitter:
values are clamped once at the end, not after each of four steps in random order; hue is the
rotation in YIQ, which keeps luma, not a shift of H in HSV; the mean of contrast is of the values
before clamping.
"""

import math

import torch
from torch import Tensor

from raysl.views.config import ViewConfig
from raysl.views.draws import Draws, between, chosen, constant

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, as rounded by torchvision's rgb_to_grayscale
# A quarter turn of the IQ plane in terms of RGB, from red towards green: T^-1 K T with T the NTSC
# matrix whose rows are LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112).
QUARTER_TURN = (
    (-0.16772002, -0.32930108, 0.49702110),
    (0.32811404, -0.03555386, -0.29256018),
    (-1.24974938, 1.04647550, 0.20327388),
)


def random_colour(views: Tensor, draws: Draws, config: ViewConfig, *, num_images: int) -> Tensor:
    """The views float [N, C, S, S] in 0-1 with their colours changed, in 0-1 again."""
    jitter = max(config.jitter_prob, config.jitter_prob_second or 0)
    grayscale = max(config.grayscale_prob, config.grayscale_prob_second or 0)
    if not (jitter * config.colour_strength or grayscale):
        return views
    matrix, bias = colour_map(views.mean((2, 3)), draws, config, num_images=num_images)
    out = torch.baddbmm(bias, matrix, views.flatten(2))
    return out.clamp_(0, 1).view_as(views)


def colour_map(
    means: Tensor, draws: Draws, config: ViewConfig, *, num_images: int
) -> tuple[Tensor, Tensor]:
    """The map as a matrix [N, C, C] and a bias [N, 1, 1], from the channels' means [N, C]."""
    probs = config.jitter_prob, config.jitter_prob_second
    jittered = chosen(draws.jitter, *probs, num_images=num_images)
    strength = config.colour_strength
    brightness = torch.where(jittered, factor(draws.brightness, config.brightness * strength), 1)
    contrast = torch.where(jittered, factor(draws.contrast, config.contrast * strength), 1)
    gain = (brightness * contrast)[:, None]  # [N, 1]
    num_channels = means.shape[1]
    if num_channels == 3:
        luma = constant(LUMA, means.device)  # [3]
        saturation = torch.where(
            jittered, factor(draws.saturation, config.saturation * strength), 1
        )
        probs = config.grayscale_prob, config.grayscale_prob_second
        grey = chosen(draws.grayscale, *probs, num_images=num_images)
        saturation = torch.where(grey, 0, saturation)
        turns = config.hue * strength
        angle = torch.where(jittered, between(draws.hue, -turns, turns) * (2 * math.pi), 0)
        weights = torch.stack(
            [torch.ones_like(angle), saturation * angle.cos(), saturation * angle.sin()], dim=1
        )  # [N, 3]
        projection = luma.expand(3, 3)
        turn = constant(QUARTER_TURN, means.device)
        basis = torch.stack(
            [projection, torch.eye(3, device=means.device) - projection, turn]
        )  # [3, 3, 3]
        matrix = (gain * weights @ basis.flatten(1)).unflatten(1, (3, 3))
        level = means @ luma
    else:
        matrix = gain[:, :, None] * torch.eye(num_channels, device=means.device)
        level = means.mean(1)
    return matrix, ((1 - contrast) * brightness * level)[:, None, None]


def factor(uniform: Tensor, strength: float) -> Tensor:
    """Uniform in 1 - strength (at least 0) to 1 + strength."""
    return between(uniform, max(0.0, 1 - strength), 1 + strength)
