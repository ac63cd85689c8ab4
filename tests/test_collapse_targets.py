"""DINO and SwAV collapse where the papers say so, and it is flagged; beside it they do not."""

from dataclasses import replace

import pytest

from raysl.data.store import load_splits
from raysl.methods.collapse import collapse_signs
from raysl.recipe import Recipe
from raysl.train import train

# Small enough for seconds, and long enough for healthy targets to become different.
QUICK = {
    "dino": {"duration": "250 steps", "optim.lr": 2e-3, "method.num_outputs": 64},
    "swav": {"duration": "80 steps", "optim.lr": 5e-3, "method.num_prototypes": 32},
}
# Batch norm alone keeps some trainings without a moving average from collapsing.
GROUP_NORM = {"encoder.norm": "group", "duration": "500 steps"}


def after_training(name, changes):
    """The means of the last report of a short training on UCI digits."""
    images = load_splits("sklearn:digits").train
    recipe = Recipe.create(
        name, dataset=images.digest, pool_size=len(images), label_size=100, batch_size=64
    )
    # Digits are 8 x 8 pixels: local views of 3 x 3 show nothing, a flipped digit is another one.
    recipe = replace(recipe, views=replace(recipe.views, num_local_views=0, flip=0.0))
    fixed = {"encoder.width": 8, "optim.lr_scaling": "none"}
    recipe = recipe.with_overrides({**fixed, **QUICK[name], **changes})
    last = {}
    train(recipe, images, report=lambda state, metrics: last.update(metrics))
    return {name.removeprefix("train/"): value for name, value in last.items()}


def information(metrics):
    return metrics["target_usage"] - metrics["target_entropy"]


def require_collapse(metrics):
    assert any("nearly the same distribution" in sign for sign in collapse_signs(metrics))
    assert information(metrics) < 0.003


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_healthy_settings_are_not_flagged_and_their_targets_differ(name):
    metrics = after_training(name, {})
    assert collapse_signs(metrics) == ()
    assert information(metrics) > 0.02


@pytest.mark.slow
def test_dino_with_a_slow_centre_gives_all_images_one_class():
    metrics = after_training("dino", {"method.centre_momentum": 0.999})
    require_collapse(metrics)
    assert metrics["target_usage"] < 0.05


@pytest.mark.slow
def test_dino_with_a_warm_teacher_from_the_start_gives_all_images_uniform_targets():
    warm = {"method.teacher_temperature": 0.08, "method.warmup_temperature": 0.08}
    metrics = after_training("dino", warm)
    require_collapse(metrics)
    assert metrics["target_entropy"] > 0.99


@pytest.mark.slow
def test_swav_with_a_high_epsilon_gives_all_images_uniform_targets():
    metrics = after_training("swav", {"method.epsilon": 1.0})
    require_collapse(metrics)
    assert metrics["target_entropy"] > 0.99


@pytest.mark.slow
def test_dino_without_moving_average_collapses_and_with_it_does_not():
    healthy = after_training("dino", GROUP_NORM)
    assert collapse_signs(healthy) == ()
    assert information(healthy) > 0.02
    without = after_training("dino", {**GROUP_NORM, "method.ema": False})
    require_collapse(without)
    assert without["embedding_std"] < 0.05


@pytest.mark.parametrize("entropy", [0.0, 0.6, 1.0])
def test_targets_that_tell_nothing_of_their_image_are_flagged_at_any_entropy(entropy):
    assert len(collapse_signs({"target_entropy": entropy, "target_usage": entropy})) == 1
    assert collapse_signs({"target_entropy": entropy, "target_usage": entropy + 0.02}) == ()


def test_one_of_the_two_signs_or_a_nan_says_nothing():
    assert collapse_signs({"target_entropy": 1.0}) == ()
    assert collapse_signs({"target_entropy": float("nan"), "target_usage": 1.0}) == ()
