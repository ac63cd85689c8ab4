"""The simulated worlds are what the bars of the threshold benchmark take them for."""

from dataclasses import replace

import numpy as np
import pytest
from grids import fit_power_laws, power_laws, practice
from outcomes import Purchases, answer
from searches import bisection, root_posterior, straddle
from threshold_design import STRATEGIES
from worlds import FINE, GRID, KINDS, SIZES, VARIANTS, grid_cost, make_world, make_worlds

from raysl.analysis.switch import switch_points

FIRST = 50_000  # worlds of these tests: nobody tuned on them


def differences(kind: str, num: int) -> np.ndarray:
    """True baseline minus method of many worlds, for each method.  # [N * M, G]"""
    worlds = make_worlds(kind, num, first=FIRST)
    return np.concatenate([world.curves[:1] - world.curves[1:] for world in worlds])


def residuals(variant: str, *, num: int = 100) -> tuple[np.ndarray, float]:
    """Standardised noise of runs [N, 2] of both arms where neither failed, and the failed share."""
    rows, failed = [], []
    for world in make_worlds("single", num, first=FIRST, variant=variant):
        for size in range(0, len(SIZES), 2):
            for seed in range(10):
                runs = [world.run(arm, size, seed) for arm in (0, 1)]
                failed += [run is None for run in runs]
                if None not in runs:
                    noise = 100 - np.array(runs, dtype=float) - world.errors[:, size]
                    rows.append(noise / world.sd[:, size])
    return np.array(rows), float(np.mean(failed))


@pytest.mark.parametrize("kind", ["single", "misspecified", "two_methods"])
def test_every_method_crosses_once_upwards_at_the_stated_threshold(kind):
    for world in make_worlds(kind, 300, first=FIRST):
        for arm, truth in enumerate(world.truth, start=1):
            ahead = world.curves[arm] < world.curves[0]
            assert truth is not None
            assert np.array_equal(ahead, truth < FINE)
            best = switch_points(np.log(FINE), world.curves[:1] - world.curves[arm])
            assert np.exp(best[0]) == pytest.approx(truth, rel=1e-3)


def test_thresholds_are_spread_evenly_over_the_range_in_log_n():
    for kind in ("single", "misspecified"):
        truths = [world.truth[0] for world in make_worlds(kind, 600, first=FIRST)]
        thirds = np.histogram(np.log(truths), np.linspace(np.log(5e3), np.log(3e5), 4))[0] / 600
        assert np.all(np.abs(thirds - 1 / 3) < 0.07), thirds


def test_without_a_crossing_the_arms_keep_their_distance_and_either_is_ahead():
    found = differences("none", 300)
    smallest = np.abs(found).min(axis=1)
    assert smallest.min() >= 0.4 - 1e-9
    assert smallest.max() <= 3 + 1e-9
    assert np.all(np.sign(found) == np.sign(found[:, :1]))
    assert 0.4 < np.mean(found[:, 0] > 0) < 0.6
    assert all(world.truth == (None,) for world in make_worlds("none", 5, first=FIRST))


def test_double_crossings_have_three_lobes_deeper_than_a_point_and_no_single_truth():
    found = differences("double", 300)
    for difference in found:
        (changes,) = np.nonzero(np.diff(difference > 0))
        assert len(changes) == 2
        assert all(np.abs(lobe).max() > 1 for lobe in np.split(difference, changes + 1))
    assert 0.4 < np.mean(found[:, 0] > 0) < 0.6
    assert all(world.truth == (None,) for world in make_worlds("double", 5, first=FIRST))


def test_power_laws_fit_single_worlds_but_not_misspecified_ones():
    def misfit(kind: str) -> float:
        """Median rms of what the best power law leaves of an arm without noise, points."""
        found = []
        for world in make_worlds(kind, 100, first=FIRST):
            floor, scale, exponent = fit_power_laws(SIZES, world.errors)
            fitted = floor[:, None] + scale[:, None] * (SIZES / SIZES[7]) ** -exponent[:, None]
            found.append(np.sqrt(np.mean((fitted - world.errors) ** 2)))
        return float(np.median(found))

    assert misfit("single") < 0.02
    assert misfit("misspecified") > 0.1


