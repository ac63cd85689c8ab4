"""All arms together: noise that they share, falling curves, outliers."""

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from raysl.analysis.curves import (
    EXPONENTS,
    LOG_WEIGHT_OF_EXPONENTS,
    LOG_WEIGHT_OF_SHIFTS,
    NOISE_FACTORS,
    SHIFTS,
    STEP,
    TAUS,
    WEIGHT_OF_TAUS,
    Prior,
    Range,
    Runs,
    spectral_sds,
)
from raysl.analysis.posterior import FALLING, draw, fit, mean_curve, own_sd, residuals

SPAN = Range(low=math.log(5e3), high=math.log(3e5))
PRIOR = Prior()


def power_law(x, level, slope, b=0.4):
    return level + slope * np.expm1(-b * (x - (SPAN.low + SPAN.high) / 2)) / b


def make_runs(*, curves, sds, num_sizes=6, seeds=3, rng=0, offset=50):
    """Trials of arms with the (level, slope) `curves`; offset apart are the seeds of the arms."""
    rng = np.random.default_rng(rng)
    x = np.repeat(np.linspace(SPAN.low, SPAN.high, num_sizes), seeds)
    seed = np.tile(np.arange(seeds), num_sizes)
    arms = [
        Runs(
            np.full(len(x), number),
            x,
            seed + offset * number,
            power_law(x, *curve) + rng.normal(0, sd, size=len(x)),
        )
        for number, (curve, sd) in enumerate(zip(curves, sds, strict=True))
    ]
    return join(arms)


def join(parts):
    return Runs(
        np.concatenate([part.arm for part in parts]),
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.seed for part in parts]),
        np.concatenate([part.error for part in parts]),
    )


def posterior_of(runs, **options):
    return fit(runs, [False] * (int(runs.arm.max()) + 1), SPAN, PRIOR, **options)


def log_likelihood(x, error, *, sd, level):
    """Of one arm's trials [N] given the sd of one, exponents and departures averaged."""
    found = []
    for i, b in enumerate(EXPONENTS):
        basis = SPAN.basis(x)[i]
        for tau, weight in zip(TAUS, WEIGHT_OF_TAUS, strict=True):
            scale = np.array([PRIOR.level_sd, PRIOR.slope_sd, *(tau * spectral_sds())])
            mean = basis[:, 0] * level + basis[:, 1] * PRIOR.slope
            spread = (basis * scale**2) @ basis.T + sd**2 * np.eye(len(x))
            dense = multivariate_normal.logpdf(error, mean, spread)
            found.append(dense + LOG_WEIGHT_OF_EXPONENTS[i] + math.log(weight))
            assert b == EXPONENTS[i]
    return np.logaddexp.reduce(found)


class TestTheNoise:
    def test_its_posterior_is_the_product_over_the_arms_each_with_an_own_factor(self):
        runs = make_runs(curves=[(30, 5), (28, 7)], sds=[0.4, 0.8], num_sizes=3, seeds=2)
        runs = Runs(runs.arm, runs.x, np.arange(len(runs)), runs.error)  # no seed twice
        posterior = posterior_of(runs, robust=False)
        level = runs.error.mean()
        sds = PRIOR.sd * NOISE_FACTORS
        wide = PRIOR.sd * STEP ** np.arange(-5 + SHIFTS[0], 10 + SHIFTS[-1])
        log_posterior = -((np.log(sds / PRIOR.sd) / PRIOR.sd_spread) ** 2) / 2
        for arm in (0, 1):
            own = runs.select(runs.arm == arm)
            evidence = [log_likelihood(own.x, own.error, sd=sd, level=level) for sd in wide]
            shifted = [
                np.array(evidence[i : i + len(sds)]) + LOG_WEIGHT_OF_SHIFTS[i]
                for i in range(len(SHIFTS))
            ]
            log_posterior = log_posterior + np.logaddexp.reduce(shifted)
        wanted = np.exp(log_posterior - np.logaddexp.reduce(log_posterior))
        assert posterior.sd_weights == pytest.approx(wanted, abs=1e-9)
        assert posterior.sd == pytest.approx(wanted @ sds)

    def test_it_is_found_where_there_are_repetitions(self):
        found = []
        for number in range(20):
            runs = make_runs(curves=[(30, 5), (28, 7)], sds=[0.8, 0.8], rng=number)
            found.append(posterior_of(runs).sd)
        assert np.mean(found) == pytest.approx(0.8, rel=0.1)

    def test_each_arm_has_a_noise_of_its_own(self):
        runs = make_runs(curves=[(30, 5), (28, 7)], sds=[0.3, 0.9], seeds=4)
        posterior = posterior_of(runs)
        drawn = draw(posterior, 2000, np.random.default_rng(0))
        for arm, sd in enumerate((0.3, 0.9)):
            assert own_sd(posterior, arm) == pytest.approx(sd, rel=0.35)
            assert drawn.sds[arm].mean() == pytest.approx(own_sd(posterior, arm), rel=0.05)

    def test_an_assumed_noise_is_not_changed_by_the_trials(self):
        runs = make_runs(curves=[(30, 5), (28, 7)], sds=[2.0, 0.1])
        posterior = fit(runs, [False, False], SPAN, Prior(sd=0.5, sd_spread=0.0))
        assert posterior.sd == own_sd(posterior, 0) == own_sd(posterior, 1) == 0.5
        assert np.all(draw(posterior, 50, np.random.default_rng(0)).sds == 0.5)


