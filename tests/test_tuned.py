"""Tuning and thresholds together: four questions, and no trial run twice to answer them."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from raysl.analysis.report import write_report
from raysl.analysis.scores import scores_from_results
from raysl.data.store import load_splits
from raysl.recipe import Recipe
from raysl.result import TrialResult
from raysl.study.ledger import Ledger, open_study, read_proposals
from raysl.study.local import run_locally
from raysl.study.planners import build_planner, cell_label
from raysl.study.policy import AT_EACH_SIZE, at_only, tuned_and_frozen
from raysl.study.results import load_results
from raysl.study.sizes import resolve_labelled_pool, size_study
from raysl.study.spec import Cell, Proposal, Study
from raysl.trial import failed

SIZES, REFERENCE = (32, 64, 128), 64
FROZEN = at_only(REFERENCE)


@dataclasses.dataclass(frozen=True)
class Space:
    """The learning rate of both arms, and SimCLR's temperature from a few values."""

    temperatures: tuple[float, ...] = ()

    def __call__(self, trial: Any, cell: Cell) -> Mapping[str, Any]:
        if self.temperatures:
            names = list(self.temperatures)
            return {"method.temperature": trial.suggest_categorical("method.temperature", names)}
        return {"optim.lr": trial.suggest_float("optim.lr", 1e-3, 1e-2, log=True)}


@pytest.fixture(scope="module")
def digits():
    return load_splits("sklearn:digits")


def plain_study(digits, *, arms=("simclr", "scratch"), **fields) -> Study:
    base = Recipe.create(
        "simclr", dataset=digits.digest, pool_size=64, label_size=20, batch_size=16
    ).with_overrides({"encoder.width": 8, "duration": "8 steps", "method.projector": (16, 8)})
    study = size_study(
        digits,
        name="tuned",
        question="?",
        base=base,
        arms=arms,
        baseline="scratch" if "scratch" in arms else None,
        sizes=SIZES,
        seeds=2,
        space=Space(),
        trials=3,
    ).with_overrides({"scratch.duration": "8 steps"} if "scratch" in arms else {})
    return dataclasses.replace(study, **fields)


def tuned_study(digits, **fields) -> Study:
    return tuned_and_frozen(plain_study(digits, **fields), reference=REFERENCE)


def play(study, directory, *, is_bad=lambda proposal: False) -> list[Proposal]:
    """Run the study on a fixed landscape in place of training; its proposals in order."""
    ledger = Ledger(study, build_planner(study), directory, retries=0)
    proposals = []
    while not ledger.finished:
        proposal = ledger.next()
        proposals.append(proposal)
        result = TrialResult(
            digest=proposal.recipe.digest(),
            recipe=proposal.recipe.to_dict(),
            status="ok",
            final=proposal.final,
            metrics={
                "val/linear_top1": 50 - proposal.recipe.optim.lr * 1000,
                "test/linear_top1": 60.0 + proposal.seed + (proposal.cell["pool_size"] or 70) / 50,
            },
        )
        if is_bad(proposal):
            result = failed(proposal.recipe, ValueError("broken"), final=proposal.final)
        ledger.record(proposal, result)
    return proposals


def of(proposals, phase, **cell) -> list[Proposal]:
    return [p for p in proposals if p.phase == phase and cell.items() <= p.cell.items()]


def best(proposals, **cell) -> Proposal:
    return min(of(proposals, "search", **cell), key=lambda p: p.recipe.optim.lr)


def test_a_frozen_recipe_is_exactly_the_best_of_the_reference_size(digits, tmp_path):
    proposals = play(tuned_study(digits), tmp_path)
    reference = best(proposals, arm="simclr", pool_size=REFERENCE)
    for size, length in itertools.product((32, 128), ("epochs", "steps")):
        cell = {"arm": "simclr", "pool_size": size, "fixed": length}
        own = best(proposals, **cell)
        assert own.recipe.optim != reference.recipe.optim
        for value, source in ((FROZEN, reference), (AT_EACH_SIZE, own)):
            confirmed = of(proposals, "confirm", tuned=value, **cell)
            assert [p.seed for p in confirmed] == [0, 1]
            for proposal in confirmed:
                assert proposal.recipe.optim == source.recipe.optim
                assert proposal.recipe.pool_size == size
                assert proposal.recipe.duration == own.recipe.duration


