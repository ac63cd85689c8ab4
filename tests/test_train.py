"""The loop: resume bit for bit, honest stops, early stopping, failures named by step."""

import dataclasses
import time

import pytest
import torch

from raysl.logged import RunningMeans
from raysl.methods import METHODS
from raysl.optim import Duration
from raysl.recipe import EarlyStopping, Recipe
from raysl.signals import Interrupted, StopTrial
from raysl.state import World, initial_state, read_checkpoint
from raysl.stopping import validation_loss
from raysl.train import evaluation_steps, train

TRAINED = [name for name, method in METHODS.items() if method.trains_on != "nothing"]


def recipe_of(method, splits, steps=10, **changes):
    size = {"pool_size": 32} if METHODS[method].trains_on == "pool" else {}
    recipe = Recipe.create(method, dataset=splits.digest, label_size=16, batch_size=8, **size)
    return recipe.with_overrides({"encoder.width": 8, "duration": f"{steps} steps", **changes})


def weights(state):
    return {name: value.clone() for name, value in state.method.state_dict().items()}


@pytest.mark.parametrize(
    ("method", "precision"),
    [*((name, "float32") for name in TRAINED), ("simclr", "bfloat16"), ("scratch", "bfloat16")],
)
def test_ten_steps_equal_five_a_stop_and_five_more_bit_for_bit(method, precision, splits, tmp_path):
    recipe = recipe_of(method, splits, precision=precision)
    whole = train(recipe, splits.train)

    def stop_at_five(state, metrics):
        if state.step == 5:
            state.save(tmp_path / "checkpoint.pt")
            raise StopTrial

    with pytest.raises(StopTrial):
        train(recipe, splits.train, report=stop_at_five)
    state = initial_state(recipe, splits.train)
    state.restore(read_checkpoint(tmp_path / "checkpoint.pt", world=World()))
    assert state.step == 5
    resumed = train(recipe, splits.train, state=state)
    assert resumed.step == 10
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name


def test_dropout_and_the_callers_generator_do_not_disturb_each_other(splits):
    recipe = recipe_of("simclr", splits)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = train(recipe, splits.train)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(99)
    second = train(recipe, splits.train)
    assert all(torch.equal(a, weights(second)[n]) for n, a in weights(first).items())


def test_another_seed_gives_other_weights(splits):
    one = train(recipe_of("simclr", splits), splits.train)
    two = train(recipe_of("simclr", splits, seed=1), splits.train)
    assert any(not torch.equal(a, weights(two)[n]) for n, a in weights(one).items())


@pytest.mark.parametrize("method", ["simclr", "scratch"])
def test_the_reported_loss_falls(method, splits):
    losses = []
    recipe = recipe_of(method, splits, steps=40, **{"optim.warmup": 0.0})
    train(recipe, splits.train, report=lambda state, m: losses.append(m["train/loss"]))
    assert len(losses) >= 10
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_a_loss_that_is_not_finite_fails_with_its_step_named(splits):
    recipe = recipe_of("scratch", splits, **{"optim.name": "sgd", "optim.lr": 1e30})
    with pytest.raises(FloatingPointError, match=r"not finite in update [2-5]; lower optim\.lr"):
        train(recipe, splits.train)


def test_the_seconds_of_a_report_have_the_wait_for_the_device_in_them(splits, monkeypatch):
    """A GPU is handed updates faster than it makes them, and a report waits for what is left."""
    take = RunningMeans.take

    def take_late(means):
        time.sleep(0.2)
        return take(means)

    monkeypatch.setattr(RunningMeans, "take", take_late)
    rates = []
    recipe = recipe_of("simclr", splits, steps=2)
    state = train(recipe, splits.train, report=lambda s, m: rates.append(m["images_per_second"]))
    assert state.seconds >= 0.2 * len(rates)
    assert max(rates) <= recipe.batch_size * recipe.num_steps / 0.2


def test_reports_come_at_the_asked_evaluations_and_at_the_end(splits):
    recipe = recipe_of("simclr", splits, steps=200, num_evaluations=4)
    assert evaluation_steps(recipe, 200) == [50, 100, 150]
    steps = []
    train(recipe, splits.train, report=lambda state, m: steps.append(state.step))
    assert {50, 100, 150, 200} <= set(steps)


def test_early_stopping_keeps_the_weights_of_the_best_look_and_resumes_alike(splits, tmp_path):
    recipe = dataclasses.replace(
        recipe_of("scratch", splits, steps=400, **{"optim.lr": 0.05}),
        early_stopping=EarlyStopping(every=5, patience=2),
    )
    state = train(recipe, splits.train, validation=splits.val)
    assert state.step < 400
    assert state.best["looks_since"] == 2
    found = validation_loss(recipe, state.method, splits.val)
    assert found == pytest.approx(state.best["loss"], rel=1e-5)
    state.save(tmp_path / "checkpoint.pt")
    again = initial_state(recipe, splits.train)
    again.restore(read_checkpoint(tmp_path / "checkpoint.pt", world=World()))
    ended = train(recipe, splits.train, validation=splits.val, state=again)
    assert ended.step == state.step
    assert all(torch.equal(v, weights(ended)[n]) for n, v in weights(state).items())


def test_an_interrupt_is_reported_at_once(splits):
    asked = []

    def interrupted():
        asked.append(1)
        return len(asked) == 3

    def report(state, metrics):
        if len(asked) == 3:
            raise Interrupted(str(state.step))

    with pytest.raises(Interrupted, match="3"):
        train(
            recipe_of("simclr", splits, steps=500),
            splits.train,
            report=report,
            interrupted=interrupted,
        )


def test_a_batch_that_the_workers_cannot_share_gets_a_sentence(splits):
    with pytest.raises(ValueError, match="divisible by the 3 workers"):
        train(recipe_of("simclr", splits), splits.train, world=World(0, 3))


def test_an_epoch_is_one_look_at_each_image(splits):
    assert Duration(2, "epochs").to_steps(num_examples=32, batch_size=8) == 8
