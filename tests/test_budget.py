"""Caps on a study: never a trial too many, nothing lost, and a restart with more goes on."""

import dataclasses
import random

import pytest
from test_study import play, result_of, searched, study_of

from raysl.study.budget import Budget, Capped
from raysl.study.estimate import Timings, planned_images, timed
from raysl.study.ledger import Ledger, read_proposals
from raysl.study.local import run_locally
from raysl.study.planners import build_planner
from raysl.study.spec import Resources
from raysl.trial import failed

SECOND = 1 / 3600  # in hours


def capped(study, *texts, seconds_of=lambda proposal: 100.0) -> Capped:
    return Capped(build_planner(study), Budget.parse(*texts), seconds_of)


def book(study, directory, *texts, **options) -> Ledger:
    return Ledger(study, capped(study, *texts, **options), directory)


def taken(proposal, seconds):
    cost = {"seconds": seconds, "device_seconds": seconds, "train_seconds": 0.0}
    return dataclasses.replace(result_of(proposal), cost=cost)


def play_seconds(ledger, seconds_of, *, workers=1) -> float:
    """Run the ledger with so many trials side by side; the device-seconds of all."""
    running, spent = [], 0.0
    while not ledger.finished:
        while len(running) < workers and (proposal := ledger.next()) is not None:
            running.append(proposal)
        assert running, "a planner that waits while nothing runs"
        proposal = running.pop(0)
        spent += seconds_of(proposal)
        ledger.record(proposal, taken(proposal, seconds_of(proposal)))
    return spent


def true_seconds(proposal) -> float:
    """A constant and a rate, with 10 % of noise that depends on the trial alone."""
    noise = random.Random(proposal.recipe.digest()).uniform(0.9, 1.1)
    return noise * (20 + 2.0 * planned_images(proposal.recipe))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["trails=40"], "did you mean 'trials'"),
        (["device_hours=4"], "did you mean 'device-hours'"),
        (["40"], "reads trials=40 or device-hours=6"),
        (["trials=0"], "at least 1"),
        (["trials=-3"], "at least 1"),
        (["trials=2.5"], "whole number"),
        (["trials=inf"], "whole number"),
        (["trials=many"], "whole number"),
        (["device-hours=0"], "above 0"),
        (["device-hours=nan"], "must be a number"),
        (["device-hours=inf"], "above 0"),
        (["device-hours="], "must be a number"),
        (["trials=4", "trials=5"], "twice"),
    ],
)
def test_a_mistaken_budget_gets_a_sentence(texts, words):
    with pytest.raises(ValueError, match=words):
        Budget.parse(*texts)


def test_a_budget_reads_as_it_is_written():
    budget = Budget.parse("device-hours=6", "trials=40")
    assert budget == Budget(trials=40, device_hours=6.0)
    assert str(budget) == "40 trials and 6 device-hours"
    assert not Budget.parse()


@pytest.mark.parametrize("kind", [study_of, searched])
def test_a_cap_on_trials_runs_exactly_that_many(kind, splits, tmp_path):
    ledger = book(kind(splits), tmp_path, "trials=5")
    assert len(play(ledger)) == 5
    assert len(read_proposals(tmp_path)) == 5


def test_it_says_why_it_stopped_and_what_is_left(splits, tmp_path):
    ledger = book(study_of(splits), tmp_path, "trials=5")
    assert ledger.planner.stopped is None
    play(ledger)
    assert ledger.planner.stopped == "The budget of 5 trials is used up: 5 run, 3 of the plan left."


@pytest.mark.parametrize("texts", [(), ("trials=8",), ("trials=99", "device-hours=99")])
def test_a_budget_that_is_large_enough_changes_nothing(texts, splits, tmp_path):
    whole = play(Ledger(study_of(splits), build_planner(study_of(splits)), tmp_path / "whole"))
    ledger = book(study_of(splits), tmp_path / "capped", *texts)
    assert play(ledger) == whole
    assert ledger.planner.stopped is None


@pytest.mark.parametrize("kind", [study_of, searched])
@pytest.mark.parametrize("texts", [("trials=5",), ("device-hours=0.15",)])
def test_a_restart_with_more_goes_on_where_it_stopped(kind, texts, splits, tmp_path):
    study = kind(splits)

    def run(ledger):
        before = {p.recipe.digest() for _, p in read_proposals(ledger.root)}
        play_seconds(ledger, true_seconds)
        stored = [p.recipe.digest() for _, p in read_proposals(ledger.root)]
        return [digest for digest in stored if digest not in before]

    whole = run(book(study, tmp_path / "whole"))
    first = run(book(study, tmp_path / "cut", *texts, seconds_of=true_seconds))
    assert 0 < len(first) < len(whole)
    assert run(book(study, tmp_path / "cut", *texts, seconds_of=true_seconds)) == []
    rest = run(book(study, tmp_path / "cut", "device-hours=99", seconds_of=true_seconds))
    assert first + rest == whole


def test_a_restart_with_less_than_was_spent_runs_nothing_new(splits, tmp_path):
    play(book(study_of(splits), tmp_path, "trials=5"))
    ledger = book(study_of(splits), tmp_path, "trials=3")
    assert ledger.finished
    assert play(ledger) == []
    assert "5 run, 3 of the plan left" in ledger.planner.stopped


