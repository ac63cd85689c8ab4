"""Planners and the ledger: nothing twice, retries, restarts that propose the same."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from raysl.recipe import Recipe
from raysl.result import TrialResult, read_result
from raysl.study.ledger import Ledger, open_study, read_proposals
from raysl.study.local import run_locally
from raysl.study.planners import build_planner, cell_label
from raysl.study.policy import tuned_and_frozen
from raysl.study.sizes import size_study
from raysl.study.spec import Cell, Resources, Study
from raysl.trial import failed


@dataclasses.dataclass(frozen=True)
class Space:
    """One continuous and one conditional parameter."""

    def __call__(self, trial: Any, cell: Cell) -> Mapping[str, Any]:
        if cell["arm"] != "simclr":
            return {}
        found = {"method.temperature": trial.suggest_float("method.temperature", 0.1, 1.0)}
        if trial.suggest_categorical("views.flip", [0.0, 0.5]) > 0:
            found["views.flip"] = 0.5
            found["views.rotation"] = trial.suggest_float("views.rotation", 0.0, 10.0)
        return found


def study_of(splits, **fields) -> Study:
    base = Recipe.create(
        "simclr", dataset=splits.digest, pool_size=24, label_size=16, batch_size=8
    ).with_overrides({"encoder.width": 8, "duration": "4 steps"})
    study = size_study(
        splits,
        name="test",
        question="?",
        base=base,
        arms=["simclr", "scratch", "random"],
        baseline="scratch",
        sizes=(8, 24),
        seeds=2,
    ).with_overrides({"scratch.duration": "4 steps"})
    return dataclasses.replace(study, **fields)


def searched(splits, **fields) -> Study:
    return study_of(splits, space=Space(), trials=6, **fields)


def tuned(splits) -> Study:
    return tuned_and_frozen(searched(splits), reference=24)


def score(proposal) -> float:
    """A fixed landscape in place of training, where only planning is tested."""
    return 50 + 10 * dict(proposal.params).get("method.temperature", 0.0) - proposal.seed / 1e6


def result_of(proposal, status="ok", **metrics) -> TrialResult:
    return TrialResult(
        digest=proposal.recipe.digest(),
        recipe=proposal.recipe.to_dict(),
        status=status,
        final=proposal.final,
        metrics=metrics or {"val/linear_top1": score(proposal)},
    )


def play(ledger, *, limit=None) -> list[str]:
    """Run the ledger with `score`; the digests in the order of their running."""
    done = []
    while not ledger.finished and len(done) != limit:
        proposal = ledger.next()
        done.append(proposal.recipe.digest())
        ledger.record(proposal, result_of(proposal))
    return done


def book(study, directory, **options) -> Ledger:
    return Ledger(study, build_planner(study), directory, **options)


def test_arms_that_ignore_the_pool_are_one_cell_without_a_size(splits):
    cells = [cell_label(cell) for cell in study_of(splits).cells()]
    assert cells == [
        "arm=simclr pool_size=8", "arm=simclr pool_size=24",
        "arm=scratch pool_size=None", "arm=random pool_size=None",
    ]  # fmt: skip


def test_the_grid_runs_every_cell_and_seed_once(splits, tmp_path):
    done = play(book(study_of(splits), tmp_path))
    assert len(done) == len(set(done)) == 8


def test_the_same_seed_gives_all_arms_the_same_subsets(splits, tmp_path):
    ledger = book(study_of(splits), tmp_path)
    seeds = {}
    while (proposal := ledger.next()) is not None:
        recipe = proposal.recipe
        seeds.setdefault(proposal.seed, set()).add((recipe.subset_seed, recipe.label_size))
    assert all(len(found) == 1 for found in seeds.values())
    assert len(seeds) == 2


def test_a_search_is_confirmed_with_fresh_seeds_and_its_best_parameters(splits, tmp_path):
    study = searched(splits)
    ledger = book(study, tmp_path)
    proposals = []
    while not ledger.finished:
        proposal = ledger.next()
        proposals.append(proposal)
        ledger.record(proposal, result_of(proposal))
    by_phase = {
        phase: [p for p in proposals if p.phase == phase and p.cell["arm"] == "simclr"]
        for phase in ("search", "confirm")
    }
    assert len(by_phase["search"]) == 12
    assert len(by_phase["confirm"]) == 4
    assert {p.seed for p in by_phase["search"]}.isdisjoint(study.confirm_seeds)
    assert not any(p.final for p in by_phase["search"])
    assert all(p.final for p in by_phase["confirm"])
    for confirmed in by_phase["confirm"]:
        tried = [p for p in by_phase["search"] if p.cell == confirmed.cell]
        best = max(tried, key=score)
        assert confirmed.recipe.method == best.recipe.method
        assert confirmed.recipe.views == best.recipe.views


def test_arms_without_anything_to_search_are_confirmed_as_they_are(splits, tmp_path):
    ledger = book(searched(splits), tmp_path)
    play(ledger)
    scratch = [p for _, p in read_proposals(tmp_path) if p.cell["arm"] == "scratch"]
    assert [p.phase for p in scratch] == ["confirm", "confirm"]


@pytest.mark.parametrize("kind", [study_of, searched, tuned])
@pytest.mark.parametrize("cut", [1, 5, 9, 14, 23])
def test_a_restart_proposes_what_an_uninterrupted_run_would_have(kind, cut, splits, tmp_path):
    study = kind(splits)
    whole = play(book(study, tmp_path / "whole"))
    first = play(book(study, tmp_path / "cut"), limit=cut)
    ledger = book(study, tmp_path / "cut")
    lost = ledger.next()  # proposed, running when the process dies
    again = book(study, tmp_path / "cut")
    rest = play(again)
    assert first + rest == whole
    assert lost is None or rest[0] == lost.recipe.digest()


@pytest.mark.parametrize("kind", [study_of, searched, tuned])
def test_a_restart_with_trials_in_flight_goes_on_with_the_same_proposal(kind, splits, tmp_path):
    ledger = book(kind(splits), tmp_path)
    flying = [ledger.next() for _ in range(3)]
    while all(flying):
        done = flying.pop(1)  # never the oldest: results come out of order
        ledger.record(done, result_of(done))
        again = book(kind(splits), tmp_path)
        resumed = [again.next() for _ in range(2)]
        assert {p.recipe.digest() for p in resumed} == {p.recipe.digest() for p in flying}
        asked = again.planner.ask()
        flying.append(ledger.next())
        assert (asked and asked.recipe.digest()) == (flying[-1] and flying[-1].recipe.digest())


def test_random_and_gp_samplers_work_by_name_and_others_get_a_near_miss(splits, tmp_path):
    for name in ("RandomSampler", "GPSampler", "QMCSampler"):
        study = searched(splits, sampler=name)
        play(book(study, tmp_path / name))
        phases = [p.phase for _, p in read_proposals(tmp_path / name)]
        assert phases.count("confirm") == 8
        assert 8 <= phases.count("search") <= 12  # a repeated point is not run again
    with pytest.raises(ValueError, match="did you mean 'TPESampler'"):
        build_planner(searched(splits, sampler="TPSampler"))
    with pytest.raises(ValueError, match="GridSampler needs arguments"):
        build_planner(searched(splits, sampler="GridSampler"))


def test_a_failed_trial_is_tried_three_times_then_kept_as_failed(splits, tmp_path):
    study = study_of(splits)
    ledger = book(study, tmp_path)
    bad = ledger.next()
    attempts = []
    ledger.record(bad, failed(bad.recipe, ValueError("broken"), final=True))
    while not ledger.finished:
        proposal = ledger.next()
        if proposal.recipe == bad.recipe:
            attempts.append(proposal.attempt)
            ledger.record(proposal, failed(proposal.recipe, ValueError("broken"), final=True))
        else:
            ledger.record(proposal, result_of(proposal))
    assert attempts == [2, 3]
    stored = read_result(ledger.directory(bad))
    assert (stored.status, stored.attempts) == ("failed", 3)
    assert "broken" in stored.error
    assert play(book(study, tmp_path)) == []  # a restart does not try again


def test_a_cell_whose_search_only_failed_is_not_confirmed(splits, tmp_path):
    ledger = book(searched(splits), tmp_path, retries=0)
    while not ledger.finished:
        proposal = ledger.next()
        bad = proposal.phase == "search" and proposal.cell["pool_size"] == 8
        error = failed(proposal.recipe, ValueError("broken"), final=False)
        ledger.record(proposal, error if bad else result_of(proposal))
    confirmed = {
        p.cell["pool_size"]
        for _, p in read_proposals(tmp_path)
        if p.phase == "confirm" and p.cell["arm"] == "simclr"
    }
    assert confirmed == {24}


def test_pruned_trials_are_never_the_best(splits, tmp_path):
    ledger = book(searched(splits), tmp_path)
    first = None
    while not ledger.finished:
        proposal = ledger.next()
        if proposal.phase == "search" and proposal.cell["pool_size"] == 24 and first is None:
            first = proposal
            ledger.record(proposal, result_of(proposal, "stopped", **{"val/linear_top1": 99.0}))
        else:
            ledger.record(proposal, result_of(proposal))
    confirmed = [
        p for _, p in read_proposals(tmp_path) if p.phase == "confirm" and p.cell == first.cell
    ]
    assert confirmed
    assert all(p.recipe.method != first.recipe.method for p in confirmed)


def test_a_whole_small_study_runs_in_a_plain_loop(splits, tmp_path):
    study = study_of(splits)
    ledger = book(study, tmp_path)
    run_locally(ledger, splits)
    assert len(ledger.results) == 8
    assert all("test/linear_top1" in r.metrics for r in ledger.results.values())


def test_overrides_reach_the_base_or_one_arm(splits):
    study = study_of(splits).with_overrides(
        {"method.temperature": "0.2", "scratch.optim.lr": "0.01"}
    )
    recipes = {cell["arm"]: study.recipe(cell, {}, 0) for cell in study.cells()}
    assert recipes["simclr"].method.temperature == 0.2
    assert recipes["simclr"].optim.lr != 0.01 == recipes["scratch"].optim.lr
    assert study.digest() != study_of(splits).digest()
    with pytest.raises(ValueError, match="set by the study itself"):
        study.with_overrides({"pool_size": "5"})


def test_two_studies_with_one_name_and_different_content_get_a_sentence(splits, tmp_path):
    with open_study(study_of(splits), tmp_path, command="raysl run x"):
        pass
    with open_study(study_of(splits), tmp_path, command="raysl run x"):
        pass
    other = study_of(splits).with_overrides({"method.temperature": "0.2"})
    with (
        pytest.raises(ValueError, match=r"different content \(base\).*another name"),
        open_study(other, tmp_path, command="raysl run x"),
    ):
        pass


def test_a_study_that_runs_already_gets_a_sentence(splits, tmp_path):
    with (
        open_study(study_of(splits), tmp_path, command=""),
        pytest.raises(ValueError, match="run by another process"),
        open_study(study_of(splits), tmp_path, command=""),
    ):
        pass


def test_a_run_folder_that_cannot_be_written_gets_a_sentence(splits, tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ValueError, match=r"cannot be written .*--runs"),
        open_study(study_of(splits), tmp_path / "file", command=""),
    ):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sizes": (8, 10_000)}, "use sizes up to"),
        ({"sizes": (1, 8)}, "at least 2"),
        ({"sizes": ()}, "sizes is empty"),
        ({"sizes": (8, 8)}, "twice"),
        ({"seeds": 0}, "at least 1"),
        ({"arms": ["simclr", "scrtch"]}, "did you mean 'scratch'"),
        ({"name": ""}, "'' is empty"),
        ({"name": ".."}, "starts with a dot"),
        ({"name": "../x"}, "starts with a dot"),
        ({"name": "x/y"}, "holds a slash"),
        ({"name": "x\\y"}, "holds a slash"),
    ],
)
def test_impossible_studies_get_a_sentence_before_anything_runs(changes, message, splits):
    base = study_of(splits).base
    arguments = {
        "name": "x", "question": "?", "base": base, "arms": ["simclr"], "baseline": None,
        "sizes": (8,), "seeds": 1,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        size_study(splits, **(arguments | changes))


def test_a_baseline_is_not_compared_with_itself(splits):
    itself = study_of(splits, baseline="simclr")
    with pytest.raises(ValueError, match="baseline simclr is also a method"):
        itself.check_baseline()
    with pytest.raises(ValueError, match="baseline scratch is also a method"):
        study_of(splits, methods=("simclr", "scratch")).check_baseline()
    dataclasses.replace(itself, methods=("vicreg",)).check_baseline()  # the arms compared
    study_of(splits, baseline=None).check_baseline()


@pytest.mark.parametrize(
    "values",
    [
        {"workers": 0},
        {"workers": -1},
        {"cpus_per_worker": 0},
        {"gpus_per_worker": -1.0},
        {"gpus_per_worker": 1.5},
        {"gpus_per_worker": float("nan")},
        {"gpus_per_worker": float("inf")},
    ],
)
def test_impossible_resources_get_a_sentence(values):
    (name,) = values
    with pytest.raises(ValueError, match=f"{name} must be"):
        Resources(**values)


@pytest.mark.parametrize("gpus", [0, 0.25, 1, 2.0])
def test_a_worker_has_a_share_of_a_gpu_or_whole_ones(gpus):
    assert Resources(gpus_per_worker=gpus).gpus_per_worker == gpus