def test_a_run_depends_on_its_arguments_alone():
    world = make_world("single", FIRST, **VARIANTS["outliers"])
    forth = {run: world.run(*run) for run in GRID}
    again = make_world("single", FIRST, **VARIANTS["outliers"])
    assert {run: again.run(*run) for run in reversed(GRID)} == forth
    values = [value for value in forth.values() if value is not None]
    assert len(set(values)) == len(values)
    plain = make_world("single", FIRST)
    assert np.array_equal(plain.curves, world.curves)
    assert not np.array_equal(plain.curves, make_world("single", FIRST + 1).curves)


def test_a_retry_may_succeed_and_then_has_the_value_of_the_first_attempt():
    world = make_world("single", FIRST, failure=0.5)
    sure = make_world("single", FIRST)
    outcomes = [[world.run(0, 3, seed, attempt) for attempt in range(4)] for seed in range(50)]
    for seed, attempts in enumerate(outcomes):
        assert set(attempts) <= {None, sure.run(0, 3, seed)}
    assert any(attempts[0] is None and attempts[1] is not None for attempts in outcomes)


def test_noise_has_the_stated_sd_and_arms_are_independent():
    noise, failed = residuals("plain")
    assert failed == 0
    assert np.abs(noise.mean(axis=0)).max() < 0.05
    assert np.abs(noise.std(axis=0) - 1).max() < 0.04
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.05
    level = np.array([world.sd[:, 0] for world in make_worlds("single", 300, first=FIRST)])
    assert level.min() >= 0.3 * 0.8
    assert level.max() <= 1.25


def test_variants_have_the_rates_and_correlations_of_their_names():
    noise, failed = residuals("correlated pairs")
    assert failed == 0
    assert np.abs(noise.std(axis=0) - 1).max() < 0.04
    assert np.corrcoef(noise.T)[0, 1] == pytest.approx(0.5, abs=0.04)
    _, failed = residuals("failed runs")
    assert failed == pytest.approx(0.15, abs=0.012)
    _, failed = residuals("outliers")
    assert failed == pytest.approx(0.10, abs=0.012)
    clean, dirty = make_world("single", FIRST), make_world("single", FIRST, outlier=0.04)
    worse = np.array([clean.run(1, 4, s) - dirty.run(1, 4, s) for s in range(3000)])
    assert np.mean(worse > 0) == pytest.approx(0.04, abs=0.012)
    assert worse[worse > 0].min() >= 3
    assert worse.max() <= 8
    falling = make_world("single", FIRST, **VARIANTS["heteroscedastic"]).sd
    assert np.allclose(falling[:, 0] / falling[:, -1], 60**0.25)


def test_the_full_grid_costs_four_million_images_and_more_where_the_method_is_dear():
    world = make_world("single", FIRST)
    assert grid_cost(world) == pytest.approx(sum(world.cost[arm, size] for arm, size, _ in GRID))
    assert grid_cost(world) == pytest.approx(4.03e6, rel=0.01)
    dear = make_world("single", FIRST, **VARIANTS["dear method"])
    assert grid_cost(dear) == pytest.approx(2.5 * grid_cost(world))


def test_an_unknown_kind_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="choose one of single, none"):
        make_world("triple", 0)
    assert set(KINDS) == {"single", "none", "misspecified", "double", "two_methods"}


def test_failed_attempts_are_paid_and_the_grid_is_complete_all_the_same():
    worlds = list(make_worlds("single", 40, first=FIRST, variant="failed runs"))
    outcomes = [practice(world) for world in worlds]
    assert all(outcome.runs >= 48 for outcome in outcomes)
    assert np.mean([outcome.cost for outcome in outcomes]) == pytest.approx(1 / 0.85, abs=0.04)
    purchases = Purchases(world=replace(worlds[0], failure=0.7))
    purchases.buy_pair(2)
    assert len(purchases.pairs()[2]) == 1
    assert purchases.spent == pytest.approx(purchases.runs * SIZES[2])


