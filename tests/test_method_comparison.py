"""Comparing methods: equal budgets, every arm built beforehand, and an answer with its odds."""

from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np
import optuna
import pytest
import timm
import torch

from raysl.analysis.analyse import analyse
from raysl.analysis.report import write_report
from raysl.data.digest import file_hash
from raysl.methods import METHODS
from raysl.result import TrialResult
from raysl.study.ledger import Ledger, open_study, read_study
from raysl.study.load import load_module
from raysl.study.planners import build_planner
from raysl.study.results import load_results

FILE = load_module(Path(__file__).parents[1] / "studies" / "method_comparison.py")
LEVELS = {"simclr": 90.0, "vicreg": 89.9, "byol": 80.0, "rotation": 60.0, "scratch": 80.0}


def small(**arguments):
    return FILE.study(**{**FILE.small(), **arguments})


def play(study, directory, *, sd=0.5, slope=0.0):
    """Run the study on known levels in place of training; its proposals, and what they say."""
    rng = np.random.default_rng(0)
    proposals = []
    with open_study(study, directory, command="test") as folder:
        ledger = Ledger(study, build_planner(study), folder, retries=0)
        while not ledger.finished:
            proposal = ledger.next()
            proposals.append(proposal)
            size = proposal.cell["pool_size"]
            value = LEVELS.get(proposal.cell["arm"], 50.0) + sd * rng.standard_normal()
            value += slope * np.log((size or 256) / 256)
            ledger.record(
                proposal,
                TrialResult(
                    digest=proposal.recipe.digest(),
                    recipe=proposal.recipe.to_dict(),
                    status="ok",
                    final=proposal.final,
                    metrics={"val/linear_top1": value, "test/linear_top1": value},
                ),
            )
        return proposals, analyse(read_study(folder), load_results(folder))


def test_every_trained_arm_gets_the_same_number_of_search_trials(tmp_path):
    study = small(trials=3)
    proposals, _ = play(study, tmp_path)
    searched = Counter(p.cell["arm"] for p in proposals if p.phase == "search")
    trained = {arm for arm in study.axes["arm"] if METHODS[arm].trains_on != "nothing"}
    assert searched == dict.fromkeys(trained, 3)
    assert "scratch" in trained
    confirmed = Counter(p.cell["arm"] for p in proposals if p.phase == "confirm")
    assert confirmed == dict.fromkeys(study.axes["arm"], 2)
    assert all(p.final == (p.phase == "confirm") for p in proposals)


@pytest.mark.parametrize("arm", [n for n, m in METHODS.items() if m.trains_on != "nothing"])
def test_every_arm_searches_two_parameters_around_its_own_default(arm):
    space = FILE.Space()
    trial = optuna.create_study().ask()
    chosen = space(trial, {"arm": arm})
    assert len(chosen) == 2
    lr, usual = trial.distributions["optim.lr"], METHODS[arm].optim.lr
    assert lr.low * lr.high == pytest.approx(usual**2)
    for path in chosen:
        if path.startswith("method."):
            assert path.removeprefix("method.") in {f.name for f in fields(METHODS[arm].Config)}
            for value in (trial.distributions[path].low, trial.distributions[path].high):
                METHODS[arm].Config(**{path.removeprefix("method."): value})  # is allowed


def test_the_space_names_methods_that_exist():
    assert set(FILE.KEYS) <= set(METHODS)


@pytest.mark.slow
def test_one_size_is_answered_by_a_ranking_with_odds_and_claims(tmp_path):
    study = small(seeds=4)
    play(study, tmp_path)
    report = write_report(tmp_path / study.name)
    assert "VICReg and SimCLR cannot be told apart by more than 0.5 points" in report.answer
    assert "Probability to be the best: VICReg 0." in report.answer
    assert "Shown to beat scratch (5 claims, Holm" in report.answer
    assert report.answer.endswith("SimCLR at 256; VICReg at 256.")
    assert "threshold" not in report.answer
    (comparison,) = report.content["comparisons"]
    (ranking,) = comparison["rankings"]
    assert ranking["groups"][0] == ["vicreg", "simclr"]
    assert sum(s["p_best"] for s in ranking["standings"]) == pytest.approx(1)
    names = {Path(figure).stem for figure in report.content["figures"]}
    assert "ranking-256" in names
    assert not {name for name in names if name.startswith(("curves", "difference"))}


