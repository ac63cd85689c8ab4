"""A trial whose projections collapsed is flagged, whatever its encoder's features look like."""

import threading

import pytest
import torch

from raysl.data.store import load_splits
from raysl.evaluation.diagnostics import collapsed
from raysl.recipe import Recipe
from raysl.signals import Interrupted
from raysl.trial import CHECKPOINT_FILE, run_trial

HEALTHY, LINE = {}, {"method.stop_gradient": False}


@pytest.fixture(scope="module")
def digits():
    return load_splits("sklearn:digits")


def recipe_of(digits, changes, *, steps=150):
    recipe = Recipe.create(
        "simsiam", dataset=digits.digest, pool_size=1047, label_size=100, batch_size=64
    )
    quick = {"encoder.width": 8, "optim.lr": 0.4, "duration": f"{steps} steps"}
    return recipe.with_overrides(quick | changes)


@pytest.mark.slow
def test_simsiam_without_stop_gradient_is_flagged_and_with_it_is_not(digits, tmp_path):
    found = {}
    for name, changes in (("healthy", HEALTHY), ("line", LINE)):
        recipe = recipe_of(digits, changes)
        found[name] = run_trial(recipe, digits, directory=tmp_path / name, final=False)
    assert (found["healthy"].flags, found["line"].flags) == ((), ("collapsed",))
    signs = "train/embedding_std", "train/embedding_rank"
    assert all(name in result.metrics for result in found.values() for name in signs)
    metrics = found["line"].metrics
    features = {k.removeprefix("features/"): v for k, v in metrics.items() if "features/" in k}
    assert not collapsed(features)  # of the encoder: what gives it away are the projections
    again = run_trial(recipe_of(digits, LINE), digits, directory=tmp_path / "line", final=True)
    assert again.flags == ("collapsed",)  # from the stored weights, without training again
    assert again.metrics["train/embedding_rank"] == metrics["train/embedding_rank"]


def test_the_scalars_of_the_last_update_survive_an_interruption(digits, tmp_path):
    recipe = recipe_of(digits, HEALTHY, steps=6)
    whole = run_trial(recipe, digits, directory=tmp_path / "whole", final=False)
    interrupt = threading.Event()

    def stop_at_the_end(step, metrics):
        if step == 5:
            interrupt.set()

    with pytest.raises(Interrupted):
        run_trial(
            recipe,
            digits,
            directory=tmp_path / "cut",
            final=False,
            report=stop_at_the_end,
            interrupt=interrupt,
        )
    saved = torch.load(tmp_path / "cut" / CHECKPOINT_FILE, weights_only=True)
    assert {"loss", "embedding_std"} <= set(saved["metrics"])
    resumed = run_trial(recipe, digits, directory=tmp_path / "cut", final=False)
    assert resumed.metrics == whole.metrics
    assert resumed.flags == whole.flags


def test_a_method_that_logs_no_sign_is_judged_by_its_features_alone(digits, tmp_path):
    recipe = Recipe.create("random", dataset=digits.digest, label_size=100, batch_size=2)
    recipe = recipe.with_overrides({"encoder.width": 8})
    result = run_trial(recipe, digits, directory=tmp_path, final=False)
    assert result.flags == ()
    assert not [name for name in result.metrics if name.startswith("train/")]
