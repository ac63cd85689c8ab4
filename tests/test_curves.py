"""The curve of one arm: its basis, and closed forms against a dense reference."""

import math

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from raysl.analysis.curves import (
    EXPONENTS,
    HALF_WIDTH,
    LENGTH,
    LOG_WEIGHT_OF_EXPONENTS,
    NUM_SINES,
    TAUS,
    WEIGHT_OF_TAUS,
    Prior,
    Range,
    fit_arm,
    spectral_sds,
)

SPAN = Range(low=math.log(5e3), high=math.log(3e5))
PRIOR = Prior()
SDS = np.array([0.3, 0.6, 1.5])
LEVEL = 25.0


def columns(x, b):
    """E, S, w_1 ... w_5 at the log sizes [N], as the module's docstring writes them [N, 7]."""
    rows = []
    for at in np.asarray(x) - (SPAN.low + SPAN.high) / 2:
        t = 2 * at / (SPAN.high - SPAN.low)
        phi = -at if b == 0 else (math.exp(-b * at) - 1) / b
        angles = [
            math.pi * k * (t + HALF_WIDTH) / (2 * HALF_WIDTH) for k in range(1, NUM_SINES + 1)
        ]
        rows.append([1.0, phi, *(math.sin(angle) / math.sqrt(HALF_WIDTH) for angle in angles)])
    return np.array(rows)


def prior_sds(tau):
    omega = [math.pi * k / (2 * HALF_WIDTH) for k in range(1, NUM_SINES + 1)]
    density = [math.sqrt(2 * math.pi) * LENGTH * math.exp(-((LENGTH * w) ** 2) / 2) for w in omega]
    return np.array([PRIOR.level_sd, PRIOR.slope_sd, *(tau * math.sqrt(q) for q in density)])


def prior_mean():
    return np.array([LEVEL, PRIOR.slope, *[0.0] * NUM_SINES])


def trials(*, num_sizes=5, seeds=2, sd=0.6, rng=0):
    """log sizes and errors [N] of a power law with noise, cells of unequal numbers."""
    rng = np.random.default_rng(rng)
    x = np.repeat(np.linspace(SPAN.low, SPAN.high, num_sizes), seeds)[1:]
    return x, 20 + 8 * np.exp(-0.4 * (x - x.mean())) + rng.normal(0, sd, size=len(x))


def fit(x, error, weight=None, *, sds=SDS):
    weight = np.ones(len(error)) if weight is None else weight
    return fit_arm(x, error, weight, sds=sds, span=SPAN, prior=PRIOR, level=LEVEL)


def dense_posterior(x, error, weight, *, b, tau, sd):
    """Mean [P] and covariance [P, P] of the coefficients."""
    basis, noise = columns(x, b), np.diag(weight / sd**2)
    covariance = np.linalg.inv(basis.T @ noise @ basis + np.diag(prior_sds(tau) ** -2.0))
    residual = error - basis @ prior_mean()
    return prior_mean() + covariance @ basis.T @ noise @ residual, covariance


class TestTheBasis:
    def test_it_is_the_formula_for_every_exponent(self):
        x = np.linspace(SPAN.low - 0.5, SPAN.high + 0.5, 9)
        for i, b in enumerate(EXPONENTS):
            assert SPAN.basis(x)[i] == pytest.approx(columns(x, b), abs=1e-12)

    def test_exponent_zero_is_in_the_grid_or_its_neighbours_are_close_to_the_limit(self):
        x = SPAN.knots
        near = np.argmin(np.abs(EXPONENTS))
        line = -(x - x.mean())
        allowed = abs(EXPONENTS[near]) / 2 * line**2 * np.exp(abs(EXPONENTS[near] * line))
        assert np.all(np.abs(SPAN.basis(SPAN.knots)[near, :, 1] - line) <= allowed + 1e-12)

    def test_every_curve_falls_with_slope_one_at_the_middle(self):
        middle = (SPAN.low + SPAN.high) / 2
        phi = SPAN.basis(np.array([middle - 1e-5, middle, middle + 1e-5]))[:, :, 1]
        assert phi[:, 1] == pytest.approx(np.zeros(len(EXPONENTS)), abs=1e-12)
        assert (phi[:, 2] - phi[:, 0]) / 2e-5 == pytest.approx(-np.ones(len(EXPONENTS)), rel=1e-6)
        assert np.all(np.diff(SPAN.basis(SPAN.knots)[:, :, 1], axis=1) < 0)

    def test_the_steps_of_the_exponent_are_fine_enough(self):
        # Steps of .15 to .3 cost coverage: 72 to 77 % of a claimed 90 %.
        assert np.diff(EXPONENTS).max() <= 0.0851
        assert EXPONENTS[0] < -0.29
        assert EXPONENTS[-1] > 1.39

    def test_a_departure_has_the_size_of_its_tau(self):
        # The sines reproduce the process that they stand for: variance 1 and length 0.5 within.
        psi = SPAN.basis(SPAN.knots)[0, :, 2:]
        covariance = psi @ np.diag(spectral_sds() ** 2) @ psi.T
        t = np.linspace(-1, 1, len(psi))
        wanted = np.exp(-((t[:, None] - t) ** 2) / (2 * LENGTH**2))
        assert np.diag(covariance) == pytest.approx(np.ones(len(t)), abs=0.3)
        assert covariance == pytest.approx(wanted, abs=0.3)

    def test_the_sines_are_orthonormal_over_their_interval(self):
        middle, half = (SPAN.low + SPAN.high) / 2, (SPAN.high - SPAN.low) / 2
        t = np.linspace(-HALF_WIDTH, HALF_WIDTH, 4001)
        psi = SPAN.basis(middle + half * t)[0, :, 2:]
        products = psi.T @ psi * (t[1] - t[0])
        assert products == pytest.approx(np.eye(NUM_SINES), abs=1e-6)