def test_several_sizes_are_answered_by_thresholds_and_the_ranking_at_the_largest(tmp_path):
    study = small(methods=("simclr", "byol"), sizes=(64, 128, 256), seeds=3)
    assert study.methods == ("simclr", "byol")
    _, analysis = play(study, tmp_path, sd=0.2, slope=8.0)
    assert [c.threshold.arm for c in analysis.comparisons] == ["simclr", "byol"]
    for comparison in analysis.comparisons:
        assert comparison.threshold.sentence() in analysis.answer
    assert "At 256 unlabelled images SimCLR is ahead of" in analysis.answer
    assert analysis.answer.count("At 256 unlabelled images") == 1


def test_without_repeated_seeds_the_answer_says_why_there_is_no_ranking(tmp_path):
    _, analysis = play(small(methods=("simclr", "vicreg"), seeds=1), tmp_path)
    assert analysis.answer.startswith("No ranking: The seed noise cannot be measured")


def test_each_method_has_its_own_encoder_or_all_have_one():
    own = small(methods=("simclr", "mae"))
    used = {c["arm"]: own.recipe(c, {}, 0).encoder for c in own.cells()}
    assert used == {arm: METHODS[arm].encoder_config for arm in used}
    assert used["mae"].name != used["simclr"].name
    one = small(methods=("simclr", "mae"), encoder="vit")
    assert {one.recipe(c, {}, 0).encoder.name for c in one.cells()} == {"vit"}


def test_an_override_of_the_encoder_reaches_all_arms_that_share_it():
    study = small(methods=("simclr", "byol", "mae")).with_overrides({"encoder.width": 8})
    widths = {cell["arm"]: study.recipe(cell, {}, 0).encoder.width for cell in study.cells()}
    vit = METHODS["mae"].encoder_config
    assert widths == dict.fromkeys(("simclr", "byol", "scratch", "random"), 8) | {"mae": vit.width}


def test_an_arm_that_does_not_fit_says_so_before_anything_is_spent():
    with pytest.raises(ValueError, match=r"^mae: .*needs .* not 'convnet'.* Or leave mae out\.$"):
        small(methods=("simclr", "mae"), encoder="convnet")
    with pytest.raises(ValueError, match="pretrained: There is no file"):
        small(public="resnet10t", weights="nowhere.pt")
    with pytest.raises(ValueError, match="name it, such as public=resnet18"):
        small(weights="nowhere.pt")
    with pytest.raises(ValueError, match="names scratch, which does not pretrain"):
        small(methods=("scratch",))
    with pytest.raises(ValueError, match="did you mean 'simclr'"):
        small(methods=("simcrl",))


def test_public_weights_and_another_data_set_join_as_baselines(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(timm.create_model("resnet10t").state_dict(), path)
    study = small(
        methods=("simclr",), public="resnet10t", weights=str(path), source="sklearn:digits"
    )
    recipes = {c["arm"]: study.recipe(c, {}, 0) for c in study.cells()}
    assert set(recipes) == {"simclr", "scratch", "random", "pretrained", "supervised_source"}
    assert recipes["pretrained"].method.digest == file_hash(path)[:16]
    assert recipes["pretrained"].views.size == 224
    assert recipes["supervised_source"].method.digest == study.base.dataset
    assert study.methods == ("simclr",)  # the others are beaten or not, and have no threshold


def test_all_means_every_method_that_pretrains_on_the_pool():
    assert set(FILE.chosen_methods(("all",))) == {
        name for name, method in METHODS.items() if method.trains_on == "pool"
    }
