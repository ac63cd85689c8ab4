"""Encoders at the sizes that studies use, and what they say when an image does not fit."""

import pytest
import torch

from raysl.config import from_dict, to_dict
from raysl.encoder import EncoderConfig, build_encoder
from raysl.patch_embed import PatchConv2d
from raysl.rng import global_seed


def build(image_size: int = 32, channels: int = 3, **fields):
    return build_encoder(EncoderConfig(**fields), channels=channels, image_size=image_size)


def images(image_size: int = 32, channels: int = 3, count: int = 2) -> torch.Tensor:
    return torch.randn(count, channels, image_size, image_size)


def map_sizes(encoder: torch.nn.Module, image_size: int) -> list[int]:
    """The sides of the maps that the convolutions see, in order."""
    sizes: list[int] = []

    def record(module, inputs, output):
        sizes.append(inputs[0].shape[-1])

    for module in encoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(record)
    encoder.eval()(images(image_size))
    return sizes


@pytest.mark.parametrize(
    ("name", "num_features"),
    [("convnet", 128), ("vit", 128), ("resnet18", 512), ("vit_tiny_patch16_224", 192)],
)
@pytest.mark.parametrize(("image_size", "channels"), [(8, 1), (16, 3), (32, 1), (32, 3), (64, 3)])
def test_features_have_one_row_an_image(name, num_features, image_size, channels):
    encoder = build(image_size, channels, name=name)
    assert encoder.num_features == num_features
    features = encoder(images(image_size, channels))
    assert features.shape == (2, num_features)
    assert features.isfinite().all()


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("image_size", [2, 3, 5, 7, 9, 28, 33, 96])
def test_the_convnet_takes_any_size(image_size, norm):
    encoder = build(image_size, norm=norm)
    features = encoder(images(image_size))
    assert features.shape == (2, encoder.num_features)
    features.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize(
    ("image_size", "sizes"),
    [(4, [4, 4, 4, 4]), (8, [8, 4, 4, 4]), (32, [32, 16, 8, 4]), (64, [64, 32, 16, 8])],
)
def test_the_convnet_halves_maps_only_above_four_pixels(image_size, sizes):
    inputs = map_sizes(build(image_size), image_size)
    assert inputs == sizes


def test_the_default_convnet_has_a_quarter_million_parameters():
    assert sum(p.numel() for p in build().parameters()) == 241_184


def test_the_small_vit_has_six_blocks_and_a_million_parameters():
    encoder = build(name="vit")
    assert len(encoder.body.blocks) == 6
    assert sum(p.numel() for p in encoder.parameters()) == 1_204_608
    assert build(name="vit", width=16, patch_size=8).num_features == 64


@pytest.mark.parametrize("name", ["vit", "vit_tiny_patch16_224"])
def test_a_vit_pools_its_class_token_or_its_patches(name):
    pixels = images()
    for pool in (None, "token", "avg"):
        encoder = build(name=name, pool=pool).eval()
        tokens = encoder.body.forward_features(pixels)
        mean = encoder.body.fc_norm(tokens[:, 1:].mean(dim=1))
        torch.testing.assert_close(encoder(pixels), mean if pool == "avg" else tokens[:, 0])
    with pytest.raises(ValueError, match=r"encoder\.pool.*belongs to ViTs"):
        build(name="resnet18", pool="avg")


@pytest.mark.parametrize("name", ["vit", "vit_tiny_patch16_224", "convnet", "resnet18"])
def test_encoders_take_local_views_that_are_smaller(name):
    encoder = build(name=name)
    assert encoder(images(12)).shape == (2, encoder.num_features)


def test_width_scales_the_convnet():
    assert build(width=16).num_features == 64
    assert build(width=10, norm="group").num_features == 40  # no multiple of eight groups


def test_the_group_norm_convnet_keeps_images_apart():
    encoder = build(norm="group").train()
    assert not list(encoder.buffers())
    batch = images(count=4)
    torch.testing.assert_close(encoder(batch)[:1], encoder(batch[:1]), atol=1e-5, rtol=1e-4)


def test_building_leaves_running_statistics_and_training_mode_as_new():
    encoder = build()
    assert encoder.training
    buffers = dict(encoder.named_buffers())
    assert all(b.eq(0).all() for name, b in buffers.items() if "running_mean" in name)
    assert all(b == 0 for name, b in buffers.items() if "num_batches" in name)


@pytest.mark.parametrize("name", ["convnet", "resnet18", "vit_tiny_patch16_224"])
def test_the_global_seed_decides_the_weights(name):
    def weights(seed):
        with global_seed(seed, "encoder"):
            parameters = build(name=name).parameters()
        return torch.cat([p.detach().flatten() for p in parameters])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize("name", ["resnet18", "resnet18d"])