def test_trials_that_were_running_when_the_process_died_are_run_and_count(splits, tmp_path):
    ledger = book(study_of(splits), tmp_path, "trials=5")
    lost = [ledger.next() for _ in range(2)]
    again = book(study_of(splits), tmp_path, "trials=5")
    assert play(again)[:2] == [p.recipe.digest() for p in lost]
    assert len(read_proposals(tmp_path)) == 5


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("kind", [study_of, searched])
@pytest.mark.parametrize("limit", [150, 400, 900, 1300])
def test_device_hours_stay_under_the_cap(limit, kind, workers, splits, tmp_path):
    text = f"device-hours={limit * SECOND}"
    ledger = book(kind(splits), tmp_path, text, seconds_of=true_seconds)
    spent = play_seconds(ledger, true_seconds, workers=workers)
    assert spent <= limit
    assert spent == pytest.approx(ledger.planner.spent)
    assert spent > limit - 200 or ledger.planner.inner.finished  # no trial takes more than 235


def test_a_first_estimate_of_half_the_truth_is_put_right_by_the_results(splits, tmp_path):
    study = study_of(splits, confirm_seeds=tuple(range(12)))
    limit = 2000
    ledger = book(
        study, tmp_path, f"device-hours={limit * SECOND}", seconds_of=lambda p: true_seconds(p) / 2
    )
    spent = play_seconds(ledger, true_seconds, workers=3)
    assert limit - 200 < spent <= limit


def test_a_proposal_without_room_waits_for_the_running_ones_and_is_run_if_they_cost_less(
    splits, tmp_path
):
    planner = capped(study_of(splits), f"device-hours={260 * SECOND}")  # 125 are set aside for each
    first, second = planner.ask(), planner.ask()
    assert planner.ask() is None
    assert not planner.finished
    planner.tell(first, taken(first, 10.0))
    third = planner.ask()
    assert third is not None
    assert third.recipe not in (first.recipe, second.recipe)


def test_a_proposal_without_room_ends_the_study_once_nothing_runs(splits):
    planner = capped(study_of(splits), f"device-hours={200 * SECOND}")
    proposal = planner.ask()
    assert planner.ask() is None
    assert not planner.finished
    assert planner.stopped is None  # one is running
    planner.tell(proposal, taken(proposal, 150.0))
    assert planner.finished
    assert planner.ask() is None
    assert "no room for the next trial: 1 trial took 0.0417 device-hours" in planner.stopped
    assert planner.stopped.endswith("7 of the plan left.")


def test_a_budget_below_the_first_trial_ends_a_plain_loop_before_it(splits, tmp_path):
    ledger = book(study_of(splits), tmp_path, f"device-hours={SECOND}")
    assert ledger.finished
    run_locally(ledger, splits)
    assert "no room for the first trial: simclr 8 seed 0" in ledger.planner.stopped
    assert read_proposals(tmp_path) == []


def test_a_failed_trial_counts_with_its_estimate_once_for_every_attempt(splits, tmp_path):
    ledger = book(study_of(splits), tmp_path, f"device-hours={450 * SECOND}")
    while not ledger.finished:
        proposal = ledger.next()
        ledger.record(proposal, failed(proposal.recipe, ValueError("broken"), final=True))
    # The second trial fits once; the ledger tries it three times, as it did the first.
    assert ledger.planner.spent == 600.0
    assert len(read_proposals(tmp_path)) == 2


def test_a_restart_counts_what_was_spent_before(splits, tmp_path):
    text = f"device-hours={400 * SECOND}"
    first = book(study_of(splits), tmp_path, text, seconds_of=true_seconds)
    for _ in range(3):
        proposal = first.next()
        first.record(proposal, taken(proposal, true_seconds(proposal)))
    again = book(study_of(splits), tmp_path, text, seconds_of=true_seconds)
    assert again.planner.spent == pytest.approx(first.planner.spent)
    assert again.planner.num_trials == 3


def test_the_budget_is_no_part_of_what_a_study_is(splits, tmp_path):
    study = study_of(splits)
    digest = study.digest()
    play(book(study, tmp_path, "trials=2"))
    assert study.digest() == digest


def test_timings_are_the_estimate_then_the_fit_and_the_larger_far_beyond_it(splits):
    study = study_of(splits)
    cells = {c["pool_size"]: c for c in study.cells() if c["arm"] == "simclr"}

    def proposal(steps):
        first = build_planner(study).ask()
        recipe = study.recipe(cells[24], {"duration": f"{steps} steps"}, 0)
        return dataclasses.replace(first, recipe=recipe)

    timings = Timings(lambda p: 1.0 * planned_images(p.recipe))
    assert timings.seconds(proposal(10)) == 80.0
    assert timings.at_most(proposal(10)) > 80.0
    timings.add(proposal(10), 40.0)
    assert timings.seconds(proposal(20)) == pytest.approx(80.0)  # the estimate, halved
    timings.add(proposal(20), 60.0)  # now 20 and a quarter of a second for an image
    assert timings.seconds(proposal(30)) == pytest.approx(80.0)
    assert timings.seconds(proposal(1000)) == 8000.0
    timings.add(proposal(20), 75.0)
    assert timings.at_most(proposal(20)) > timings.seconds(proposal(20))


def test_the_timed_estimate_grows_with_the_updates_and_multiplies_with_the_workers(splits):
    study = study_of(splits)
    recipe = study.recipe(study.cells()[0], {}, 0)
    alone = timed(splits, Resources())
    few, more, most = (
        alone(recipe.with_overrides({"duration": f"{number} steps"})) for number in (10, 20, 40)
    )
    assert most - more == pytest.approx(2 * (more - few))
    assert most > few
    random = study.recipe({"arm": "random", "pool_size": None}, {}, 0)
    assert timed(splits, Resources(workers=2))(random) == 2 * alone(random)
