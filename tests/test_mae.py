"""MAE's loss is that of the paper, and its encoder sees visible patches only."""

import math

import pytest
import torch
from method_steps import SIZE, batch_of, build

from raysl.methods import Batch
from raysl.methods.mae import MAEConfig, normalised, reconstruction_loss
from raysl.methods.parts.masks import random_split
from raysl.rng import generator


def naive_loss(predicted, patches):
    """The mean over hidden patches of the mean squared error to their normalised pixels."""
    total = 0.0
    for p, x in zip(predicted.flatten(0, 1).tolist(), patches.flatten(0, 1).tolist(), strict=True):
        mean = sum(x) / len(x)
        variance = sum((value - mean) ** 2 for value in x) / (len(x) - 1)
        target = [(value - mean) / math.sqrt(variance + 1e-6) for value in x]
        total += sum((a - b) ** 2 for a, b in zip(p, target, strict=True)) / len(x)
    return total / (len(predicted) * predicted.shape[1])


@pytest.mark.parametrize("shape", [(1, 1, 4), (2, 3, 12), (5, 7, 48)])
def test_the_loss_equals_the_equation(shape):
    draw = torch.Generator().manual_seed(sum(shape))
    predicted, patches = torch.randn(2, *shape, generator=draw, dtype=torch.float64)
    loss = reconstruction_loss(predicted, normalised(patches * 3 + 1))
    assert float(loss) == pytest.approx(naive_loss(predicted, patches * 3 + 1), abs=1e-6)


def test_known_losses():
    patches = torch.randn(2, 3, 48, dtype=torch.float64)
    target = normalised(patches)
    assert float(reconstruction_loss(target, target)) == 0
    assert float(reconstruction_loss(torch.zeros_like(target), target)) == pytest.approx(
        47 / 48, abs=1e-4
    )
    assert torch.equal(normalised(torch.full((1, 1, 48), 3.0)), torch.zeros(1, 1, 48))
    assert torch.equal(normalised(torch.full((1, 1, 1), 3.0)), torch.zeros(1, 1, 1))


def patches_at(images, index, step):
    """The images with `step` added to these patches of 4 px."""
    moved = images.clone()
    for image, row in zip(moved, index.tolist(), strict=True):
        for number in row:
            top, left = number // (SIZE // 4) * 4, number % (SIZE // 4) * 4
            image[:, top : top + 4, left : left + 4] += step
    return moved


@torch.no_grad()
def test_hidden_pixels_enter_the_loss_as_targets_only_and_visible_ones_not_as_targets():
    """Along hidden pixels the loss is then a parabola of known curvature."""
    method = build("mae", normalise_pixels=False, mask_ratio=0.5).double().eval()
    images = batch_of("mae", 3).views[0].double()
    noise = torch.rand(3, 16, generator=generator(0, "test"))
    visible, hidden = random_split(noise, 8)

    def loss(images):
        batch = Batch([images], torch.arange(3), None, 0.0, generator(0, "test"))
        return float(method(batch)["loss"])

    up, down = (loss(patches_at(images, hidden, step)) for step in (0.3, -0.3))
    assert up + down - 2 * loss(images) == pytest.approx(2 * 0.3**2, abs=1e-5)
    before = loss(images)
    assert loss(patches_at(images, visible, 0.3)) != pytest.approx(before, abs=1e-3)
    torch.nn.init.zeros_(method.decoder.predict.weight)  # predict 0 whatever is visible
    before = loss(images)
    assert loss(patches_at(images, visible, 0.3)) == before
    assert loss(patches_at(images, hidden, 0.3)) != pytest.approx(before, abs=1e-3)


def test_the_encoder_runs_on_a_quarter_of_the_patches():
    method = build("mae")
    seen = []
    method.encoder.body.blocks[0].register_forward_hook(lambda m, x, y: seen.append(x[0].shape[1]))
    method(batch_of("mae", 2))
    assert seen == [1 + 4]  # the class token, and 4 of 16


@pytest.mark.parametrize(
    ("field", "value"),
    [("mask_ratio", 0.0), ("mask_ratio", 1.0), ("decoder_width", 33), ("decoder_depth", 0)],
)
def test_wrong_parameters_get_a_sentence(field, value):
    with pytest.raises(ValueError, match=f"method.{field} must"):
        MAEConfig(**{field: value})
