"""What the views promise: shapes, randomness, every field, refusals."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor

from raysl.config import from_dict, to_dict
from raysl.views import VIEWS, ViewConfig, eval_view, make_views
from raysl.views.config import local_size

STILL = dataclasses.replace(VIEWS["none"], mean=(0.0,), std=(1.0,))  # nothing random, 0-1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 8, channels: int = 3, size: int = 16) -> Tensor:
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(42))


def floats(count: int = 8, channels: int = 3, size: int = 16) -> Tensor:
    return images(count, channels, size).float() / 255


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize(("count", "channels", "size"), [(1, 1, 2), (2, 3, 8), (3, 1, 28)])
def test_views_have_the_promised_shape(name, count, channels, size):
    config = VIEWS[name]
    for out in (None, 2, 12, 40):
        views = make_views(
            images(count, channels, size), dataclasses.replace(config, size=out), seeded()
        )
        sizes = [out or size] * config.num_views
        sizes += [local_size(config, out or size)] * config.num_local_views
        assert len(views) == len(sizes)
        for view, pixels in zip(views, sizes, strict=True):
            assert view.shape == (count, channels, pixels, pixels)
            assert view.dtype == torch.float32
            assert view.isfinite().all()
            assert view.is_contiguous()


def test_the_same_seed_gives_the_same_views_and_another_does_not():
    first, again, other = (make_views(images(), VIEWS["simclr"], seeded(s)) for s in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_views_do_not_touch_the_global_generator():
    before = torch.get_rng_state()
    make_views(images(), VIEWS["simclr"], seeded())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "fields",
    [
        {"crop_scale": (0.2, 0.9)},
        {"flip": 0.5},
        {"vertical_flip": 0.5},
        {"rotation": 20.0},
        {"jitter_prob": 1.0},
        {"grayscale_prob": 0.5},
        {"blur_prob": 0.5},
        {"solarize_prob": 0.5},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_every_image_and_view_gets_its_own_parameters(fields):
    """Copies of one image: at least two, and for continuous parameters all, views differ."""
    config = dataclasses.replace(STILL, num_views=2, **fields)
    views = torch.cat(make_views(images(1).expand(16, -1, -1, -1), config, seeded()))
    distinct = len(views.flatten(1).unique(dim=0))
    binary = {"flip", "vertical_flip", "grayscale_prob", "solarize_prob"}
    assert distinct == 2 if binary & fields.keys() else distinct > 8


CHANGES = {
    "num_views": 3,
    "num_local_views": 1,
    "size": 12,
    "local_size": 5,
    "crop_scale": (0.1, 0.5),
    "local_scale": (0.1, 0.2),
    "crop_ratio": (0.5, 2.0),
    "flip": 0.0,
    "vertical_flip": 0.5,
    "rotation": 10.0,
    "jitter_prob": 0.1,
    "jitter_prob_second": 0.1,
    "brightness": 0.1,
    "contrast": 0.1,
    "saturation": 0.1,
    "hue": 0.05,
    "colour_strength": 0.5,
    "grayscale_prob": 0.9,
    "grayscale_prob_second": 0.9,
    "blur_prob": 0.1,
    "blur_prob_second": 0.1,
    "blur_prob_local": 0.1,
    "blur_sigma": (1.0, 1.5),
    "solarize_prob": 0.9,
    "solarize_prob_second": 0.9,
    "solarize_threshold": 0.2,
    "mean": (0.4,),
    "std": (0.5,),
}


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(ViewConfig)])
def test_every_field_changes_the_views(field):
    base = dataclasses.replace(VIEWS["simclr"], solarize_prob=0.3, num_local_views=2)
    changed = dataclasses.replace(base, **{field: CHANGES[field]})
    first, second = (make_views(images(16), config, seeded()) for config in (base, changed))
    assert len(first) != len(second) or not all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, second, strict=True)
    )


def test_local_views_are_small_crops_of_the_same_images():
    """Of an image whose pixels are their own places a crop shows how much it spans."""
    places = torch.linspace(0, 255, 64).to(torch.uint8).expand(8, 1, 64, 64).contiguous()
    config = dataclasses.replace(
        STILL, num_views=1, num_local_views=3, crop_scale=(0.5, 1.0), local_scale=(0.05, 0.1)
    )
    whole, *local = make_views(places, config, seeded())
    spans = [(view.amax((1, 2, 3)) - view.amin((1, 2, 3))) for view in (whole, *local)]
    assert len(local) == 3
    assert spans[0].min() > 0.55
    assert max(span.max() for span in spans[1:]) < 0.45  # sqrt(0.1 x 4 / 3) = 0.37 wide at most


@pytest.mark.parametrize(
    ("size", "expected"),
    [(8, 3), (16, 6), (28, 12), (32, 12), (48, 18), (64, 24), (96, 36), (224, 96)],
)
def test_local_views_have_about_three_sevenths_of_the_size_in_steps_of_patches(size, expected):
    assert local_size(ViewConfig(), size) == expected
    assert local_size(ViewConfig(local_size=10), size) == 10


def test_every_second_view_can_be_weak():
    colours = {"jitter_prob": 1.0, "brightness": 0.8, "grayscale_prob": 1.0}
    config = dataclasses.replace(
        STILL, num_views=2, jitter_prob_second=0.0, grayscale_prob_second=0.0, **colours
    )
    strong, weak = make_views(images(), config, seeded())
    torch.testing.assert_close(weak, floats())
    assert not torch.equal(strong, weak)
    torch.testing.assert_close(strong[:, 0], strong[:, 1])  # grey


def test_every_second_view_can_have_its_own_blur_and_solarisation():
    config = dataclasses.replace(STILL, num_views=3, solarize_threshold=0.0)
    config = dataclasses.replace(config, solarize_prob=0.0, solarize_prob_second=1.0)
    first, second, third = make_views(images(), config, seeded())
    assert torch.equal(first, third)
    torch.testing.assert_close(second, 1 - first)
    config = dataclasses.replace(STILL, num_views=2, blur_sigma=(1.0, 1.0), num_local_views=1)
    config = dataclasses.replace(config, blur_prob=1.0, blur_prob_second=0.0, blur_prob_local=0.0)
    first, second, local = make_views(images(), config, seeded())
    assert torch.equal(second, floats())
    assert first.std() < second.std()
    plain = make_views(images(), dataclasses.replace(config, blur_prob=0.0), seeded())
    assert torch.equal(local, plain[2])


def test_changing_one_augmentation_leaves_the_choices_of_the_others():
    flipped = dataclasses.replace(STILL, flip=0.5)
    both = dataclasses.replace(flipped, solarize_prob=1.0, solarize_threshold=0.0)
    (one,), (two,) = (make_views(images(32), config, seeded()) for config in (flipped, both))
    torch.testing.assert_close(two, 1 - one)


@pytest.mark.parametrize("config", [*VIEWS.values(), STILL], ids=[*VIEWS, "identity"])
def test_the_images_are_not_modified(config):
    given = images()
    make_views(given, config, seeded())
    eval_view(given, config)
    assert torch.equal(given, images())


def test_views_need_no_gradient_and_ignore_autocast():
    expected = make_views(images(), VIEWS["simclr"], seeded())
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = make_views(images(), VIEWS["simclr"], seeded())
    for view, other in zip(expected, under_autocast, strict=True):
        assert not view.requires_grad
        assert torch.equal(view, other)


def test_eval_view_resizes_and_normalises_and_equals_the_view_without_augmentation():
    config = dataclasses.replace(VIEWS["none"], size=8, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    expected = TF.normalize(TF.resize(floats(), [8, 8]), list(config.mean), list(config.std))
    torch.testing.assert_close(eval_view(images(), config), expected, atol=1e-5, rtol=0)
    assert torch.equal(eval_view(images(), config), make_views(images(), config, seeded())[0])


def test_a_mean_for_other_channels_is_refused():
    config = ViewConfig(mean=(0.1, 0.2, 0.3), std=(1.0,))
    with pytest.raises(ValueError, match=r"mean has 3 values and the images 1 channel"):
        eval_view(images(channels=1), config)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"num_views": 0}, "num_views"),
        ({"size": 1}, "size must be at least 2"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.5, 1.5)}, "crop_scale must end at 1"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio"),
        ({"blur_sigma": (0.0, 1.0)}, "blur_sigma"),
        ({"flip": 1.5}, "flip must lie in 0 to 1"),
        ({"jitter_prob": float("nan")}, "jitter_prob"),
        ({"contrast": -0.1}, "contrast"),
        ({"hue": 0.4, "colour_strength": 2.0}, "exceeds 0.5"),
        ({"rotation": 200.0}, "rotation"),
        ({"std": (0.0,)}, "std above 0"),
    ],
)
def test_a_wrong_field_is_refused_by_name(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        ViewConfig(**fields)


@pytest.mark.parametrize("config", VIEWS.values(), ids=VIEWS)
def test_a_recipe_survives_the_trip_through_plain_values(config):
    assert from_dict(ViewConfig, to_dict(config)) == config
    assert hash(config) == hash(dataclasses.replace(config))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_views_on_a_gpu_never_wait_for_it():
    config = dataclasses.replace(VIEWS["simclr"], rotation=10.0, solarize_prob=0.2, size=24)
    given, generator = images().cuda(), torch.Generator("cuda").manual_seed(0)
    make_views(given, config, generator)
    torch.cuda.set_sync_debug_mode("error")
    try:
        views = make_views(given, config, generator)
        eval_view(given, config)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(view.is_cuda and view.isfinite().all() for view in views)


@pytest.mark.slow
def test_the_benchmark_prints_the_three_side_by_side():
    script = Path(__file__).parents[1] / "benchmarks" / "views.py"
    arguments = ["--quick", "--size", "8", "--batch", "4", "--repeats", "1"]
    done = subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=True
    )
    for name in ("raysl", "PIL", "kornia", "without blur", "with blur"):
        assert name in done.stdout
