"""The maps of an encoder are its features before they are pooled."""

import pytest
import torch

from raysl.encoder import EncoderConfig, build_encoder

# name, image size, fields, side of the maps
ENCODERS = [
    ("convnet", 28, {"width": 8}, 4),
    ("convnet", 30, {"width": 8, "norm": "group"}, 4),
    ("resnet10t", 32, {"stem": "small"}, 4),
    ("resnet18", 28, {}, 4),
    ("resnet10t", 64, {"stem": "standard"}, 2),
    ("convnext_atto", 64, {}, 2),
    ("convnext_tiny_hnf", 64, {}, 2),  # with the norm before the pooling
    ("vit", 28, {"width": 8, "pool": "token"}, 14),
    ("vit", 28, {"width": 8, "pool": "avg"}, 14),
    ("vit_tiny_patch16_224", 32, {"pool": "avg"}, 8),
    ("deit_tiny_distilled_patch16_224", 32, {}, 8),
]
POOLED_BY_MEAN = [case for case in ENCODERS if case[0] in ("convnet", "resnet18", "resnet10t")]


@torch.no_grad()
def build(name, image_size, fields):
    torch.manual_seed(0)
    config = EncoderConfig(name=name, **fields)
    encoder = build_encoder(config, channels=3, image_size=image_size).eval()
    for parameter in encoder.parameters():  # so that no layer is the identity
        parameter.add_(0.05 * torch.randn_like(parameter))
    return encoder, torch.randn(2, 3, image_size, image_size)


@pytest.mark.parametrize(("name", "image_size", "fields", "side"), ENCODERS)
def test_maps_are_square_and_use_every_parameter_of_the_encoder(name, image_size, fields, side):
    encoder, images = build(name, image_size, fields)
    maps = encoder.maps(images)
    assert maps.shape == (2, encoder.num_features, side, side)
    maps.square().sum().backward()
    unused = [n for n, p in encoder.named_parameters() if p.grad is None]
    assert not unused


@pytest.mark.parametrize(("name", "image_size", "fields", "side"), POOLED_BY_MEAN)
def test_the_mean_of_the_maps_is_the_features(name, image_size, fields, side):
    encoder, images = build(name, image_size, fields)
    torch.testing.assert_close(encoder.maps(images).mean(dim=(2, 3)), encoder(images))


def test_a_convnext_norms_every_place_of_its_maps_as_it_norms_the_pooled_features():
    encoder, images = build("convnext_atto", 64, {})
    places = encoder.body.forward_features(images)
    norm = encoder.body.head.norm
    pooled = norm(places.mean(dim=(2, 3), keepdim=True)).flatten(1)
    torch.testing.assert_close(pooled, encoder(images))
    corner = norm(places[:, :, 1:, :1]).flatten(1)
    torch.testing.assert_close(encoder.maps(images)[:, :, 1, 0], corner)


def test_the_mean_of_a_vits_maps_is_its_features_where_no_norm_follows_the_mean():
    encoder, images = build("vit", 28, {"width": 8, "pool": "avg"})
    encoder.body.fc_norm = torch.nn.Identity()
    torch.testing.assert_close(encoder.maps(images).mean(dim=(2, 3)), encoder(images))


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_the_maps_of_a_vit_are_where_the_patches_are(pool):
    """One block less than none: of a patch alone, changing it changes only its own place."""
    encoder, images = build("vit", 28, {"width": 8, "pool": pool})
    encoder.body.blocks = torch.nn.Identity()
    changed = images.clone()
    changed[:, :, 4:6, 10:12] += 1.0  # the patch in row 2, column 5
    moved = (encoder.maps(changed) - encoder.maps(images)).abs().amax(dim=(0, 1)) > 0
    assert moved.nonzero().tolist() == [[2, 5]]


def test_the_maps_of_a_convnet_are_where_the_pixels_are():
    encoder, images = build("convnet", 28, {"width": 8})
    changed = images.clone()
    changed[:, :, -4:, :4] += 5.0  # rows first: the lower left corner
    moved = (encoder.maps(changed) - encoder.maps(images)).abs().sum(dim=(0, 1))
    assert moved[2:, :2].min() > 0
    assert moved[0].max() == moved[:, -1].max() == 0


def test_a_model_without_a_square_map_is_refused_with_a_sentence():
    encoder, images = build("pit_ti_distilled_224", 64, {})  # it returns two tokens
    with pytest.raises(ValueError, match="no square map"):
        encoder.maps(images)
