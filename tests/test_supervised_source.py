"""Pretraining on the labels of another data set: whose images, whose labels, and what is kept."""

import dataclasses

import pytest
import torch
from conftest import make_images

from raysl.data.images import Resized, Splits, tensor_images
from raysl.data.store import load_splits
from raysl.methods import METHODS
from raysl.methods.supervised_source import SupervisedSourceConfig, source_images
from raysl.recipe import Recipe
from raysl.study.sizes import size_study
from raysl.trial import run_trial, trained_images

DIGITS = "sklearn:digits"


@pytest.fixture(scope="module")
def digits():
    return load_splits(DIGITS)


def recipe_of(splits, digits, **changes):
    recipe = Recipe.create("supervised_source", dataset=splits.digest, label_size=16, batch_size=8)
    known = {"method.data": DIGITS, "method.digest": digits.digest}
    own = {"encoder.width": 8, "duration": "6 steps"}
    return recipe.with_overrides({**own, **known, **changes})


def test_a_trial_trains_on_the_source_and_is_evaluated_on_the_users_images(
    grey_splits, digits, tmp_path
):
    recipe = recipe_of(grey_splits, digits)
    result = run_trial(recipe, grey_splits, directory=tmp_path, final=True)
    assert result.cost["examples"] == 48
    assert {"val/linear_top1", "test/linear_top1"} <= set(result.metrics)
    assert "test/head_top1" not in result.metrics  # its classes are the source's
    images = trained_images(recipe, grey_splits.pool, grey_splits.train)
    assert (images.shape, len(images)) == ((1, 16, 16), len(digits.train))
    assert images.classes == digits.train.classes


def test_no_label_of_the_user_reaches_the_pretraining(grey_splits, digits, tmp_path):
    shuffled = dataclasses.replace(
        grey_splits.train, labels=grey_splits.train.labels[torch.randperm(64)]
    )
    relabelled = Splits(shuffled, shuffled, grey_splits.val, grey_splits.test)
    for name, splits in (("a", grey_splits), ("b", relabelled)):
        recipe = dataclasses.replace(recipe_of(splits, digits), dataset=splits.digest)
        run_trial(recipe, splits, directory=tmp_path / name, final=False)
    one, two = (torch.load(tmp_path / d / "encoder.pt", weights_only=True)["encoder"] for d in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_sources_labels_teach_the_encoder(grey_splits, digits):
    from raysl.train import train

    recipe = recipe_of(grey_splits, digits, duration="100 steps", batch_size=32)
    images = trained_images(recipe, grey_splits.pool, grey_splits.train)
    found = []
    train(recipe, images, report=lambda state, metrics: found.append(state.metrics["top1"]))
    assert found[-1] > 40  # of ten digits


def test_methods_without_labels_get_none_and_cannot_count_the_classes(grey_splits):
    without = {name for name, method in METHODS.items() if not method.uses_labels()}
    assert "simclr" in without
    assert {"scratch", "supervised_source"}.isdisjoint(without)
    assert all(METHODS[name].trains_on in ("pool", "nothing") for name in without)


def test_images_are_brought_to_the_size_of_the_users():
    images = make_images(6, channels=3, seed=1, name="small")
    larger = Resized(images, 32)
    assert larger.shape == (3, 32, 32)
    assert larger.digest != images.digest
    pixels = larger.read(torch.tensor([4, 1]))
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (2, 3, 32, 32))
    mean = images.read(torch.tensor([4, 1])).float().mean(dim=(2, 3))
    assert torch.allclose(pixels.float().mean(dim=(2, 3)), mean, atol=2)
    flat = tensor_images(
        torch.full((1, 1, 8, 8), 77, dtype=torch.uint8), torch.tensor([0]), classes=("a",), name="x"
    )
    assert bool((Resized(flat, 20).read(torch.tensor([0])) == 77).all())


def test_the_pool_does_not_matter_so_it_is_one_cell_of_a_study(grey_splits, digits):
    base = Recipe.create(
        "simclr", dataset=grey_splits.digest, pool_size=24, label_size=16, batch_size=8
    ).with_overrides({"encoder.width": 8, "duration": "2 epochs", "early_stopping.every": 2})
    known = {"method.data": DIGITS, "method.digest": digits.digest}
    study = size_study(
        grey_splits, name="s", question="?", base=base, arms=["simclr", "supervised_source"],
        baseline="supervised_source", sizes=(8, 24), seeds=2,
        arm_overrides={"supervised_source": known},
    )  # fmt: skip
    cells = [cell for cell in study.cells() if cell["arm"] == "supervised_source"]
    assert [cell["pool_size"] for cell in cells] == [None]
    recipe = study.recipe(cells[0], {}, 0)
    assert recipe.early_stopping is None  # the user's images have other classes
    assert recipe.batch_size == 8
    assert recipe.num_steps == round(2 * len(digits.train) / 8)


def test_the_identity_of_the_source_is_part_of_the_recipe(grey_splits, digits):
    recipe = recipe_of(grey_splits, digits)
    other = recipe.with_overrides({"method.digest": "0" * 16})
    assert recipe.digest() != other.digest()
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_a_source_that_is_absent_or_another_gets_a_sentence(grey_splits, splits, digits):
    with pytest.raises(ValueError, match=r"set method\.data to its store and method\.digest"):
        source_images(SupervisedSourceConfig())
    for digest in (None, "0" * 16):
        with pytest.raises(ValueError, match=f"set method.digest={digits.digest}"):
            source_images(SupervisedSourceConfig(data=DIGITS, digest=digest))
    with pytest.raises(OSError, match="no image store"):
        source_images(SupervisedSourceConfig(data="nowhere", digest="0"))


def test_a_source_that_does_not_fit_gets_a_sentence(grey_splits, splits, digits):
    with pytest.raises(ValueError, match=r"1 channel.* yours have 3; .*--colour rgb"):
        trained_images(recipe_of(splits, digits), splits.pool, splits.train)
    large = recipe_of(grey_splits, digits, batch_size=4096)
    with pytest.raises(ValueError, match="larger than the 1047 images"):
        trained_images(large, grey_splits.pool, grey_splits.train)
    with pytest.raises(ValueError, match="early_stopping at none"):
        recipe_of(grey_splits, digits, **{"early_stopping.every": 2})
