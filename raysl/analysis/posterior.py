"""All arms of a study together: noise that they share, draws of their curves, outliers.

Exponent, departure and noise are averaged arm by arm (`curves`) after what the trials of a seed
share is taken out; the coefficients are then drawn jointly with it (`shared`), so that what cancels
in a difference does cancel, and what does not is not forgotten.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysl.analysis.curves import (
    NOISE_FACTORS,
    SHIFTS,
    STEP,
    ArmFit,
    Array,
    Indices,
    Prior,
    Range,
    Runs,
    fit_arm,
)
from raysl.analysis.shared import (
    OWN_SHARES,
    REDRAWS,
    SHARES,
    Arms,
    Given,
    Part,
    draw_jointly,
    has_shared_seeds,
    measure_shares,
    normalised,
)

# A curve that more likely than not gets worse with more images is not forced to get better.
FALLING = 0.5
# Outliers: Student-t weights come on with a residual above the first and stay above the second.
TRIGGER, STAY = 3.0, 2.5
REWEIGHTINGS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Posterior:
    """Of the curves of A arms, given their trials.

    sd_weights: of the shared noise on its grid [G]. share_weights: of `SHARES` and
    `OWN_SHARES` [H, I]. offsets: what
    was taken for shared by the trials of each seed when the arms were fitted one by one [N].
    """

    runs: Runs
    span: Range
    prior: Prior
    arms: tuple[ArmFit, ...]
    weight: Array
    sds: Array
    sd_weights: Array
    share_weights: Array
    offsets: Array

    @property
    def joint(self) -> Arms:
        return Arms(runs=self.runs, span=self.span, weight=self.weight, fits=self.arms)

    @functools.cached_property
    def sd(self) -> float:
        """Posterior mean of the noise of one trial, in points."""
        return float(self.sd_weights @ self.sds)

    @functools.cached_property
    def shared_sd(self) -> float:
        """Posterior mean of the sd of what trials of one seed share, in points."""
        return self.sd * float(self.share_weights.sum(axis=1) @ SHARES)

    @functools.cached_property
    def own_shared_sd(self) -> float:
        """The same of what only the trials of one seed and one arm share."""
        return self.sd * float(self.share_weights.sum(axis=0) @ OWN_SHARES)

    @functools.cached_property
    def correlation(self) -> float:
        """Of the noise of two trials with one seed."""
        a, b = SHARES[:, None] ** 2, OWN_SHARES**2
        return float((self.share_weights * (a / (1 + a + b))).sum())


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """Samples of everything unknown, arm by arm.

    sds: of the noise of a trial [A, J]. rejected: the share of each arm's draws that had S < 0 and
    were drawn again [A]; above `FALLING` they were kept. parts: what the trials of a seed, or of a
    seed and an arm, share [J] each; shared_sd, own_sd: of a part that no trial has yet [J].
    """

    span: Range
    sds: Array
    exponents: Sequence[Indices]
    coefficients: Sequence[Array]
    rejected: Array
    parts: dict[Part, Array]
    shared_sd: Array
    own_sd: Array

    def errors(self, arm: int, x: Array | None = None) -> Array:
        """Error of an arm at log sizes x [K], by default at the knots, in each draw [J, K]."""
        theta = self.coefficients[arm]
        x = self.span.knots if x is None else x
        if theta.shape[1] == 1:
            return np.broadcast_to(theta, (len(theta), len(x)))
        basis = self.span.basis(x)
        power = theta[:, :1] + theta[:, 1:2] * basis[self.exponents[arm], :, 1]
        curve: Array = power + theta[:, 2:] @ basis[0, :, 2:].T
        return curve


def fit(
    runs: Runs, flat: Sequence[bool], span: Range, prior: Prior, *, robust: bool = True
) -> Posterior:
    """The posterior of the curves of the arms, of which some are flat.

    robust: outlying trials get less weight, where there are any.
    """
    fit_all = functools.partial(_fit, runs, tuple(flat), span, prior)
    weight, offsets = np.ones(len(runs)), np.zeros(len(runs))
    posterior = fit_all(weight, offsets, (SHARES[:, None] + OWN_SHARES == 0) * 1.0)
    if has_shared_seeds(runs):
        for _ in range(2):  # the second time with the curves that are left without the shared part
            shares, offsets = measure_shares(
                posterior.joint, sds=posterior.sds, likely_sd=posterior.sd, prior=prior
            )
            if shares[0, 0] > 0.9:
                break
            posterior = fit_all(weight, offsets, shares)
    limit = TRIGGER
    for _ in range(REWEIGHTINGS if robust and prior.sd_spread > 0 else 0):
        z = residuals(posterior)
        if np.abs(z).max(initial=0.0) <= limit:
            break
        limit = STAY
        weight = np.minimum(1.0, 5 / (4 + z**2))
        posterior = fit_all(weight, posterior.offsets, posterior.share_weights)
    return posterior


def _fit(
    runs: Runs,
    flat: tuple[bool, ...],
    span: Range,
    prior: Prior,
    weight: Array,
    offsets: Array,
    shares: Array,
) -> Posterior:
    error = runs.error - offsets
    fixed = prior.sd_spread == 0
    sds = prior.sd * np.array([1.0] if fixed else NOISE_FACTORS)  # [G]
    wide = list(sds)
    if not fixed:
        wide = [*sds[:2] * STEP**-2, *wide, *sds[-2:] * STEP**2]  # [G + 4]
    level = float(np.mean(error)) if len(error) else 0.0
    arms = []
    log_sds = -(((np.log(sds) - np.log(prior.sd)) / (prior.sd_spread or 1.0)) ** 2) / 2
    for number, is_flat in enumerate(flat):
        own = runs.arm == number
        found = fit_arm(
            None if is_flat else runs.x[own],
            error[own],
            weight[own],
            sds=np.array(wide),
            span=span,
            prior=prior,
            level=level,
        )
        arms.append(found)
        log_sds = log_sds + (found.by_sd if fixed else np.logaddexp.reduce(found.by_shift))
    return Posterior(
        runs=runs,
        span=span,
        prior=prior,
        arms=tuple(arms),
        weight=weight,
        sds=sds,
        sd_weights=normalised(log_sds),
        share_weights=shares,
        offsets=offsets,
    )


def draw(posterior: Posterior, num_draws: int, rng: np.random.Generator) -> Draws:
    """Independent samples of the curves of all arms."""
    base = rng.choice(len(posterior.sds), size=num_draws, p=posterior.sd_weights)
    num_arms = len(posterior.arms)
    sds = np.empty((num_arms, num_draws))
    exponents: list[Indices] = []
    departures: list[Indices] = []
    coefficients: list[Array] = []
    rejected = np.zeros(num_arms)
    for number, arm in enumerate(posterior.arms):
        place = base
        if posterior.prior.sd_spread > 0:
            log_weights = arm.by_shift[:, base]  # [5, J]
            cumulative = np.cumsum(np.exp(log_weights - log_weights.max(axis=0)), axis=0)
            level = rng.uniform(size=num_draws) * cumulative[-1]
            place = base + (cumulative < level).sum(axis=0)
        sds[number] = arm.sds[place]
        b, t, theta = arm.draw(place, rng)
        if not arm.is_flat:
            rejected[number] = np.mean(theta[:, 1] < 0)
            if rejected[number] <= FALLING:
                for _ in range(REDRAWS):
                    out = np.flatnonzero(theta[:, 1] < 0)
                    if not len(out):
                        break
                    b[out], t[out], theta[out] = arm.draw(place[out], rng)
        exponents.append(b)
        departures.append(t)
        coefficients.append(theta)
    weights = posterior.share_weights.ravel()
    i, k = np.divmod(rng.choice(len(weights), size=num_draws, p=weights), len(OWN_SHARES))
    shared_sd, own_sd = SHARES[i] * sds.mean(axis=0), OWN_SHARES[k] * sds.mean(axis=0)
    parts: dict[Part, Array] = {}
    if shared_sd.any() or own_sd.any():
        coefficients, parts = draw_jointly(
            posterior.joint,
            Given(exponents, departures, sds, shared_sd, own_sd),
            rng,
            coefficients,
            rising=[
                number
                for number, arm in enumerate(posterior.arms)
                if not arm.is_flat and rejected[number] <= FALLING
            ],
        )
    return Draws(
        span=posterior.span,
        sds=sds,
        exponents=exponents,
        coefficients=coefficients,
        rejected=rejected,
        parts=parts,
        shared_sd=shared_sd,
        own_sd=own_sd,
    )


def residuals(posterior: Posterior) -> Array:
    """Each trial's distance from its arm's mean curve, in sds of one trial of that arm [N]."""
    z = np.zeros(len(posterior.runs))
    for number in range(len(posterior.arms)):
        own = posterior.runs.arm == number
        error = (posterior.runs.error - posterior.offsets)[own]
        curve = mean_curve(posterior, number, posterior.runs.x[own])
        z[own] = (error - curve) / own_sd(posterior, number)
    return z


def own_sd(posterior: Posterior, number: int) -> float:
    """Posterior mean of the noise of one trial of an arm, in points."""
    if posterior.prior.sd_spread == 0:
        return posterior.sd
    log_shifts = posterior.arms[number].by_shift  # [5, G]
    shares = normalised(log_shifts, axis=0) * posterior.sd_weights
    return float((shares * STEP ** SHIFTS[:, None] * posterior.sds).sum())


def mean_curve(posterior: Posterior, number: int, x: Array) -> Array:
    """Posterior mean of an arm's error at log sizes x [K], at its likeliest noise."""
    arm = posterior.arms[number]
    g = int(np.argmax(arm.by_sd))
    weights = normalised(arm.log_evidence[:, :, g])  # [B, T]
    variance = arm.sds[g] ** 2
    whitened = arm.g / variance / (1 + arm.d / variance)
    theta = arm.mean + arm.scale * (arm.vectors @ whitened[..., None])[..., 0]  # [B, T, P]
    by_exponent = (weights[:, None] @ theta)[:, 0]  # [B, P]
    columns = np.ones((1, len(x), 1)) if arm.is_flat else posterior.span.basis(x)
    curve: Array = (columns @ by_exponent[..., None]).sum(axis=0)[:, 0]
    return curve
