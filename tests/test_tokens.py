"""The steps of `parts/tokens.py` are those of timm's own ViTs."""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from raysl.encoder import Encoder, EncoderConfig, build_encoder
from raysl.methods.parts.narrow_vit import NarrowViT, share_of
from raysl.methods.parts.tokens import (
    add_positions,
    chosen,
    embed_patches,
    keep,
    num_patches,
    patches_of,
    patchify,
    require_vit,
    run_blocks,
)

ENCODERS = {  # with the number of prefix tokens; a dict makes one of timm's own class
    "class token": (EncoderConfig(name="vit", width=8, pool="token"), 1),
    "average": (EncoderConfig(name="vit", width=8, pool="avg"), 1),
    "timm": (EncoderConfig(name="vit_tiny_patch16_224"), 1),
    "register, no class token": ({"class_token": False, "reg_tokens": 1}, 1),
    "no prefix": ({"class_token": False}, 0),
    "registers beside the class token": ({"reg_tokens": 2, "no_embed_class": True}, 3),
    "norms before": ({"pre_norm": True, "init_values": 0.1}, 1),
    "distilled": (EncoderConfig(name="deit_tiny_distilled_patch16_224"), 2),
}


def timm_vit(*, pool="avg", **options):
    body = VisionTransformer(
        img_size=32,
        patch_size=4,
        embed_dim=32,
        depth=2,
        num_heads=2,
        num_classes=0,
        global_pool=pool,
        dynamic_img_size=True,
        **options,
    )
    return Encoder(body, name="own", num_features=32, channels=3, image_size=32)


def built(config, *, channels=3):
    torch.manual_seed(0)
    if isinstance(config, dict):
        encoder = timm_vit(**config).eval()
    else:
        encoder = build_encoder(config, channels=channels, image_size=32).eval()
    for parameter in encoder.parameters():  # so that a forgotten bias, scale or token shows
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return encoder


def images(number=2, *, channels=3):
    return torch.randn(number, channels, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_keeping_all_patches_equals_timms_own_features(name):
    config, num_prefix = ENCODERS[name]
    encoder = built(config)
    vit = require_vit(encoder, "This")
    every = torch.arange(num_patches(vit)).expand(2, -1)
    tokens = add_positions(vit, embed_patches(vit, images()))
    found = run_blocks(vit, keep(vit, tokens, every))
    assert torch.allclose(found, vit.fc_norm(vit.forward_features(images())), atol=1e-5)
    assert found.shape[1] == num_patches(vit) + num_prefix
    assert patches_of(vit, found).shape[1] == num_patches(vit)


@pytest.mark.parametrize("name", ["class token", "average"])
@torch.no_grad()
def test_what_is_pooled_from_all_patches_is_the_encoders_feature(name):
    encoder = built(ENCODERS[name][0])
    vit = encoder.body
    found = run_blocks(vit, add_positions(vit, embed_patches(vit, images())))
    feature = encoder(images())
    if name == "class token":
        assert torch.allclose(found[:, 0], feature, atol=1e-5)
    else:  # timm normalises the mean and not each patch, so only the direction of it is near
        assert torch.cosine_similarity(found[:, 1:].mean(dim=1), feature).min() > 0.9


@torch.no_grad()
def test_the_order_of_kept_patches_does_not_matter_and_hidden_ones_have_no_influence():
    vit = built(ENCODERS["class token"][0]).body
    kept = torch.tensor([[5, 0, 63], [7, 9, 11]])

    def features(pixels, kept):
        return run_blocks(vit, keep(vit, add_positions(vit, embed_patches(vit, pixels)), kept))

    found = features(images(), kept)
    turned = features(images(), kept.flip(1))
    assert torch.allclose(found[:, 1:], turned[:, 1:].flip(1), atol=1e-5)
    assert torch.allclose(found[:, 0], turned[:, 0], atol=1e-5)
    other = images()
    other[0, :, 4:8, 4:8] += 5  # patch 9 of the first image, hidden
    assert torch.equal(features(other, kept), found)
    other[1, :, 4:8, 4:8] += 5  # of the second, kept
    assert not torch.allclose(features(other, kept)[1], found[1], atol=1e-2)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_parameter_gets_a_gradient_from_a_part_of_the_patches(name):
    vit = built(ENCODERS[name][0]).body
    tokens = add_positions(vit, embed_patches(vit, images()))
    kept = torch.tensor([[0, 1], [2, 3]])
    patches_of(vit, run_blocks(vit, keep(vit, tokens, kept))).square().sum().backward()
    assert not [n for n, p in vit.named_parameters() if p.grad is None]


@pytest.mark.parametrize("channels", [1, 3])
def test_patchify_reads_row_by_row_as_the_patch_embedding_does(channels):
    pixels = images(channels=channels)
    rows = patchify(pixels, 4)
    for number in (0, 1, 8, 63):
        top, left = number // 8 * 4, number % 8 * 4
        patch = pixels[:, :, top : top + 4, left : left + 4]
        assert torch.equal(rows[:, number], patch.permute(0, 2, 3, 1).flatten(1))
    config = EncoderConfig(name="vit", width=8)
    projection = built(config, channels=channels).body.patch_embed.proj
    weight = projection.weight.permute(2, 3, 1, 0).flatten(0, 2)  # [p p C, D]
    linear = rows @ weight + projection.bias
    assert torch.allclose(linear, projection(pixels).flatten(2).mT, atol=1e-5)


def test_chosen_takes_each_images_own_rows():
    rows = torch.arange(12.0).view(2, 3, 2)
    assert chosen(rows, torch.tensor([[2, 0], [1, 1]])).tolist() == [
        [[4, 5], [0, 1]],
        [[8, 9], [8, 9]],
    ]


def test_other_encoders_and_attention_pools_get_a_sentence():
    others = [
        build_encoder(EncoderConfig(name=name), channels=3, image_size=32)
        for name in ("convnet", "resnet10t")
    ]
    for encoder in (*others, timm_vit(pool="map")):
        with pytest.raises(ValueError, match=f"This masks .* needs a ViT.*, not '{encoder.name}'"):
            require_vit(encoder, "This")


@torch.no_grad()
def test_a_narrow_vit_knows_patches_by_their_positions_only():
    torch.manual_seed(0)
    narrow = NarrowViT(6, 5, side=4, width=32, depth=2).eval()
    tokens = torch.randn(2, 1 + 3, 6)
    visible = torch.tensor([[0, 5, 9], [1, 2, 3]])
    hidden = torch.tensor([[4, 8], [0, 15]])
    found = narrow(tokens, visible, hidden)
    assert found.shape == (2, 2, 5)
    assert torch.allclose(narrow(tokens, visible, hidden.flip(1)), found.flip(1), atol=1e-6)
    turned = torch.cat([tokens[:, :1], tokens[:, 1:].flip(1)], dim=1)
    assert torch.allclose(narrow(turned, visible.flip(1), hidden), found, atol=1e-6)
    assert not torch.allclose(narrow(turned, visible, hidden), found, atol=1e-3)
    assert len(narrow.positions.unique(dim=0)) == 16


def test_the_rules_of_size_give_the_authors_sizes_for_their_encoders():
    assert (share_of(1024, 2, step=32), share_of(24, 3)) == (512, 8)  # MAE at ViT-L
    assert (share_of(768, 2, step=32), share_of(12, 2)) == (384, 6)  # I-JEPA at ViT-B
    assert (share_of(128, 2, step=32), share_of(6, 3), share_of(6, 2)) == (64, 2, 3)  # our vit
    assert share_of(32, 2, step=32) == 32