def test_the_power_law_fit_finds_the_best_falling_curve():
    truth = 12 + 20 * (SIZES / SIZES[7]) ** -0.42
    floor, scale, exponent = fit_power_laws(SIZES, truth[None])[:, 0]
    assert (floor, scale, exponent) == pytest.approx((12, 20, 0.42), rel=0.01)
    rng = np.random.default_rng(0)
    wild = rng.normal(0, 10, (200, len(SIZES))) + rng.normal(0, 10, (200, 1))
    floor, scale, exponent = fit_power_laws(SIZES, wild)
    assert scale.min() >= 0
    fitted = floor[:, None] + scale[:, None] * (SIZES / SIZES[7]) ** -exponent[:, None]
    loss = np.sum((fitted - wild) ** 2, axis=1)
    for b in (0.1, 0.5, 1.5):  # no other falling power law is better
        for c in (-10, 0, 10):
            for a in (0, 2, 10):
                other = c + a * (SIZES / SIZES[7]) ** -b
                assert np.all(loss <= np.sum((other - wild) ** 2, axis=1) + 0.05)


def test_without_noise_every_strategy_comes_to_the_truth():
    for world in make_worlds("single", 12, first=FIRST):
        quiet = replace(world, sd=np.zeros_like(world.sd))
        truth = world.truth[0]
        assert power_laws(quiet).point == pytest.approx(truth, rel=0.02)
        assert practice(quiet).low <= truth <= practice(quiet).high
        assert bisection(quiet).low <= truth <= bisection(quiet).high
        assert straddle(quiet).point == pytest.approx(truth, rel=0.05)


def test_bisection_believes_in_a_root_until_pairs_say_otherwise():
    places, masses = root_posterior({})
    assert masses[-2:].sum() == pytest.approx(0.1)
    everywhere_ahead = {size: np.array([3.0, 3.2, 2.9]) for size in (0, 5, 9)}
    places, masses = root_posterior(everywhere_ahead)
    assert masses[-2] > 0.5
    between = {3: np.array([-3.0, -3.2, -2.9]), 6: np.array([3.0, 3.2, 2.9])}
    places, masses = root_posterior(between)
    inside = (places >= np.log(SIZES[3])) & (places <= np.log(SIZES[6]))
    assert masses[inside].sum() > 0.95


def test_claims_follow_the_draws():
    purchases = Purchases(world=make_world("single", FIRST))
    x = np.log(SIZES)

    def claim(*curves: tuple[float, ...]) -> str:
        draws = np.array([np.interp(x, np.linspace(x[0], x[-1], len(c)), c) for c in curves])
        return answer(purchases, x, draws).claim

    assert claim((1.0, 1.0)) == "always"
    assert claim((-1.0, -1.0)) == "never"
    assert claim((-1.0, 1.0)) == "found"
    assert claim((-1.0, 1.0, -1.0)) == "several"
    assert claim((-1.0, 1.0), (1.0, 2.0)) == "undetermined"


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_strategy_answers_within_the_range_and_pays(name):
    for kind in KINDS:
        world = make_world(kind, FIRST, **VARIANTS["outliers"])
        outcome = STRATEGIES[name](world)
        assert STRATEGIES[name](world) == outcome
        ends = SIZES[0] * (1 - 1e-9), outcome.low, outcome.high, SIZES[-1] * (1 + 1e-9)
        assert list(ends) == sorted(ends)
        assert 0 < outcome.cost < 1.6


def test_a_model_reads_the_same_grid_better_than_the_eye():
    worlds = list(make_worlds("single", 60, first=FIRST))
    truths = np.array([world.truth[0] for world in worlds])

    def median_error(outcomes) -> float:
        return float(np.median(np.abs([o.point for o in outcomes] / truths - 1)))

    modelled, read = [power_laws(w) for w in worlds], [practice(w) for w in worlds]
    assert median_error(modelled) < median_error(read)

    def coverage(outcomes) -> float:
        return float(np.mean([o.low <= t <= o.high for o, t in zip(outcomes, truths, strict=True)]))

    assert coverage(modelled) > 0.8
    assert coverage(read) < coverage(modelled)


def test_searches_stop_early_where_nothing_crosses_and_seldom_claim_a_threshold():
    worlds = list(make_worlds("none", 40, first=FIRST))
    for search in (bisection, straddle):
        outcomes = [search(world, budget=0.5, target=1.5) for world in worlds]
        assert np.mean([outcome.claim == "found" for outcome in outcomes]) <= 0.1
        assert np.mean([outcome.cost for outcome in outcomes]) < 0.5
