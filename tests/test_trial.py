"""A trial is idempotent in its directory, keeps the test split shut, and says what went wrong."""

import dataclasses
import json
import threading
from unittest import mock

import pytest
import torch

import raysl.trial
from raysl.data.images import Splits
from raysl.recipe import EarlyStopping, Recipe
from raysl.result import RESULT_FILE, read_result
from raysl.signals import Interrupted, StopTrial
from raysl.state import initial_state
from raysl.tracking import read_jsonl
from raysl.trial import CHECKPOINT_FILE, ENCODER_FILE, attempt_trial, check_splits, run_trial


class Forbidden:
    """A test split that may be described but not read."""

    def __init__(self, images):
        self.images = images

    def __getattr__(self, name):
        if name == "read":
            raise AssertionError("the test split was read")
        return getattr(self.images, name)

    def __len__(self):
        return len(self.images)


def recipe_of(splits, **changes):
    recipe = Recipe.create(
        "simclr", dataset=splits.digest, pool_size=24, label_size=16, batch_size=8
    )
    return recipe.with_overrides({"encoder.width": 8, "duration": "6 steps", **changes})


def test_a_final_trial_measures_val_and_test_and_says_what_it_cost(splits, tmp_path):
    result = run_trial(recipe_of(splits), splits, directory=tmp_path, final=True)
    assert {"val/linear_top1", "val/knn_top1", "test/linear_top1", "test/knn_top1"} <= set(
        result.metrics
    )
    assert all(0 <= v <= 100 for k, v in result.metrics.items() if k.endswith("top1"))
    assert result.cost["examples"] == 48
    assert result.cost["seconds"] >= result.cost["train_seconds"] > 0
    assert result.provenance["data_digest"] == splits.digest
    assert result.protocols.keys() == {"linear", "knn"}
    assert read_result(tmp_path) == result
    assert not (tmp_path / CHECKPOINT_FILE).exists()
    assert read_jsonl(tmp_path / "metrics.jsonl")[-1]["step"] == 6


def test_a_search_trial_cannot_read_the_test_split(splits, tmp_path):
    shut = dataclasses.replace(splits, test=Forbidden(splits.test))
    result = run_trial(recipe_of(splits), shut, directory=tmp_path, final=False)
    assert not [name for name in result.metrics if name.startswith("test/")]
    with pytest.raises(AssertionError, match="test split was read"):
        run_trial(recipe_of(splits), shut, directory=tmp_path / "other", final=True)