def test_the_reference_size_and_a_flat_arm_run_once_a_seed(digits, tmp_path):
    study = tuned_study(digits)
    proposals = play(study, tmp_path)
    digests = [p.recipe.digest() for p in proposals]
    assert len(digests) == len(set(digests))
    for cell in ({"arm": "simclr", "pool_size": REFERENCE}, {"arm": "scratch", "pool_size": None}):
        confirmed = of(proposals, "confirm", **cell)
        assert [p.cell for p in confirmed] == [cell | {"tuned": None, "fixed": None}] * 2
    planned = {cell_label(cell): number for cell, number in build_planner(study).planned()}
    searched = Counter(cell_label(p.cell | {"tuned": None}) for p in proposals)
    assert searched == planned


def test_every_arm_is_searched_with_the_same_number_of_trials_and_never_on_test(digits, tmp_path):
    study = tuned_study(digits)
    proposals = play(study, tmp_path)
    searches = Counter(cell_label(p.cell) for p in proposals if p.phase == "search")
    assert set(searches.values()) == {3}
    assert len(searches) == 2 * 2 + 1 + 1  # two sizes for each length, the reference, scratch
    assert all(p.final == (p.phase == "confirm") for p in proposals)
    assert {p.seed for p in of(proposals, "search")}.isdisjoint(study.confirm_seeds)


def test_a_size_whose_best_recipe_is_the_frozen_one_runs_it_once_for_both(digits, tmp_path):
    study = tuned_study(digits, arms=("simclr",), space=Space(temperatures=(0.5,)))
    proposals = play(study, tmp_path)
    assert len(of(proposals, "confirm")) == 5 * 2
    assert all(p.cell["tuned"] is None for p in proposals)


def test_epochs_and_steps_are_one_at_the_reference_size_and_scale_elsewhere(digits):
    steps = {
        (cell["pool_size"], cell["fixed"]): tuned_study(digits).recipe(cell, {}, 0).num_steps
        for cell in tuned_study(digits).cells()
        if cell["arm"] == "simclr"
    }
    assert steps == {
        (32, "epochs"): 4, (32, "steps"): 8, (64, None): 8, (128, "epochs"): 16, (128, "steps"): 8,
    }  # fmt: skip


def test_a_duration_in_epochs_gives_the_same_updates_as_one_in_steps(digits):
    study = tuned_study(digits).with_overrides({"duration": "2 epochs"})
    cell = {"arm": "simclr", "pool_size": 128, "tuned": None, "fixed": "steps"}
    assert study.recipe(cell, {}, 0).num_steps == 2 * REFERENCE // 16


def test_scratch_on_a_labelled_pool_follows_both_lengths_too(digits):
    study = tuned_and_frozen(
        dataclasses.replace(plain_study(digits), resolve=resolve_labelled_pool, arm_overrides={}),
        reference=REFERENCE,
    )
    cells = [cell for cell in study.cells() if cell["arm"] == "scratch"]
    assert len(cells) == 5
    recipes = {(c["pool_size"], c["fixed"]): study.recipe(c, {}, 0) for c in cells}
    there = recipes[REFERENCE, None]
    assert {key: recipe.num_steps for key, recipe in recipes.items() if 32 not in key} == {
        (64, None): there.num_steps,
        (128, "epochs"): 2 * there.num_steps,
        (128, "steps"): there.num_steps,
    }


def test_a_failed_reference_search_leaves_the_frozen_recipe_unconfirmed(digits, tmp_path):
    def is_bad(proposal):
        return proposal.phase == "search" and proposal.cell["pool_size"] == REFERENCE

    proposals = play(tuned_study(digits), tmp_path, is_bad=is_bad)
    confirmed = of(proposals, "confirm", arm="simclr")
    assert {(p.cell["pool_size"], p.cell["tuned"]) for p in confirmed} == {
        (32, AT_EACH_SIZE), (128, AT_EACH_SIZE),
    }  # fmt: skip
    assert len(of(proposals, "confirm", arm="scratch")) == 2


