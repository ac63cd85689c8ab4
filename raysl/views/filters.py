"""Gaussian blur and solarisation of the views that are chosen."""

import torch
import torch.nn.functional as F
from torch import Tensor

from raysl.views.config import ViewConfig
from raysl.views.draws import Draws, between, chosen


def random_blur(views: Tensor, draws: Draws, config: ViewConfig, *, num_images: int) -> Tensor:
    """The views [N, C, S, S], each chosen one blurred with its own sigma."""
    if not (config.blur_prob or config.blur_prob_second):
        return views
    kernels = gaussian_kernels(
        between(draws.sigma, *config.blur_sigma), blur_radius(views.shape[-1])
    )
    # The others go the same way with a kernel of one pixel: picking them out would have to wait
    # for the device to learn how many they are.
    size = kernels.shape[1]
    identity = (torch.arange(size, device=kernels.device) == size // 2).to(kernels)
    probs = config.blur_prob, config.blur_prob_second
    blurred = chosen(draws.blur, *probs, num_images=num_images)
    return blur(views, torch.where(blurred[:, None], kernels, identity))


def blur_radius(size: int) -> int:
    """A kernel of about a tenth of the view, as in SimCLR: 3 pixels at 32, 23 at 224."""
    return max(1, size // 20)


def gaussian_kernels(sigma: Tensor, radius: int) -> Tensor:
    """Kernels [N, 2 radius + 1] that sum to one, from sigma [N] in pixels."""
    offsets = torch.arange(-radius, radius + 1, device=sigma.device)
    return F.softmax(-0.5 * (offsets / sigma[:, None]).square(), dim=1)


def blur(views: Tensor, kernels: Tensor) -> Tensor:
    """Views [N, C, S, S] convolved with their own kernel [N, K] along both axes."""
    size = kernels.shape[1]
    planes = F.pad(views, (size // 2,) * 4, mode="reflect").flatten(0, 1)  # [N C, S + K - 1, ...]
    weight = kernels.repeat_interleave(views.shape[1], dim=0)[:, None]  # [N C, 1, K]
    rows, columns = weight[..., None, :], weight[..., None]
    if size <= 5:  # one pass over memory: 1.6 times as fast at 3, even at 7, slower from 11 on
        blurred = F.conv2d(planes[None], columns * rows, groups=len(planes))
    else:
        blurred = F.conv2d(planes[None], columns, groups=len(planes))
        blurred = F.conv2d(blurred, rows, groups=len(planes))
    return blurred.view_as(views)


def random_solarize(views: Tensor, draws: Draws, config: ViewConfig, *, num_images: int) -> Tensor:
    """The views in 0-1, each chosen one with its pixels from the threshold on inverted."""
    if not (config.solarize_prob or config.solarize_prob_second):
        return views
    probs = config.solarize_prob, config.solarize_prob_second
    inverted = chosen(draws.solarize, *probs, num_images=num_images)[:, None, None, None]
    return torch.where(inverted & (views >= config.solarize_threshold), 1 - views, views)
