"""The difference of two arms as a smooth surface over pool size and label size.

With t the log of a size scaled to [-1, 1], a trial of seed s at pool size p and label size l has

    y_baseline = g_l           + r_l (v_ls + e)
    y_arm      = g_l + D(p, l) + r_l (v_ls + u_ps + e),     r_l = exp(-fall t_l)

g is the baseline, free in each of its cells. v is what the labels of a seed do to both arms, so it
cancels in D. u is a seed's pretraining, which all label sizes share. e is the rest. D is a plane
with a twist and a Gaussian process (squared exponential) on top. Given the scales everything is
Gaussian and in closed form; the scales, uncertain themselves with few seeds, are drawn from their
posterior by importance resampling around its maximum.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize

from raysl.analysis.switch import Array

# Log-normal priors (median, log sd): the sd of e, v and u over the pooled sd of the cells; the sd
# of the process over the spread of D; its length in t. Fall, the last, is normal around 0.
PRIOR_MEDIAN = np.array([0.7, 0.5, 0.5, 0.2, 0.9])
PRIOR_SD = np.array([0.7, 1.0, 1.0, 0.8, 0.35, 0.5])
BASELINE_SD = 30.0  # of g around the baseline's mean, in spreads: flat in effect
PLANE_SD = (3.0, 2.0, 2.0, 1.0)  # of D's level, two slopes and twist, in spreads
WIDER = 1.3  # the sd of the proposal of the scales over that of their Gaussian approximation
NUM_PROPOSED, NUM_SCALES = 200, 40  # drawn, and kept by their weight
LIMIT = 5.0  # prior sds at which the scales' priors end
STEP = 0.1  # of the finite differences, in prior sds
FLOOR = 0.01  # of the sd of e, in noises: keeps every matrix positive definite


@dataclass(frozen=True, kw_only=True)
class Trials:
    """All trials of both arms, one entry each [N]; pool and label are t of their sizes.

    A baseline that does not depend on the pool has the same pool everywhere.
    """

    is_arm: NDArray[np.bool_]
    pool: Array
    label: Array
    seed: NDArray[np.int64]
    value: Array


def draw_surfaces(
    trials: Trials,
    *,
    pool: Array,
    label: Array,
    noise: float,
    draws: int,
    rng: np.random.Generator,
) -> Array:
    """Draws of D [J, L, P] at t of label sizes [L] and of pool sizes [P].

    All pool sizes of a label size are drawn together; different label sizes are not.
    noise: the sd of a trial, pooled over the cells; it only sizes the priors. draws: J, rounded
    down to a multiple of NUM_SCALES.
    """
    posterior = _Posterior(trials, noise)
    surfaces = []
    for scales in posterior.draw_scales(rng):
        mean, covariance = posterior.difference(scales, pool, label)
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.clip(values, 0, None))[:, None, :]  # [L, P, P]
        normal = rng.standard_normal((draws // NUM_SCALES, len(label), len(pool), 1))
        surfaces.append(mean + (root @ normal)[..., 0])
    return np.concatenate(surfaces)


class _Posterior:
    """Of the scales and of D given them; z [6] are scales in prior sds from the prior's middle."""

    def __init__(self, trials: Trials, noise: float):
        arm, base = trials.is_arm, ~trials.is_arm
        same_pool, same_label = _same(trials.pool), _same(trials.label)
        is_flat = len(np.unique(trials.pool[base])) == 1
        self.trials = trials
        self.arms = np.outer(arm, arm)
        self.same_baseline = same_label if is_flat else same_label & same_pool
        self.same_labels = same_label & _same(trials.seed)
        self.same_pretraining = self.arms & same_pool & _same(trials.seed)
        self.centred = trials.value - trials.value[base].mean()
        ahead = [
            trials.value[i] - trials.value[base & self.same_baseline[i]].mean()
            for i in np.flatnonzero(arm)
        ]
        self.spread = float(np.sqrt(np.mean(np.square(ahead)))) + noise
        self.noise = noise
        self.middle = np.append(np.log(PRIOR_MEDIAN * [noise, noise, noise, self.spread, 1.0]), 0.0)

    def draw_scales(self, rng: np.random.Generator) -> Array:
        """Scales z from their posterior [NUM_SCALES, 6]."""
        num = len(PRIOR_SD)
        best = minimize(
            lambda z: -self.log_density(z), np.zeros(num), bounds=[(-LIMIT, LIMIT)] * num
        ).x
        values, vectors = np.linalg.eigh(-self._curvature(best))
        root = vectors / np.sqrt(np.maximum(values, 0.5))  # 1 is the curvature of the prior alone
        normal = rng.standard_normal((NUM_PROPOSED, num))
        proposed = best + WIDER * normal @ root.T
        proposed = np.clip(proposed, -LIMIT, LIMIT)
        log_weights = np.array([self.log_density(z) for z in proposed])
        log_weights += np.square(normal).sum(axis=1) / 2
        weights = np.exp(log_weights - log_weights.max())
        chosen = rng.choice(NUM_PROPOSED, size=NUM_SCALES, p=weights / weights.sum())
        return proposed[chosen]

    def log_density(self, z: Array) -> float:
        """Of the scales given the trials, up to a constant."""
        factor = self._factor(z)
        residual = solve_triangular(factor, self.centred, lower=True)
        fit = float(residual @ residual) / 2 + float(np.log(np.diag(factor)).sum())
        return -fit - float(z @ z) / 2

    def difference(self, z: Array, pool: Array, label: Array) -> tuple[Array, Array]:
        """Mean [L, P] of D given the scales, and its covariance at each label size [L, P, P]."""
        trials = self.trials
        num_labels, num_pools = len(label), len(pool)
        at_pool, at_label = np.tile(pool, num_labels), np.repeat(label, num_pools)  # [L * P]
        cross = self._kernel(z, trials.pool, trials.label, at_pool, at_label)  # [N, L * P]
        cross = cross * trials.is_arm[:, None]
        factor = self._factor(z)
        known = solve_triangular(factor, cross, lower=True)
        mean = known.T @ solve_triangular(factor, self.centred, lower=True)
        known = known.reshape(-1, num_labels, num_pools)
        rows = [
            self._kernel(z, pool, np.full(num_pools, t), pool, np.full(num_pools, t)) for t in label
        ]
        covariance = np.stack(rows) - np.einsum("nlp,nlq->lpq", known, known)
        return mean.reshape(num_labels, num_pools), covariance

    def _factor(self, z: Array) -> Array:
        """The Cholesky factor of the covariance of all trials [N, N]."""
        trials = self.trials
        own, shared, pretraining, *_, fall = self._scales(z)
        noise = pretraining**2 * self.same_pretraining + shared**2 * self.same_labels
        noise[np.diag_indices_from(noise)] += own**2 + (FLOOR * self.noise) ** 2
        fallen = np.exp(-fall * trials.label)
        kernel = self._kernel(z, trials.pool, trials.label, trials.pool, trials.label)
        total = noise * np.outer(fallen, fallen) + self.arms * kernel
        total += (BASELINE_SD * self.spread) ** 2 * self.same_baseline
        return cholesky(total, lower=True)

    def _kernel(
        self, z: Array, pool: Array, label: Array, to_pool: Array, to_label: Array
    ) -> Array:
        """The prior covariance of D at one list of sizes with D at another."""
        _, _, _, process, length, _ = self._scales(z)
        pools, labels = np.outer(pool, to_pool), np.outer(label, to_label)
        level, by_pool, by_label, twist = (np.array(PLANE_SD) * self.spread) ** 2
        plane = level + by_pool * pools + by_label * labels + twist * pools * labels
        apart = np.square(np.subtract.outer(pool, to_pool))
        apart += np.square(np.subtract.outer(label, to_label))
        return plane + process**2 * np.exp(-apart / (2 * length**2))

    def _scales(self, z: Array) -> Array:
        """sd of e, v, u and of the process, its length, and fall."""
        raw = self.middle + PRIOR_SD * z
        return np.append(np.exp(raw[:-1]), raw[-1])

    def _curvature(self, best: Array) -> Array:
        """The matrix of second derivatives of the log density, by central differences."""
        num = len(best)
        steps = STEP * np.eye(num)
        found = np.empty((num, num))
        for i in range(num):
            for j in range(i + 1):
                corners = [
                    sign * self.log_density(best + a * steps[i] + b * steps[j])
                    for a, b, sign in ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))
                ]
                found[i, j] = found[j, i] = sum(corners) / (4 * STEP**2)
        return found


def _same(values: Array | NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.equal.outer(values, values)
