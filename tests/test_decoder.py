"""A decoder goes from an encoder's maps, of whatever size, to an image."""

import pytest
import torch
from method_steps import encoder_for

from raysl.encoder import EncoderConfig, build_encoder
from raysl.methods.parts.decoder import Decoder, halved, map_shape, sizes_between

ENCODERS = [
    ("convnet", 28, {"width": 8}),
    ("convnet", 31, {"width": 8}),
    ("convnet", 4, {"width": 8}),  # its maps are as large as the image
    ("resnet10t", 20, {}),
    ("vit", 28, {"width": 8}),
    ("convnext_atto", 32, {}),
]


@pytest.mark.parametrize(("name", "size", "fields"), ENCODERS)
def test_it_draws_an_image_of_the_encoders_size(name, size, fields):
    encoder = build_encoder(EncoderConfig(name=name, **fields), channels=1, image_size=size)
    decoder = Decoder(encoder, 2, width=16)
    assert decoder(encoder.maps(torch.randn(2, 1, size, size))).shape == (2, 2, size, size)


def test_each_size_is_half_of_the_next_rounded_up():
    assert sizes_between(4, 28) == [7, 14, 28]
    assert sizes_between(4, 31) == [8, 16, 31]
    assert sizes_between(7, 224) == [14, 28, 56, 112, 224]
    assert sizes_between(4, 4) == []


def test_widths_halve_down_to_16_and_never_grow():
    assert halved(128, 5) == [128, 64, 32, 16, 16]
    assert halved(8, 3) == [8, 8, 8]


def test_an_image_is_drawn_the_same_beside_any_others():
    torch.manual_seed(0)
    encoder = encoder_for("denoising").eval()
    decoder = Decoder(encoder, 3, width=16).train()
    maps = encoder.maps(torch.randn(4, 3, 16, 16))
    torch.testing.assert_close(decoder(maps)[:1], decoder(maps[:1]), atol=1e-5, rtol=1e-4)


def test_looking_at_the_maps_leaves_the_encoder_as_it_was():
    encoder = encoder_for("denoising").train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    assert map_shape(encoder) == (32, 4)
    assert encoder.training
    assert all(p.grad is None for p in encoder.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_an_encoder_with_layers_behind_its_maps_gets_a_sentence():
    config = EncoderConfig(name="mobilenetv3_small_050")
    encoder = build_encoder(config, channels=3, image_size=32)
    with pytest.raises(ValueError, match="needs an encoder without layers behind its last maps"):
        Decoder(encoder, 3, width=16)
