"""The bars that a search for a threshold is held to, on simulated worlds that nobody tuned on.

Numbers and bars from section 8 of the threshold method. Errors are relative errors of n*; compute
is in full grids of 8 sizes with 3 seeds in both arms. One run of 400 worlds serves most bars.

A search is chaotic: rounding on another machine may change which trial is bought next, and so all
that follow, so that each machine sees another sample of about the same rate. A claim about a rate
or a median therefore fails where the worlds contradict it at level 0.5 %, not where their sample
is just beyond the bar; `benchmarks/threshold_design.py` measures the rates themselves. Caught with
a probability of 90 %: a true 77 % where at least 85 % are claimed of 400 worlds, 73 % of 200, 68 %
of 100; 7.5 % where at most 3 % of 400; a median of 10.6 % where at most 7.5 % of 400.
"""

from functools import partial

import numpy as np
import pytest
from cores import all_cores
from grids import power_laws
from ours import Answer, Study, buy, search
from scipy import stats
from significance import (
    LEVEL,
    expect_at_least,
    expect_at_most,
    expect_median_at_most,
    expect_median_no_larger,
)
from simulated import figure_8
from worlds import SIZES, World, grid_cost, make_worlds

from raysl.analysis.threshold import find_threshold
from raysl.study.design import Design, Designer

FIRST = 60_000
BUDGETS = (0.25, 1 / 3)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def on_cores():
    with all_cores() as each:
        yield each


@pytest.fixture(scope="module")
def run(on_cores):
    """Worlds and, for each, the answers of `search` by budget and method."""

    def worlds_and_answers(kind: str, num: int, *, variant: str = "plain", **options):
        worlds = list(make_worlds(kind, num, first=FIRST, variant=variant))
        return worlds, on_cores(partial(search, **options), worlds)

    return worlds_and_answers


def column(answers: list, budget: int, method: int = 0) -> list[Answer]:
    return [by_budget[budget][method] for by_budget in answers]


def errors(worlds: list[World], found: list, method: int = 0) -> np.ndarray:
    truths = np.array([world.truth[method] for world in worlds])
    return np.abs(np.array([answer.point for answer in found]) / truths - 1)


def covered(worlds: list, intervals: list[tuple[float, float]], method: int = 0) -> list[bool]:
    """Whether each interval holds the truth."""
    return [
        low * 0.9999 <= world.truth[method] <= high * 1.0001
        for world, (low, high) in zip(worlds, intervals, strict=True)
    ]


def credible(found: list[Answer]) -> list[tuple[float, float]]:
    return [answer.credible for answer in found]


def reported(found: list[Answer]) -> list[tuple[float, float]]:
    return [(answer.low, answer.high) for answer in found]


def claims(found: list[Answer], *kinds: str) -> list[bool]:
    return [answer.claim in kinds for answer in found]


@pytest.fixture(scope="module")
def single(run):
    return run("single", 400, budgets=BUDGETS)


def test_1_the_interval_covers_as_often_as_it_says(single):
    worlds, answers = single
    found = column(answers, 1)
    expect_at_least(0.85, covered(worlds, credible(found)))
    expect_at_most(0.95, covered(worlds, credible(found)))
    expect_at_least(0.85, covered(worlds, reported(found)))


def test_2_a_third_of_the_compute_is_as_accurate_as_the_full_grid_analysed_well(single, on_cores):
    worlds, answers = single
    grid = errors(worlds, on_cores(power_laws, worlds))
    expect_median_no_larger(errors(worlds, column(answers, 1)), grid)


def test_2_in_pairs_two_fifths_are_enough(run, on_cores):
    worlds, answers = run("single", 200, budgets=(0.4,), design=Design(pair_from=-1))
    grid = errors(worlds, on_cores(power_laws, worlds))
    expect_median_no_larger(errors(worlds, column(answers, 0)), grid)


def test_3_the_median_error_falls_below_9_and_7_5_percent(single):
    worlds, answers = single
    expect_median_at_most(0.09, errors(worlds, column(answers, 0)))
    expect_median_at_most(0.075, errors(worlds, column(answers, 1)))