class TestTheFit:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_the_evidence_is_that_of_a_dense_gaussian(self, weighted):
        x, error = trials()
        weight = np.linspace(0.3, 1, len(x)) if weighted else np.ones(len(x))
        fitted = fit(x, error, weight)
        constant = len(x) * math.log(2 * math.pi) / 2 - np.log(weight).sum() / 2
        for i in (0, 3, 10, 20):
            basis = columns(x, EXPONENTS[i])
            for j, tau in enumerate(TAUS):
                for k, sd in enumerate(SDS):
                    spread = basis @ np.diag(prior_sds(tau) ** 2) @ basis.T
                    dense = multivariate_normal.logpdf(
                        error, basis @ prior_mean(), spread + np.diag(sd**2 / weight)
                    )
                    before = LOG_WEIGHT_OF_EXPONENTS[i] + math.log(WEIGHT_OF_TAUS[j])
                    wanted = dense + constant + before
                    assert fitted.log_evidence[i, j, k] == pytest.approx(wanted, abs=1e-6)

    def test_a_flat_arm_has_the_evidence_of_one_unknown_level(self):
        error = np.array([20.0, 21.0, 19.5])
        found = fit(None, error).log_evidence[0, 0]
        for k, sd in enumerate(SDS):
            spread = PRIOR.level_sd**2 + np.diag([sd**2] * 3)
            dense = multivariate_normal.logpdf(error, [LEVEL] * 3, spread)
            assert found[k] == pytest.approx(dense + 1.5 * math.log(2 * math.pi), abs=1e-9)

    def test_the_mean_is_that_of_the_dense_posterior(self):
        x, error = trials()
        weight = np.linspace(0.4, 1, len(x))
        fitted = fit(x, error, weight)
        for i in (0, 7, 20):
            for j, tau in enumerate(TAUS):
                for sd in SDS:
                    whitened = fitted.g[i, j] / sd**2 / (1 + fitted.d[i, j] / sd**2)
                    found = fitted.mean + fitted.scale[j] * (fitted.vectors[i, j] @ whitened)
                    mean, _ = dense_posterior(x, error, weight, b=EXPONENTS[i], tau=tau, sd=sd)
                    assert found == pytest.approx(mean, abs=1e-6)

    def test_an_arm_without_trials_is_its_prior(self):
        fitted = fit(np.array([]), np.array([]))
        _, _, theta = fitted.draw(np.zeros(20_000, dtype=int), np.random.default_rng(0))
        assert theta[:, :2].mean(axis=0) == pytest.approx([LEVEL, PRIOR.slope], abs=1.0)
        assert theta[:, :2].std(axis=0) == pytest.approx([40.0, 8.0], rel=0.03)


class TestTheDraws:
    x, error = trials()
    sd = 0.6

    def drawn(self, num):
        fitted = fit(self.x, self.error, sds=np.array([self.sd]))
        rng = np.random.default_rng(0)
        return fitted, *fitted.draw(np.zeros(num, dtype=int), rng)

    def test_exponents_and_departures_come_as_often_as_their_evidence_says(self):
        fitted, b, t, _ = self.drawn(40_000)
        wanted = np.exp(fitted.log_evidence[:, :, 0] - fitted.log_evidence.max())
        wanted /= wanted.sum()
        found = np.zeros_like(wanted)
        np.add.at(found, (b, t), 1 / 40_000)
        assert found == pytest.approx(wanted, abs=4 * math.sqrt(0.25 / 40_000))
        assert found[wanted < 1e-7].sum() == 0

    def test_coefficients_have_the_moments_of_the_dense_posterior(self):
        _, b, t, theta = self.drawn(60_000)
        keys, counts = np.unique(b * len(TAUS) + t, return_counts=True)
        i, j = divmod(int(keys[np.argmax(counts)]), len(TAUS))  # the likeliest exponent and tau
        own = theta[(b == i) & (t == j)]
        mean, covariance = dense_posterior(
            self.x, self.error, np.ones(len(self.x)), b=EXPONENTS[i], tau=TAUS[j], sd=self.sd
        )
        sds = np.sqrt(np.diag(covariance))
        assert len(own) > 2000
        assert np.all(np.abs(own.mean(axis=0) - mean) < 4 * sds / math.sqrt(len(own)))
        apart = (np.cov(own.T) - covariance) / np.outer(sds, sds)
        assert np.abs(apart).max() < 5 / math.sqrt(len(own))


def test_a_prior_without_noise_is_refused():
    with pytest.raises(ValueError, match="sd of the noise must be a number above 0, not 0"):
        Prior(sd=0.0)
    with pytest.raises(ValueError, match="not nan"):
        Prior(sd=math.nan)
