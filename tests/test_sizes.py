"""Studies over pool sizes, label sizes or both."""

import pytest

from raysl.recipe import Recipe
from raysl.study.sizes import size_study


def sized(splits, **fields):
    base = Recipe.create(
        "simclr", dataset=splits.digest, pool_size=24, label_size=16, batch_size=8
    ).with_overrides({"encoder.width": 8, "duration": "4 steps"})
    arguments = {
        "name": "test", "question": "?", "base": base, "arms": ["simclr", "scratch", "random"],
        "baseline": "scratch", "sizes": (24,), "seeds": 2,
    }  # fmt: skip
    return size_study(splits, **(arguments | fields))


def test_the_threshold_is_sought_in_labels_where_they_alone_vary(splits):
    assert sized(splits, sizes=(24,), labels=(8, 16)).size_axis == "label_size"
    assert sized(splits, sizes=(8, 24), labels=(8, 16)).size_axis == "pool_size"
    assert sized(splits, sizes=(8, 24), labels=(8,)).size_axis == "pool_size"
    assert sized(splits, sizes=(8, 24)).size_axis == "pool_size"


def test_arms_without_pretraining_have_one_cell_a_label_size(splits):
    study = sized(splits, sizes=(8, 24), labels=(8, 16, 64))
    cells = [(c["arm"], c["pool_size"], c["label_size"]) for c in study.cells()]
    simclr = [("simclr", pool, label) for pool in (8, 24) for label in (8, 16, 64)]
    others = [(arm, None, label) for arm in ("scratch", "random") for label in (8, 16, 64)]
    assert sorted(cells, key=str) == sorted(simclr + others, key=str)


def test_every_recipe_has_the_sizes_of_its_cell(splits):
    study = sized(splits, sizes=(8, 24), labels=(64, 8))
    for cell in study.cells():
        recipe = study.recipe(cell, {}, 0)
        assert (recipe.pool_size, recipe.label_size) == (cell["pool_size"], cell["label_size"])
        if cell["arm"] == "scratch":
            assert recipe.batch_size == min(64, cell["label_size"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": (8, 10_000)}, "10,000 is above the 64 labelled training images"),
        ({"labels": (2, 8)}, "2 is below the 4 classes"),
        ({"labels": (8, 8)}, "labels names a size twice"),
        ({"labels": (8, 16), "follow_labels": True}, "labels the whole pool"),
        ({"sizes": (2, 8), "follow_labels": True}, "2 is below the 4 classes"),
    ],
)
def test_impossible_label_sizes_get_a_sentence(changes, message, splits):
    with pytest.raises(ValueError, match=message):
        sized(splits, **changes)
