"""A recipe is a value: complete, hashable, stable, and every one of its knobs does something."""

import dataclasses
import json
import subprocess
import sys

import pytest

from raysl.optim import Duration
from raysl.recipe import EarlyStopping, Recipe, flat

PLAIN = Recipe.create("simclr", dataset="d", pool_size=500, label_size=50)


def test_a_round_trip_through_json_gives_an_equal_recipe_and_digest():
    recipe = PLAIN.with_overrides({"early_stopping.patience": "3", "duration": "20 epochs"})
    again = Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert again.digest() == recipe.digest()


@pytest.mark.slow
def test_the_digest_is_the_same_in_another_process():
    code = (
        "from raysl.recipe import Recipe;"
        "print(Recipe.create('simclr', dataset='d', pool_size=500, label_size=50).digest())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == PLAIN.digest()


def test_an_integer_and_the_equal_float_give_one_digest():
    assert (
        PLAIN.with_overrides({"optim.lr": 1}).digest()
        == PLAIN.with_overrides({"optim.lr": "1.0"}).digest()
    )


def test_every_field_moves_the_digest():
    changed = {
        path: value
        for path, value in flat(PLAIN.to_dict()).items()
        if path not in ("method.name", "duration.amount", "duration.unit")
    }
    others = {"str": "other", "bool": None, "int": 2, "float": 0.31}
    for path, value in changed.items():
        if isinstance(value, bool):
            new = not value
        elif isinstance(value, int | float):
            new = value + 1 if isinstance(value, int) else value / 2 + 0.01
        elif value is None or isinstance(value, list):
            continue  # structured fields are set by the tests of their own modules
        else:
            new = next(
                (
                    v
                    for v in ("sgd", "small", "group", "linear", "bfloat16", "dcl")
                    if _fits(path, v)
                ),
                others["str"],
            )
        base = PLAIN.with_overrides(NEEDS.get(path, {}))
        assert base.with_overrides({path: new}).digest() != base.digest(), path


NEEDS = {  # fields that mean nothing to the other losses
    "method.sigma": {"method.loss": "dclw"},
    "method.tau_plus": {"method.loss": "hard"},
    "method.beta": {"method.loss": "hard"},
}


def _fits(path, value):
    try:
        return PLAIN.with_overrides({path: value}) is not None
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("method.temprature", "method.temperature"),
        ("encoder.nam", "encoder.name"),
        ("batchsize", "batch_size"),
    ],
)
def test_an_unknown_field_names_the_nearest(path, near):
    with pytest.raises(ValueError, match=near):
        PLAIN.with_overrides({path: "1"})


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'simclr'"):
        Recipe.create("simcrl", dataset="d", pool_size=500, label_size=50)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 501}, "larger than the 500 images of the pool"),
        ({"batch_size": 1}, "at least 2"),
        ({"pool_size": 1}, "at least 2"),
        ({"label_size": 0}, "at least 2"),
        ({"method.temperature": 0}, "above 0"),
        ({"duration": "2 weeks"}, "duration"),
        ({"duration.unit": "weeks"}, "valid: epochs, examples, steps"),
    ],
)
def test_impossible_values_get_a_sentence(changes, message):
    with pytest.raises(ValueError, match=message):
        PLAIN.with_overrides(changes)


def test_naming_a_field_of_early_stopping_switches_it_on_and_none_off():
    on = PLAIN.with_overrides({"early_stopping.patience": 7})
    assert on.early_stopping == EarlyStopping(patience=7)
    assert on.with_overrides({"early_stopping": "none"}).early_stopping is None


def test_a_recipe_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PLAIN.seed = 1


def test_duration_text_replaces_the_whole_duration():
    assert PLAIN.with_overrides({"duration": "3 epochs"}).duration == Duration(3, "epochs")
