"""Encoders through torch.compile: the same training, and evaluations that know nothing of it."""

import dataclasses
import shutil

import pytest
import torch
from timm.models.vision_transformer import Block

from raysl.compiled import forward_of, parts_to_compile, require_compiler
from raysl.data.images import tensor_images
from raysl.encoder import Encoder, EncoderConfig
from raysl.recipe import Recipe
from raysl.state import initial_state
from raysl.train import train

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@pytest.fixture(scope="module")
def images():
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8, generator=draw)
    return tensor_images(pixels, torch.arange(32) % 4, classes=tuple("abcd"), name="noise")


def recipe_of(method, images, **fields):
    return Recipe.create(
        method, dataset=images.digest, pool_size=32, label_size=32, batch_size=8, **fields
    ).with_overrides({"duration": "8 steps", "optim.lr": 1e-4})


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "encoder"),
    [("simclr", EncoderConfig()), ("dino", EncoderConfig(name="vit", width=8))],
)
def test_a_compiled_training_is_the_same_but_for_rounding(method, encoder, images):
    recipe = recipe_of(method, images, encoder=encoder)
    losses, compiled = {}, {}
    for choice in (False, True):
        losses[choice] = []
        torch._dynamo.reset()  # of what tests before have compiled
        torch._dynamo.utils.counters.clear()
        state = train(
            dataclasses.replace(recipe, compile=choice),
            images,
            device=DEVICE,
            report=lambda state, metrics, to=losses[choice]: to.append(metrics["train/loss"]),
        )
        compiled[choice] = torch._dynamo.utils.counters["frames"]["ok"] > 0
        assert not [m for m in state.method.modules() if "forward" in vars(m)]  # as it was
    assert compiled == {False: False, True: True}
    assert len(losses[True]) == 8
    assert losses[True] == pytest.approx(losses[False], rel=1e-3)


def test_blocks_of_vits_are_compiled_and_other_encoders_as_a_whole(images):
    """The teacher's too; heads are not."""
    dino = initial_state(
        recipe_of("dino", images, encoder=EncoderConfig(name="vit")), images
    ).method
    assert [type(part) for part in parts_to_compile(dino)] == [Block] * 12
    mae = initial_state(recipe_of("mae", images), images).method
    assert [type(part) for part in parts_to_compile(mae)] == [Block] * 8  # two in the decoder
    byol = initial_state(recipe_of("byol", images), images).method
    assert [type(part) for part in parts_to_compile(byol)] == [Encoder] * 2


def test_an_encoder_that_waits_for_other_workers_is_left_alone(images):
    method = initial_state(recipe_of("simclr", images), images).method
    torch.nn.SyncBatchNorm.convert_sync_batchnorm(method)
    assert parts_to_compile(method) == []


def test_nothing_is_compiled_unasked(images):
    method = initial_state(recipe_of("simclr", images), images).method
    assert forward_of(recipe_of("simclr", images), method) is method


@pytest.mark.parametrize(
    ("device", "named"), [("cpu", r"a C\+\+ .* g\+\+,"), ("cuda", "a C .* gcc or")]
)
def test_the_compiler_that_a_device_needs_is_named_where_it_is_missing(device, named, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=f"compile=true needs {named}"):
        require_compiler(device)


def test_without_a_compiler_the_recipe_is_refused(images, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler on every machine"):
        train(dataclasses.replace(recipe_of("simclr", images), compile=True), images)
