"""What a CUDA graph of an update may hold, and that replaying it changes nothing."""

from unittest import mock

import pytest
import timm
import torch
from method_steps import batch_of, build

from raysl.capture import COPYING, can_capture
from raysl.data.images import tensor_images
from raysl.encoder import EncoderConfig, build_encoder
from raysl.methods import METHODS, Batch
from raysl.recipe import Recipe
from raysl.state import ALONE, World
from raysl.train import train

CAPTURABLE = [name for name in METHODS if name != "pretrained" and build(name).capturable]
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


@pytest.mark.parametrize("name", CAPTURABLE)
def test_forward_of_a_capturable_method_is_the_same_in_every_update_of_a_phase(name, monkeypatch):
    """It reads its phase alone, and leaves no tensor in Python."""
    method, batch = build(name), batch_of(name, 8)
    before = set(vars(method))
    phase, opaque = method.phase(0.5), object()

    def known(progress):
        assert progress is opaque
        return phase

    monkeypatch.setattr(type(method), "phase", lambda self, progress: known(progress))
    fixed = Batch(batch.views, batch.index, batch.labels, opaque, batch.generator)
    method(fixed)["loss"].backward()
    assert set(vars(method)) == before
    assert not [key for key, value in vars(method).items() if isinstance(value, tuple | list)]


def test_only_a_method_that_draws_sizes_on_the_host_is_not_capturable():
    trained = [name for name in METHODS if METHODS[name].trains_on != "nothing"]
    assert [name for name in trained if name not in CAPTURABLE] == ["ijepa"]


def test_spark_is_captured_where_its_squares_are_of_one_size():
    def spark(size):
        encoder = build_encoder(EncoderConfig(), channels=1, image_size=size)
        sizes = {"num_examples": 64, "num_classes": 0, "batch_size": 8, "num_steps": 10}
        return METHODS["spark"](METHODS["spark"].Config(), encoder, **sizes)

    assert spark(32).capturable
    assert not spark(28).capturable  # 4 x 4 squares: 7 pixels wide, but 3.5 places of the next map


def test_only_one_worker_on_a_gpu_captures():
    method = build("simclr")
    assert can_capture(method, "cuda", ALONE)
    assert not can_capture(method, "cpu", ALONE)
    assert not can_capture(method, "cuda", World(0, 2))
    assert not can_capture(build("ijepa"), "cuda", ALONE)


def test_an_encoder_that_copies_from_the_host_is_not_captured():
    """A graph refuses such a copy, and every trial of that encoder would fail."""
    names = [name for start in COPYING for name in timm.list_models(f"{start}*")]
    assert len(names) >= len(COPYING)
    for name in names:
        method = build("simclr")
        method.encoder.name = name
        assert not can_capture(method, "cuda", ALONE)


@on_gpu
@pytest.mark.parametrize(
    ("name", "precision"),
    [
        *((name, "float32") for name in CAPTURABLE if name != "supervised_source"),
        *((name, "bfloat16") for name in ("simclr", "byol", "mae", "dino")),
    ],
)
def test_replayed_updates_equal_updates_one_by_one(name, precision):
    """Same views, losses and weights, but for the order in which a GPU adds.

    BEiT has two phases, and so two graphs. DeepCluster-v2's clusters may differ from the end of the
    second epoch on: what is rounded differently moves a row to another centroid.
    """
    num_steps = 8 if name == "deepclusterv2" else 20  # an epoch has 4
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=draw)
    images = tensor_images(pixels, torch.arange(64) % 4, classes=tuple("abcd"), name="noise")
    size = {"pool_size": 64} if METHODS[name].trains_on == "pool" else {}
    recipe = Recipe.create(
        name, dataset=images.digest, label_size=64, batch_size=16, precision=precision, **size
    ).with_overrides({"duration": f"{num_steps} steps", "optim.lr": 1e-4})

    def losses():
        found = []
        train(
            recipe,
            images,
            device="cuda",
            report=lambda state, metrics: found.append(metrics["train/loss"]),
        )
        return found

    replayed = losses()
    with mock.patch("raysl.train.can_capture", return_value=False):
        one_by_one = losses()
    assert len(replayed) == num_steps
    tolerance = 1e-3 if precision == "float32" else 3e-2
    assert replayed == pytest.approx(one_by_one, rel=tolerance, abs=tolerance)