def test_methods_never_see_labels_unless_they_train_on_them(splits, tmp_path):
    shuffled = dataclasses.replace(
        splits.train, labels=splits.train.labels[torch.randperm(len(splits.train))]
    )
    relabelled = Splits(shuffled, splits.train, splits.val, splits.test)
    recipe = recipe_of(splits)
    run_trial(recipe, splits, directory=tmp_path / "a", final=False)
    run_trial(recipe, relabelled, directory=tmp_path / "b", final=False)
    one, two = (torch.load(tmp_path / d / "encoder.pt", weights_only=True)["encoder"] for d in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_stored_result_is_returned_without_work(splits, tmp_path):
    first = run_trial(recipe_of(splits), splits, directory=tmp_path, final=True)
    written = (tmp_path / RESULT_FILE).stat().st_mtime_ns
    assert run_trial(recipe_of(splits), splits, directory=tmp_path, final=True) == first
    assert (tmp_path / RESULT_FILE).stat().st_mtime_ns == written


def test_a_search_result_is_made_final_from_its_weights_without_training_again(splits, tmp_path):
    first = run_trial(recipe_of(splits), splits, directory=tmp_path, final=False)
    reports = []
    second = run_trial(
        recipe_of(splits),
        splits,
        directory=tmp_path,
        final=True,
        report=lambda step, metrics: reports.append(step),
    )
    assert reports == []
    assert second.metrics["val/linear_top1"] == first.metrics["val/linear_top1"]
    assert "test/linear_top1" in second.metrics
    assert second.cost["examples"] == first.cost["examples"]


def test_a_checkpoint_of_another_recipe_is_refused_with_what_to_do_and_stays(splits, tmp_path):
    path = tmp_path / CHECKPOINT_FILE
    initial_state(recipe_of(splits, **{"method.projector": (32, 16)}), splits.pool).save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint\.pt is not of this recipe.*delete it"):
        run_trial(recipe_of(splits), splits, directory=tmp_path, final=False)
    assert path.read_bytes() == before


def test_an_interrupted_trial_goes_on_from_its_checkpoint_to_the_same_result(splits, tmp_path):
    recipe = recipe_of(splits, duration="12 steps")
    whole = run_trial(recipe, splits, directory=tmp_path / "whole", final=True)
    interrupt = threading.Event()

    def stop_at_four(step, metrics):
        if step == 4:
            interrupt.set()

    with pytest.raises(Interrupted):
        run_trial(
            recipe,
            splits,
            directory=tmp_path / "cut",
            final=True,
            report=stop_at_four,
            interrupt=interrupt,
        )
    assert (tmp_path / "cut" / CHECKPOINT_FILE).exists()
    assert read_result(tmp_path / "cut") is None
    seen = []
    resumed = run_trial(
        recipe,
        splits,
        directory=tmp_path / "cut",
        final=True,
        report=lambda step, metrics: seen.append(step),
    )
    assert min(seen) > 4
    assert resumed.metrics == whole.metrics
    steps = [row["step"] for row in read_jsonl(tmp_path / "cut" / "metrics.jsonl")]
    assert steps == sorted(set(steps))


def test_a_stop_keeps_what_was_measured(splits, tmp_path):
    def stop(step, metrics):
        raise StopTrial

    result = run_trial(recipe_of(splits), splits, directory=tmp_path, final=False, report=stop)
    assert result.status == "stopped"
    assert "val/linear_top1" in result.metrics
    assert result.cost["steps"] < 6
    assert run_trial(recipe_of(splits), splits, directory=tmp_path, final=False) == result
    final = run_trial(recipe_of(splits), splits, directory=tmp_path, final=True)
    assert (final.status, final.cost["steps"]) == ("stopped", result.cost["steps"])


def test_what_is_evaluated_after_a_stop_are_the_weights_of_the_best_look(splits, tmp_path):
    recipe = recipe_of(splits, duration="20 steps")
    recipe = dataclasses.replace(recipe, early_stopping=EarlyStopping(every=4, patience=99))
    saved = {}

    def report(step, metrics):
        if step == 18:
            raise StopTrial

    train = raysl.trial.train

    def keep_state(*args, **options):
        saved["state"] = options["state"]
        return train(*args, **options)

    with mock.patch("raysl.trial.train", keep_state):
        result = run_trial(recipe, splits, directory=tmp_path, final=False, report=report)
    state = saved["state"]
    assert result.cost["steps"] == 18 > state.best["step"]
    kept = torch.load(tmp_path / ENCODER_FILE, weights_only=True)["encoder"]
    best = state.best["method"]
    assert all(torch.equal(value, best[f"encoder.{name}"]) for name, value in kept.items())


def test_seconds_are_those_of_all_processes_that_worked_on_a_trial(splits, tmp_path):
    first = run_trial(recipe_of(splits), splits, directory=tmp_path, final=False)
    second = run_trial(recipe_of(splits), splits, directory=tmp_path, final=True)
    trained = first.cost["train_seconds"]
    assert second.cost["train_seconds"] == trained
    assert second.cost["device_seconds"] == second.cost["seconds"] > trained


def test_a_failure_becomes_a_result_that_names_it_and_nothing_is_stored(splits, tmp_path):
    recipe = recipe_of(splits, **{"optim.name": "sgd", "optim.lr": 1e30})
    result = attempt_trial(recipe, splits, directory=tmp_path, final=False)
    assert result.status == "failed"
    assert "not finite in update" in result.error.splitlines()[0]
    assert read_result(tmp_path) is None


def test_evaluations_on_the_way_are_logged_with_diagnostics(splits, tmp_path):
    run_trial(recipe_of(splits, num_evaluations=3), splits, directory=tmp_path, final=False)
    rows = {row["step"]: row for row in read_jsonl(tmp_path / "metrics.jsonl")}
    for step in (2, 4, 6):
        assert {"val/linear_top1", "features/effective_rank", "features/feature_std"} <= set(
            rows[step]
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool_size": 10_000}, "above the .* images of the pool"),
        ({"label_size": 2}, "classes"),
        ({"label_size": 10_000}, "label"),
    ],
)
def test_sizes_that_the_data_cannot_give_get_a_sentence(changes, message, splits):
    with pytest.raises(ValueError, match=message):
        check_splits(recipe_of(splits, **changes), splits)


def test_other_data_than_the_recipes_gets_a_sentence(splits):
    with pytest.raises(ValueError, match="The recipe is for data"):
        check_splits(dataclasses.replace(recipe_of(splits), dataset="other"), splits)


def test_the_result_file_is_plain_json(splits, tmp_path):
    run_trial(recipe_of(splits), splits, directory=tmp_path, final=False)
    content = json.loads((tmp_path / RESULT_FILE).read_text())
    assert content["recipe"]["method"]["name"] == "simclr"


def test_a_collapsed_encoder_is_flagged_and_a_healthy_one_is_not(splits, tmp_path):
    # Weight decay that takes nine tenths of all weights in every update leaves nothing behind.
    decay = {"optim.weight_decay": 9e5, "optim.lr": 1e-6, "optim.warmup": 0.0}
    recipe = recipe_of(splits, duration="60 steps", **decay)
    dead = run_trial(recipe, splits, directory=tmp_path / "dead", final=False)
    alive = run_trial(recipe_of(splits), splits, directory=tmp_path / "alive", final=False)
    assert (dead.flags, alive.flags) == (("collapsed",), ())
    assert dead.metrics["features/feature_std"] < alive.metrics["features/feature_std"]
