"""A denoising autoencoder restores the clean image from hidden and noisy pixels."""

import pytest
import torch
from method_steps import batch_of, build

from raysl.methods.denoising import DenoisingConfig, corrupt
from raysl.rng import generator


def corrupted(images, **fields):
    return corrupt(
        images, torch.Generator().manual_seed(0), **{"masking": 0, "noise_std": 0} | fields
    )


@pytest.mark.parametrize("masking", [0.0, 0.25, 0.7])
def test_the_share_of_hidden_pixels_is_that_of_the_config_in_all_channels_alike(masking):
    images = torch.rand(8, 3, 64, 64) + 1
    hidden = corrupted(images, masking=masking) == 0
    assert float(hidden.float().mean()) == pytest.approx(masking, abs=0.01)
    assert torch.equal(hidden.any(dim=1), hidden.all(dim=1))
    assert torch.equal(corrupted(images, masking=masking)[~hidden], images[~hidden])


def test_noise_is_normal_and_independent_over_channels():
    noise = corrupted(torch.zeros(8, 3, 64, 64), noise_std=0.5)
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.5, abs=0.01)
    assert float((noise.abs() < 0.5).float().mean()) == pytest.approx(0.6827, abs=0.01)
    assert float((noise.abs() < 1.0).float().mean()) == pytest.approx(0.9545, abs=0.01)
    correlations = torch.corrcoef(noise.transpose(0, 1).flatten(1)) - torch.eye(3)
    assert float(correlations.abs().max()) < 0.03


def test_hidden_pixels_get_noise_too():
    images = torch.full((2, 1, 16, 16), 9.0)
    both = corrupted(images, masking=0.5, noise_std=0.1)
    assert 0.3 < float((both < 4).float().mean()) < 0.7
    assert both.unique().numel() == both.numel()


def test_the_loss_is_the_mean_squared_difference_from_the_clean_image():
    method = build("denoising", masking=0.4, noise_std=0.3)
    clean = batch_of("denoising", 3).views[0]
    seen = corrupt(clean, generator(0, "test"), masking=0.4, noise_std=0.3)
    restored = method.decoder(method.encoder.maps(seen))
    total = 0.0
    for ours, theirs in zip(restored.flatten().tolist(), clean.flatten().tolist(), strict=True):
        total += (ours - theirs) ** 2
    loss = method(batch_of("denoising", 3))["loss"]
    assert loss.item() == pytest.approx(total / clean.numel(), abs=1e-6)


@pytest.mark.parametrize(("field", "value"), [("masking", 1.0), ("noise_std", -0.1)])
def test_wrong_parameters_get_a_sentence(field, value):
    with pytest.raises(ValueError, match=rf"method\.{field} must"):
        DenoisingConfig(**{field: value})