def test_a_failed_search_at_another_size_leaves_only_the_frozen_recipe_there(digits, tmp_path):
    def is_bad(proposal):
        return proposal.phase == "search" and proposal.cell["pool_size"] == 32

    proposals = play(tuned_study(digits), tmp_path, is_bad=is_bad)
    confirmed = of(proposals, "confirm", arm="simclr", pool_size=32)
    assert {p.cell["tuned"] for p in confirmed} == {FROZEN}
    assert {p.cell["fixed"] for p in confirmed} == {"epochs", "steps"}


def test_impossible_questions_get_a_sentence(digits):
    with pytest.raises(ValueError, match="reference must be one of the sizes, 32, 64, 128; not 50"):
        tuned_and_frozen(plain_study(digits), reference=50)
    with pytest.raises(ValueError, match="give a space and trials"):
        tuned_and_frozen(plain_study(digits, space=None), reference=REFERENCE)


def test_the_report_says_that_a_failed_reference_search_leaves_no_frozen_answer(digits, tmp_path):
    def is_bad(proposal):
        return proposal.phase == "search" and proposal.cell["pool_size"] == REFERENCE

    study = tuned_study(digits)
    with open_study(study, tmp_path, command="raysl run x") as directory:
        play(study, directory, is_bad=is_bad)
        report = write_report(directory)
    (warning,) = report.content["warnings"]
    assert "SimCLR, pool size 64 has finished: its best recipe, meant for the other sizes too" in (
        warning
    )
    told = report.answer.split("Tuned at 64 only, fixed epochs: ")[1]
    assert told.startswith("No threshold: no trial of SimCLR has finished with test/linear_top1.")
    assert "Tuned at each size, fixed epochs: " in report.answer


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    """The folder of a small study that was run for real."""
    study = tuned_study(digits)
    with open_study(study, tmp_path_factory.mktemp("runs"), command="raysl run x") as directory:
        ledger = Ledger(study, build_planner(study), directory)
        run_locally(ledger, digits)
    assert all(result.status == "ok" for result in ledger.results.values())
    return directory


def test_a_trial_counts_under_every_value_of_an_axis_that_it_does_not_depend_on(finished):
    table = load_results(finished)
    shared = {}
    for value, length in itertools.product((AT_EACH_SIZE, FROZEN), ("epochs", "steps")):
        where = {"tuned": value, "fixed": length}
        scores = scores_from_results(table, metric="test/linear_top1", where=where)
        assert Counter((s.arm, s.size) for s in scores) == {
            ("simclr", 32.0): 2, ("simclr", 64.0): 2, ("simclr", 128.0): 2, ("scratch", None): 2,
        }  # fmt: skip
        shared[value, length] = {s.where for s in scores if s.size in (REFERENCE, None)}
    assert len({frozenset(names) for names in shared.values()}) == 1


@pytest.mark.slow
def test_the_report_answers_each_of_the_four_questions(finished):
    report = write_report(finished)
    comparisons = report.content["comparisons"]
    assert sorted(tuple(c["where"].values()) for c in comparisons) == sorted(
        itertools.product((AT_EACH_SIZE, FROZEN), ("epochs", "steps"))
    )
    assert all(comparison["threshold"] is not None for comparison in comparisons)
    for words in itertools.product(("at each size", "at 64 only"), ("epochs", "steps")):
        assert "uned {}, fixed {}:".format(*words) in report.answer
    for comparison in comparisons:
        study = report.content["study"]
        assert [study["meanings"][axis][v] for axis, v in comparison["where"].items()] == (
            comparison["notes"][:2]
        )
    confirmed = [p for _, p in read_proposals(finished) if p.phase == "confirm"]
    assert len(confirmed) == 2 * (2 * 2 * 2 + 1 + 1)