@pytest.mark.parametrize(
    ("stem", "image_size", "first_block"),
    [
        ("auto", 32, 32),
        ("auto", 64, 64),
        ("auto", 96, 24),
        ("small", 96, 96),
        ("standard", 32, 8),
    ],
)
def test_the_small_stem_keeps_the_resolution(name, stem, image_size, first_block):
    encoder = build(image_size, name=name, stem=stem)
    num_stem = 1 if name == "resnet18" else 3  # convolutions
    assert map_sizes(encoder, image_size)[num_stem] == first_block


@pytest.mark.parametrize(
    ("image_size", "patch"), [(4, 1), (8, 1), (28, 2), (32, 4), (64, 8), (96, 12), (224, 16)]
)
def test_vit_patches_follow_the_image(image_size, patch):
    encoder = build(image_size, name="vit_tiny_patch16_224", drop_path=0.1)
    assert encoder.body.patch_embed.patch_size == (patch, patch)
    assert encoder.body.patch_embed.num_patches == (image_size // patch) ** 2


def test_a_given_patch_size_is_used():
    encoder = build(32, name="vit_tiny_patch16_224", patch_size=8)
    assert encoder.body.patch_embed.num_patches == 16


def test_drop_path_makes_training_random_and_evaluation_not():
    encoder = build(name="vit_tiny_patch16_224", drop_path=0.5)
    batch = images()
    assert not torch.equal(encoder.train()(batch), encoder(batch))
    assert torch.equal(encoder.eval()(batch), encoder(batch))


def test_other_timm_families_work_where_the_image_is_large_enough():
    encoder = build(32, name="mobilenetv3_small_100")
    assert encoder(images()).shape == (2, encoder.num_features)


def test_channels_last_and_bfloat16_give_the_same_features():
    encoder = build().eval()
    batch = images(count=8)
    expected = encoder(batch)
    encoder = encoder.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(batch.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(features.float(), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": "resnet81"}, "Unknown encoder 'resnet81'; did you mean 'resnet18'"),
        ({"name": "convnt"}, "did you mean 'convnet'"),
        ({"name": "@@@@"}, "use convnet or one of timm"),
        ({"name": "vit_tiny_patch16_224", "patch_size": 5}, "does not divide images of 32 px"),
        ({"name": "convnext_atto", "image_size": 8}, "8 px in 3 channel.*does not work"),
        ({"name": "vgg11", "drop_path": 0.1}, "does not take drop_path_rate"),
        ({"patch_size": 4}, "patch_size=4 means nothing to 'convnet'"),
        ({"drop_path": 0.1}, "drop_path=0.1 means nothing to 'convnet'"),
        ({"name": "resnet18", "width": 64}, "width=64 means nothing to 'resnet18'"),
        ({"name": "resnet18", "patch_size": 4}, "patch_size=4 means nothing"),
        ({"name": "vit_tiny_patch16_224", "stem": "small"}, "stem=small means nothing"),
        ({"width": 0}, "width must be at least 1"),
        ({"drop_path": 1.0}, "drop_path must lie in 0 to 1"),
        ({"patch_size": 0}, "patch_size must be at least 1"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(**fields)


def test_the_config_survives_the_trip_through_plain_values():
    config = EncoderConfig(name="vit_tiny_patch16_224", patch_size=4, drop_path=0.1)
    assert from_dict(EncoderConfig, to_dict(config)) == config


@pytest.mark.parametrize(("channels", "size", "patch"), [(1, 28, 7), (3, 32, 4), (3, 48, 16)])
def test_patches_as_a_matrix_product_are_the_convolution(channels, size, patch):
    """Outputs and all gradients, by weights that were drawn for the convolution."""
    torch.manual_seed(0)
    images = torch.randn(2, channels, size, size, dtype=torch.float64, requires_grad=True)
    config = EncoderConfig(name="vit", width=8, patch_size=patch)
    embed = build_encoder(config, channels=channels, image_size=size).double().body.patch_embed
    assert type(embed.proj) is PatchConv2d
    convolution = torch.nn.Conv2d(channels, embed.proj.out_channels, patch, stride=patch).double()
    convolution.load_state_dict(embed.proj.state_dict())
    found = []
    for layer in (embed.proj, convolution):
        patches = layer(images)
        weights = [images, *layer.parameters()]
        found.append([patches, *torch.autograd.grad(patches.square().sum(), weights)])
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-12)