def test_budgets_are_kept(single):
    for by_budget in single[1]:
        for budget, (answer,) in zip(BUDGETS, by_budget, strict=True):
            assert answer.cost < budget


def test_4_where_there_is_no_crossing_none_is_found_and_little_is_spent(run):
    worlds, answers = run("none", 200, budgets=(0.5,), stop=True)
    found = column(answers, 0)
    ahead = [world.curves[1, 0] < world.curves[0, 0] for world in worlds]
    right = [
        answer.claim == ("always" if is_ahead else "never")
        for answer, is_ahead in zip(found, ahead, strict=True)
    ]
    expect_at_most(0.03, claims(found, "found", "several"))
    expect_at_least(0.85, right)
    costs = [answer.cost for answer in found]
    assert stats.ttest_1samp(costs, 0.25, alternative="greater").pvalue >= LEVEL


def test_5_no_crossing_is_seldom_claimed_where_there_is_one(single):
    for budget in range(len(BUDGETS)):
        expect_at_most(0.03, claims(column(single[1], budget), "always", "never"))


def test_6_two_crossings_are_flagged_and_one_is_not(single, run):
    _, answers = run("double", 120, budgets=(0.25,))
    expect_at_least(0.80, claims(column(answers, 0), "several"))
    expect_at_most(0.08, claims(column(single[1], 0), "several"))


def test_7_curves_that_no_power_law_describes_are_covered(run):
    worlds, answers = run("misspecified", 100)
    expect_at_least(0.82, covered(worlds, credible(column(answers, 0))))


def test_8_failed_runs_and_outliers_are_survived(run):
    worlds, answers = run("single", 150, variant="outliers")
    found = column(answers, 0)
    expect_at_least(0.82, covered(worlds, credible(found)))
    expect_median_at_most(0.12, errors(worlds, found))


def test_9_eight_workers_lose_little_against_four(single, run):
    worlds, answers = single
    _, eight = run("single", 150, workers=8)
    four = errors(worlds[:150], column(answers, 1)[:150])
    expect_median_no_larger(errors(worlds[:150], column(eight, 0)), 1.25 * four)


def test_10_the_golden_case_is_read_as_expected():
    threshold = find_threshold(figure_8(), assume_sd=0.5)
    assert 58_000 < threshold.point < 64_000
    assert 45_000 < threshold.low < 57_000
    assert threshold.low > 50_000 or threshold.interval_text().startswith("below 50,000")
    assert 65_000 < threshold.high < 75_000
    assert 0.6 < sum(mass for _, to, mass in threshold.places if to < 65_500) < 0.8
    said = " ".join(threshold.notes)
    assert "assumed, not measured: each cell has one seed" in said
    assert "Nothing is claimed outside 50,000 to 100,000" in said
    assert threshold.noise.source == "assumed"


def test_11_the_interval_covers_where_the_rule_stops(run):
    worlds, answers = run("single", 200, budgets=(0.5,), stop=True)
    found = column(answers, 0)
    expect_at_least(0.86, covered(worlds, reported(found)))
    expect_at_most(0.03, claims(found, "always", "never"))


def test_a_restart_goes_on_with_the_same_trial():
    for world in make_worlds("single", 5, first=FIRST, variant="outliers"):
        study = Study(world=world, designer=Designer(SIZES, [False, False], Design()))
        buy(study, 0.15 * grid_cost(world), workers=3, asynchronous=True, stop=False)
        before, after = study.designer, Designer(SIZES, [False, False], Design())
        for running in ([], study.proposed[-1:]):
            finished = [o for o in study.finished if o.candidate not in running]
            again = after.choose(list(finished), running, study.costs)
            assert again == before.choose(finished, running, study.costs)
            assert again is not None


def test_workers_that_ask_one_by_one_are_as_honest(run):
    worlds, answers = run("single", 100, budgets=(0.2,), asynchronous=True)
    expect_at_least(0.85, covered(worlds, credible(column(answers, 0))))


def test_two_methods_share_a_baseline_and_each_is_covered(run):
    worlds, answers = run("two_methods", 100, budgets=(0.2,))
    for method in (0, 1):
        found = column(answers, 0, method)
        expect_at_least(0.85, covered(worlds, credible(found), method))