class TestFallingCurves:
    def test_slopes_below_zero_are_drawn_again_and_counted(self):
        runs = make_runs(curves=[(30, 0.15), (28, 7)], sds=[0.8, 0.8], rng=2)
        drawn = draw(posterior_of(runs), 3000, np.random.default_rng(0))
        assert 0.05 < drawn.rejected[0] <= FALLING
        assert drawn.rejected[1] == 0
        assert all(np.all(theta[:, 1] >= 0) for theta in drawn.coefficients)

    def test_an_arm_that_gets_worse_with_more_images_is_left_to(self):
        runs = make_runs(curves=[(30, -3), (28, 7)], sds=[0.5, 0.5])
        drawn = draw(posterior_of(runs), 1000, np.random.default_rng(0))
        assert drawn.rejected[0] > 0.99
        assert np.median(drawn.coefficients[0][:, 1]) == pytest.approx(-3, abs=0.5)


class TestOutliers:
    def with_outlier(self, by):
        runs = make_runs(curves=[(30, 5), (28, 7)], sds=[0.5, 0.5])
        error = runs.error.copy()
        error[-1] += by  # of the second arm, at the largest size
        return Runs(runs.arm, runs.x, runs.seed, error)

    def end(self, posterior):
        return mean_curve(posterior, 1, np.array([SPAN.high]))[0]

    def test_one_counts_for_less(self):
        clean, dirty = self.with_outlier(0), self.with_outlier(6)
        truth = self.end(posterior_of(clean, robust=False))
        pulled = self.end(posterior_of(dirty, robust=False)) - truth
        weighted = posterior_of(dirty)
        assert pulled > 0.8
        assert abs(self.end(weighted) - truth) < pulled / 2
        assert weighted.weight[-1] < 0.3
        assert weighted.weight[:-1].min() > 0.5

    def test_it_does_not_swell_the_noise(self):
        clean, dirty = self.with_outlier(0), self.with_outlier(6)
        usual = posterior_of(clean).sd
        assert posterior_of(dirty, robust=False).sd > 1.4 * usual
        assert posterior_of(dirty).sd < 1.15 * usual

    def test_without_outliers_no_trial_is_weighted(self):
        """In at least 85 % of studies: weights that are always on cost coverage."""
        untouched = []
        for number in range(60):
            sd = np.random.default_rng(number).uniform(0.3, 1.0)
            runs = make_runs(curves=[(30, 5), (28, 7)], sds=[sd, sd], rng=number)
            untouched.append(np.all(posterior_of(runs).weight == 1))
        assert np.mean(untouched) >= 0.85

    def test_a_noisy_arm_beside_a_quiet_one_is_no_outlier(self):
        untouched = []
        for number in range(40):
            runs = make_runs(curves=[(30, 5), (28, 7)], sds=[0.2, 1.0], rng=number)
            untouched.append(np.all(posterior_of(runs).weight == 1))
        assert np.mean(untouched) >= 0.85

    def test_residuals_are_in_sds_of_a_trial_of_their_arm(self):
        runs = make_runs(curves=[(30, 5), (28, 7)], sds=[0.3, 0.9], seeds=8)
        z = residuals(posterior_of(runs))
        assert [z[runs.arm == arm].std() for arm in (0, 1)] == pytest.approx([1, 1], abs=0.2)
