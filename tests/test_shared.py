"""What the trials of a seed share: how much it is, and draws that know of it."""

import math

import numpy as np
import pytest
from test_posterior import PRIOR, SPAN, join, make_runs

from raysl.analysis.curves import TAUS, Runs, fit_arm, spectral_sds
from raysl.analysis.posterior import draw, fit
from raysl.analysis.shared import Arms, Given, draw_jointly, has_shared_seeds

NUM_DRAWS = 40_000


def few_trials(rng=0):
    """Of an arm with sizes and of a flat one, with three seeds in common."""
    rng = np.random.default_rng(rng)
    x = np.array([SPAN.low, SPAN.low, SPAN.high, SPAN.high, math.nan, math.nan, math.nan])
    return Runs(
        np.array([0, 0, 0, 0, 1, 1, 1]),
        x,
        np.array([3, 5, 3, 7, 3, 5, 7]),
        rng.normal(25, 3, size=7),
    )


def shift(runs, sd, rng=9):
    """The trials with an amount added that all of a seed share."""
    effects = np.random.default_rng(rng).normal(0, sd, size=100)
    return Runs(runs.arm, runs.x, runs.seed, runs.error + effects[runs.seed])


class TestTheJointDraws:
    @pytest.mark.parametrize(("shared_sd", "own_sd"), [(0.7, 0.0), (4.0, 0.0), (0.7, 1.3)])
    def test_they_are_the_exact_conditional_gaussian(self, shared_sd, own_sd):
        runs, weight = few_trials(), np.array([1.0, 1.0, 0.5, 1.0, 1.0, 0.7, 1.0])
        sds, i, j = (0.5, 0.9), 8, 1  # noise of the arms, exponent, departure
        fits = tuple(
            fit_arm(
                None if arm else runs.x[runs.arm == arm],
                runs.error[runs.arm == arm],
                weight[runs.arm == arm],
                sds=np.array([sds[arm]]),
                span=SPAN,
                prior=PRIOR,
                level=25.0,
            )
            for arm in (0, 1)
        )
        given = Given(
            [np.full(NUM_DRAWS, i), np.zeros(NUM_DRAWS, dtype=int)],
            [np.full(NUM_DRAWS, j), np.zeros(NUM_DRAWS, dtype=int)],
            np.repeat(np.array(sds)[:, None], NUM_DRAWS, axis=1),
            np.full(NUM_DRAWS, shared_sd),
            np.full(NUM_DRAWS, own_sd),
        )
        thetas, parts = draw_jointly(
            Arms(runs=runs, span=SPAN, weight=weight, fits=fits),
            given,
            np.random.default_rng(0),
            [np.zeros((NUM_DRAWS, 7)), np.zeros((NUM_DRAWS, 1))],
        )
        keys = [(None, s) for s in (3, 5, 7)] + [(0, s) for s in (3, 5, 7) if own_sd]
        found = np.column_stack([*thetas, *(parts[key] for key in keys)])  # [J, 7 + 1 + 3 (+ 3)]
        design = np.zeros((7, found.shape[1]))
        design[:4, :7] = SPAN.basis(runs.x[:4])[i]
        design[4:, 7] = 1
        design[:, 8:11] = runs.seed[:, None] == np.array([3, 5, 7])
        design[:4, 11:] = design[:4, 8 : 8 + design.shape[1] - 11]
        before = np.zeros(found.shape[1])
        before[[0, 1, 7]] = 25.0, PRIOR.slope, 25.0
        own = np.array([PRIOR.level_sd, PRIOR.slope_sd, *(TAUS[j] * spectral_sds())])
        of_parts = [*[shared_sd] * 3, *[own_sd] * (len(keys) - 3)]
        prior_sds = np.array([*own, PRIOR.level_sd, *of_parts])
        noise = np.diag(weight / np.array(sds)[runs.arm] ** 2)
        covariance = np.linalg.inv(design.T @ noise @ design + np.diag(prior_sds**-2))
        mean = before + covariance @ design.T @ noise @ (runs.error - design @ before)
        sd = np.sqrt(np.diag(covariance))
        assert np.abs((found.mean(axis=0) - mean) / sd).max() < 5 / math.sqrt(NUM_DRAWS)
        apart = (np.cov(found.T) - covariance) / np.outer(sd, sd)
        assert np.abs(apart).max() < 6 / math.sqrt(NUM_DRAWS)

    def test_where_nothing_is_shared_the_coefficients_stay_as_they_were(self):
        runs = few_trials()
        posterior = fit(runs, [False, True], SPAN, PRIOR)
        half = NUM_DRAWS // 2
        old = [np.ones((NUM_DRAWS, 7)), np.ones((NUM_DRAWS, 1))]
        given = Given(
            [np.zeros(NUM_DRAWS, dtype=int)] * 2,
            [np.zeros(NUM_DRAWS, dtype=int)] * 2,
            np.ones((2, NUM_DRAWS)),
            np.repeat([0.0, 1.0], half),
            np.zeros(NUM_DRAWS),
        )
        thetas, parts = draw_jointly(posterior.joint, given, np.random.default_rng(0), old)
        assert all(np.all(theta[:half] == 1) for theta in thetas)
        assert all(np.all(theta[half:] != 1) for theta in thetas)
        assert all(np.all(part[:half] == 0) for part in parts.values())
        assert list(parts) == [(arm, seed) for arm in (None, 0) for seed in (3, 5, 7)]


