"""The adaptive planner: its decisions follow from the stored trials, its budget holds."""

import dataclasses
import json
import math

import numpy as np
import pytest
from significance import expect_at_least

from raysl.analysis.report import write_report
from raysl.recipe import Recipe
from raysl.result import TrialResult
from raysl.rng import numpy_generator
from raysl.study.budget import Budget, Capped
from raysl.study.design import Design
from raysl.study.ledger import Ledger, open_study, read_proposals
from raysl.study.local import run_locally
from raysl.study.planners import build_planner
from raysl.study.sizes import size_study
from raysl.study.threshold import fit_costs, search_threshold

SIZES = (8, 12, 16, 24, 32, 48, 64)
CROSSING = 24.0


def study_of(splits, *, sizes=SIZES, **fields):
    base = Recipe.create(
        "simclr", dataset=splits.digest, pool_size=max(sizes), label_size=16, batch_size=8
    ).with_overrides({"encoder.width": 8, "duration": "2 epochs"})
    study = size_study(
        splits,
        name="test",
        question="?",
        base=base,
        arms=["simclr", "scratch", "random"],
        baseline="scratch",
        sizes=sizes,
        seeds=3,
    ).with_overrides({"scratch.duration": "4 steps"})
    return search_threshold(dataclasses.replace(study, **fields), Design(sd=0.5))


def measured(proposal, *, sd=0.3, slope=3.0, status="ok", world=0):
    """A known curve and noise in place of training, where only planning is tested."""
    size = proposal.cell["pool_size"]
    purpose = f"{proposal.cell['arm']} {size}"
    noise = numpy_generator(proposal.seed, purpose, world).normal(0, sd)
    value = 70.0 if size is None else 70 + slope * math.log(size / CROSSING)
    seconds = 1.0 + (size or 16) / 10
    return TrialResult(
        digest=proposal.recipe.digest(),
        recipe=proposal.recipe.to_dict(),
        status=status,
        final=True,
        metrics={"test/linear_top1": value + noise, "val/linear_top1": 0.0},
        cost={"seconds": seconds, "device_seconds": seconds, "train_seconds": seconds},
        error="lost" if status == "failed" else None,
    )


def play(planner, *, workers=1, limit=None, **curve):
    """Ask and tell with so many trials in flight; the proposals in their order."""
    proposals, running = [], []
    while not planner.finished and len(proposals) != limit:
        while len(running) < workers and (proposal := planner.ask()) is not None:
            proposals.append(proposal)
            running.append(proposal)
        done = running.pop(0)
        planner.tell(done, measured(done, **curve))
    return proposals


def cost_of(proposals):
    return sum(measured(p).cost["device_seconds"] for p in proposals)


def places(proposals):
    return [(p.cell["arm"], p.cell["pool_size"], p.seed) for p in proposals]


def test_it_finds_the_threshold_for_less_than_the_grid_costs(splits):
    planner = build_planner(study_of(splits))
    proposals = play(planner)
    assert planner.stop_reason.startswith("Enough is known")
    assert cost_of(proposals) < 0.8 * 3 * (8 * 1.0 + sum(SIZES) / 10 + 1.6)  # of the grid
    assert len(set(places(proposals))) == len(proposals)
    (verdict,) = planner.designer.known(planner._finished()).verdicts
    assert verdict.kind == "found"
    assert 0.9 * verdict.low < CROSSING < 1.1 * verdict.high
    assert verdict.high < 1.5 * verdict.low


def test_it_starts_with_every_arm_and_matches_seeds(splits):
    first = places(play(build_planner(study_of(splits)), limit=4))
    assert sorted(first, key=str) == [
        ("scratch", None, 0),
        ("simclr", 16, 0),
        ("simclr", 32, 0),
        ("simclr", 8, 0),
    ]


@pytest.mark.parametrize("cut", [2, 5, 9, 14])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_restart_proposes_what_an_uninterrupted_run_would_have(cut, workers, splits):
    study = study_of(splits)
    whole = play(build_planner(study), workers=workers, sd=1.0)
    assert len(whole) > cut + workers
    first = build_planner(study)
    told, running, done = [], [], []
    while len(done) < cut:
        while len(running) < workers:
            running.append(first.ask())
        done.append(running.pop(0))
        told.append(measured(done[-1], sd=1.0))
        first.tell(done[-1], told[-1])
    again = build_planner(study)
    for proposal in [*done, *running]:
        again.adopt(proposal)
    for proposal, result in zip(done, told, strict=True):
        again.tell(proposal, result)
    following = again.ask()
    assert following.recipe == whole[cut + len(running)].recipe
    assert following.why == whole[cut + len(running)].why


@pytest.mark.parametrize("trials", [3, 10])
def test_a_cap_on_trials_holds_and_is_said(trials, splits):
    budget = Budget(trials=trials)
    planner = Capped(build_planner(study_of(splits), budget), budget, lambda p: 1.0, adaptive=True)
    assert len(play(planner, sd=1.5, slope=0.5)) <= trials
    assert "budget" in planner.stop_reason


def test_a_cap_on_device_hours_holds(splits):
    budget = Budget(device_hours=40 / 3600)
    study = study_of(splits)
    planner = Capped(build_planner(study, budget), budget, lambda p: 3.0, adaptive=True)
    proposals = play(planner, sd=1.5)
    spent = cost_of(proposals)
    assert 20 < spent <= 40


@pytest.mark.slow
def test_arms_that_never_differ_end_undetermined_with_a_forecast(splits):
    kinds, reasons = [], []
    for world in range(24):
        planner = build_planner(study_of(splits))
        spent = cost_of(play(planner, slope=0.0, world=world))
        assert spent <= 1.1 * 3 * (8 * 1.0 + sum(SIZES) / 10 + 1.6)
        kinds.append(planner.designer.known(planner._finished()).verdicts[0].kind)
        reasons.append(planner.stop_reason)
    expect_at_least(0.8, [kind == "undetermined" for kind in kinds])
    ends = ("cannot give an interval", "has cost what the grid would")
    expect_at_least(0.8, [any(end in reason for end in ends) for reason in reasons])


def test_a_failed_trial_is_neither_imputed_nor_repeated_with_its_seed(splits):
    planner = build_planner(study_of(splits))
    seen = []
    for _ in range(8):
        proposal = planner.ask()
        seen.append(proposal)
        lost = proposal.cell["pool_size"] == 32
        planner.tell(proposal, measured(proposal, status="failed" if lost else "ok"))
    assert len(set(places(seen))) == 8
    assert len(planner.designer.runs(planner._finished())) == sum(
        p.cell["pool_size"] != 32 for p in seen
    )


def test_a_cell_that_always_fails_is_left_out(splits):
    planner = build_planner(study_of(splits))
    tried = []
    while not planner.finished:
        proposal = planner.ask()
        tried.append(proposal.cell["pool_size"])
        lost = proposal.cell["pool_size"] in (24, 32)
        planner.tell(proposal, measured(proposal, status="failed" if lost else "ok"))
    assert tried.count(24) <= 3
    assert tried.count(32) <= 3


def test_several_methods_share_one_baseline(splits):
    study = study_of(splits)
    both = dataclasses.replace(
        study, axes=dict(study.axes) | {"arm": ("scratch", "simclr", "random")},
        methods=("simclr", "random"),
    )  # fmt: skip
    proposals = play(build_planner(both))
    assert {p.cell["arm"] for p in proposals} == {"scratch", "simclr", "random"}
    assert all(len(p.why["verdicts"]) in (0, 2) for p in proposals)


def test_costs_are_those_that_were_measured():
    images = np.array([[500.0, 500.0], [1000.0, 4000.0]])
    assert fit_costs([], images).tolist() == [[1500.0, 1500.0], [2000.0, 5000.0]]
    rows = [(1, 1000.0, 12.0), (1, 4000.0, 42.0), (0, 500.0, 27.0), (0, 500.0, 27.0)] * 5
    assert fit_costs(rows, images) == pytest.approx(
        np.array([[27.0, 27.0], [12.0, 42.0]]), rel=0.05
    )


@pytest.mark.slow
def test_a_real_search_stores_its_decisions_and_reports_them(splits, tmp_path):
    study = study_of(splits, sizes=(8, 16, 32, 64))
    with open_study(study, tmp_path, command="raysl run test") as directory:
        budget = Budget(trials=7)
        planner = Capped(build_planner(study, budget), budget, lambda p: 1.0, adaptive=True)
        run_locally(Ledger(study, planner, directory), splits)
    stored = [proposal for _, proposal in read_proposals(directory)]
    assert [p.why["reason"] for p in stored[:4]] == ["start: every arm at three sizes"] * 4
    assert all(p.why["gain"] is not None for p in stored[4:])
    report = write_report(directory)
    assert json.loads((directory / "report.json").read_text())["threshold"] is not None
    assert report.answer


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"baseline": None}, "needs a baseline"),
        ({"objective": "silhouette"}, "takes its metric for percent, which silhouette may not be"),
        ({"axes": {"arm": ("simclr", "scratch"), "pool_size": (24,)}}, "at least two sizes"),
        (
            {"axes": {"arm": ("simclr",), "pool_size": (8, 24), "label_size": (16, 20)}},
            "give label_size one value",
        ),
    ],
)
def test_a_study_that_cannot_be_searched_gets_a_sentence(changes, sentence, splits):
    with pytest.raises(ValueError, match=sentence):
        study_of(splits, **changes)


def test_a_goal_that_cannot_be_reached_gets_a_sentence():
    with pytest.raises(ValueError, match="target_ratio must be above 1"):
        Design(target_ratio=1.0)
    with pytest.raises(ValueError, match="margin must not be below 0"):
        Design(margin=-1.0)