class TestHowMuchIsShared:
    def studies(self, sd, num=12):
        for number in range(num):
            runs = make_runs(
                curves=[(30, 5), (28, 7)], sds=[0.5, 0.5], seeds=4, rng=number, offset=0
            )
            yield fit(shift(runs, sd, rng=number + 100), [False, False], SPAN, PRIOR)

    def test_nothing_where_there_is_nothing(self):
        found = list(self.studies(0.0))
        assert np.median([p.share_weights[0, 0] for p in found]) > 0.9
        assert np.median([p.correlation for p in found]) < 0.05

    @pytest.mark.parametrize("sd", [1.0, 3.0])
    def test_its_size_where_it_is_large(self, sd):
        found = list(self.studies(sd))
        assert max(p.share_weights[0, 0] for p in found) < 0.02
        assert np.median([p.shared_sd for p in found]) == pytest.approx(sd, rel=0.45)
        assert np.median([p.sd for p in found]) == pytest.approx(0.5, rel=0.15)

    def test_its_estimate_of_each_seed_is_what_was_added(self):
        runs = make_runs(curves=[(30, 5), (28, 7)], sds=[0.3, 0.3], seeds=4, offset=0)
        moved = shift(runs, 3.0)
        added = moved.error - runs.error
        drawn = draw(fit(moved, [False, False], SPAN, PRIOR), 2000, np.random.default_rng(0))
        for seed in range(4):
            others = drawn.parts[None, seed] - sum(drawn.parts[None, s] for s in range(4)) / 4
            wanted = added[moved.seed == seed][0] - np.mean(
                [added[moved.seed == s][0] for s in range(4)]
            )
            assert np.median(others) == pytest.approx(wanted, abs=0.2)

    def test_it_cancels_in_the_difference_of_the_arms_and_not_in_either(self):
        runs = shift(make_runs(curves=[(30, 5), (28, 7)], sds=[0.3, 0.3], offset=0), 3.0)
        drawn = draw(fit(runs, [False, False], SPAN, PRIOR), 2000, np.random.default_rng(0))
        arms = [drawn.errors(arm)[:, 50] for arm in (0, 1)]
        assert min(arm.std() for arm in arms) > 0.7
        assert (arms[0] - arms[1]).std() < 0.2


class TestWhereItCannotBeMeasured:
    def test_one_seed_or_no_seed_twice(self):
        runs = few_trials()
        assert has_shared_seeds(runs)
        assert not has_shared_seeds(runs.select(runs.seed == 3))
        apart = Runs(runs.arm, runs.x, np.arange(len(runs)), runs.error)
        assert not has_shared_seeds(apart)
        posterior = fit(apart, [False, True], SPAN, PRIOR)
        assert posterior.shared_sd == posterior.correlation == 0
        assert draw(posterior, 10, np.random.default_rng(0)).parts == {}

    def test_trials_of_many_arms_are_one_study(self):
        first = make_runs(curves=[(30, 5), (28, 7)], sds=[0.5, 0.5], offset=0)
        third = make_runs(curves=[(26, 6)], sds=[0.5], rng=5)
        runs = shift(join([first, Runs(third.arm + 2, third.x, third.seed, third.error)]), 3.0)
        posterior = fit(runs, [False] * 3, SPAN, PRIOR)
        assert posterior.correlation > 0.8
        assert len(draw(posterior, 100, np.random.default_rng(0)).coefficients) == 3
