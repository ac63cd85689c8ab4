"""Adaptive strategies to compare with: noisy bisection, and a Gaussian process with straddle.

Both buy pairs (one size, one seed, both arms) while they have spent less than their budget; the
last pair may exceed it, and what counts is the compute paid. With a `target` they stop before:
when on two consecutive rounds the 93 % interval is narrower than this ratio and a threshold is
claimed, or "always" or "never" is after 10 runs. They then report that interval as their 90 % one.
"""

from collections.abc import Callable

import numpy as np
from outcomes import FINE_X, Claim, Outcome, Purchases, X, answer
from scipy.special import stdtr
from worlds import World

MAX_RUNS = 60
DRAWS = 400
STOP_CONFIDENCE = 0.93
PAIR_SD = 0.85  # expected of a pair's difference, points: sqrt(2) x 0.6
PAIR_SD_FREEDOM = 2  # observations that this expectation is worth
END_MASS = 0.05  # bisection's belief beforehand that there is no root, at each end

START = (0, 5, 9)  # 5k, 22k and 70k images: 5 % of the full grid
NOISES = np.geomspace(0.3, 3.0, 7)  # [7] sd of a pair's difference, points
AMPLITUDES = (0.5, 1.5, 4.0)  # of what bends around the linear trend, points
LENGTHS = (0.6, 1.2)  # of its correlation, e-folds
TREND_SDS = (20.0, 10.0)  # of the trend's height at mid range and slope an e-fold, points


def bisection(world: World, budget: float = 1 / 3, *, target: float | None = None) -> Outcome:
    """Generalised probabilistic bisection: two pairs at the size nearest the root's median.

    Waeber, Frazier and Henderson 2013 with the chance of a right sign estimated from the pairs
    (Rodriguez and Ludkovski, arXiv 1711.00843): here all pairs of a size by Student's t.
    """
    purchases = Purchases(world=world)

    def look() -> tuple[int, Callable[[float], Outcome]]:
        places, masses = root_posterior(purchases.pairs())
        median = weighted_quantile(places, masses, 0.5)
        size = int(np.argmin(np.abs(X - median)))
        return size, lambda confidence: bisection_outcome(purchases, places, masses, confidence)

    return search(purchases, look, budget=budget, pairs_per_query=2, target=target)


def straddle(world: World, budget: float = 1 / 3, *, target: float | None = None) -> Outcome:
    """The size where |D| may be zero and is least known: largest 1.96 sd - |mean| (Bryan 2005).

    The Gaussian process is averaged over its hyper-parameters in closed form: scikit-learn's
    would maximise their evidence, which from a handful of pairs puts the noise at zero.
    """
    purchases = Purchases(world=world)
    for size in START:
        purchases.buy_pair(size)
    rng = np.random.default_rng(world.number)

    def look() -> tuple[int, Callable[[float], Outcome]]:
        weights, means, covariances = process_posterior(purchases.pairs())
        mean = weights @ means[:, ::4]  # [15]
        variances = np.diagonal(covariances, axis1=1, axis2=2)[:, ::4]  # [H, 15]
        spread = np.sqrt(weights @ (variances + (means[:, ::4] - mean) ** 2))
        size = int(np.argmax(1.96 * spread - np.abs(mean)))
        return size, lambda confidence: answer(
            purchases,
            FINE_X,
            draw_process(rng, weights, means, covariances),
            confidence=confidence,
        )

    return search(purchases, look, budget=budget, pairs_per_query=1, target=target)


def search(
    purchases: Purchases,
    look: Callable[[], tuple[int, Callable[[float], Outcome]]],
    *,
    budget: float,
    pairs_per_query: int,
    target: float | None,
) -> Outcome:
    """Buy what `look` proposes until the budget is spent or the target is met twice in a row."""
    size, conclude = look()
    met = 0
    while purchases.cost < budget and purchases.runs < MAX_RUNS:
        for _ in range(pairs_per_query):
            purchases.buy_pair(size)
        size, conclude = look()
        if target is None:
            continue
        outcome = conclude(STOP_CONFIDENCE)
        narrow = outcome.claim == "found" and outcome.high <= target * outcome.low
        none = outcome.claim in ("always", "never") and outcome.runs >= 10
        met = met + 1 if narrow or none else 0
        if met == 2:
            return outcome
    return conclude(0.9)


def root_posterior(pairs: dict[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Where the only upward crossing lies: places in log n, the ends last, and masses.  # [G] each

    Uniform beforehand. A size's pairs say with which probability the root lies to its left.
    """
    steps = np.linspace(X[0], X[-1], 561)
    places = np.concatenate([steps, [X[0] - 1e-9, X[-1] + 1e-9]])
    masses = np.full(len(places), (1 - 2 * END_MASS) / len(steps))
    masses[-2:] = END_MASS
    squares = sum(float(np.sum((found - found.mean()) ** 2)) for found in pairs.values())
    freedom = PAIR_SD_FREEDOM + sum(len(found) - 1 for found in pairs.values())
    sd = np.sqrt((PAIR_SD_FREEDOM * PAIR_SD**2 + squares) / freedom)
    for size, found in pairs.items():
        ahead = stdtr(freedom, found.mean() * np.sqrt(len(found)) / sd)
        masses = masses * np.where(places < X[size], ahead, 1 - ahead)
    return places, masses / masses.sum()


def weighted_quantile(places: np.ndarray, masses: np.ndarray, share: float) -> float:
    """The place, within the range, up to which a share of the masses lies."""
    order = np.argsort(places)
    reached = np.searchsorted(np.cumsum(masses[order]), share * (1 - 1e-12))
    return float(np.clip(places[order][reached], X[0], X[-1]))


def bisection_outcome(
    purchases: Purchases, places: np.ndarray, masses: np.ndarray, confidence: float
) -> Outcome:
    """What bisection answers, by the rules of `outcomes.answer`; it never sees two crossings."""
    before, after = masses[-2:]
    claim: Claim = "undetermined"
    if before >= 0.95:
        claim = "always"
    elif after >= 0.95:
        claim = "never"
    elif before + after <= 0.05:
        claim = "found"
    low, point, high = (
        float(np.exp(weighted_quantile(places, masses, share)))
        for share in ((1 - confidence) / 2, 0.5, (1 + confidence) / 2)
    )
    return Outcome(
        claim=claim, point=point, low=low, high=high, cost=purchases.cost, runs=purchases.runs
    )


def process_posterior(
    pairs: dict[int, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights [H], means [H, G] and covariances [H, G, G] of the difference at FINE_X.

    One for each of the H settings of bend and noise; the weights are their posterior.
    """
    at = 4 * np.array(list(pairs))  # every fourth place of FINE_X is a candidate size
    counts = np.array([len(found) for found in pairs.values()])
    means = np.array([found.mean() for found in pairs.values()])  # [m]
    squares = sum(float(np.sum((found - found.mean()) ** 2)) for found in pairs.values())
    z = FINE_X - FINE_X.mean()
    trend = TREND_SDS[0] ** 2 + TREND_SDS[1] ** 2 * np.outer(z, z)
    gaps = (z[:, None] - z) ** 2
    bends = [a**2 * np.exp(-gaps / (2 * length**2)) for a in AMPLITUDES for length in LENGTHS]
    prior = trend + np.repeat(np.array(bends), len(NOISES), axis=0)  # [H, G, G]
    noise = np.tile(NOISES, len(bends))  # [H]
    seen = prior[:, at[:, None], at] + noise[:, None, None] ** 2 * np.diag(1 / counts)  # [H, m, m]
    across = prior[:, at]  # [H, m, G]
    solved = np.linalg.solve(
        seen, np.concatenate([across, np.tile(means[:, None], (len(noise), 1, 1))], axis=2)
    )
    pulled, residual = solved[:, :, :-1], solved[:, :, -1]  # [H, m, G], [H, m]
    evidence = -0.5 * (np.linalg.slogdet(seen)[1] + residual @ means)
    evidence += -0.5 * squares / noise**2 - (counts.sum() - len(counts)) * np.log(noise)
    evidence += -0.5 * (np.log(noise / PAIR_SD) / 0.6) ** 2
    weights = np.exp(evidence - evidence.max())
    turned = np.swapaxes(across, 1, 2)  # [H, G, m]
    return weights / weights.sum(), np.swapaxes(pulled, 1, 2) @ means, prior - turned @ pulled


def draw_process(
    rng: np.random.Generator, weights: np.ndarray, means: np.ndarray, covariances: np.ndarray
) -> np.ndarray:
    """Draws of the difference from the mixture.  # [J, G]"""
    counts = rng.multinomial(DRAWS, weights)
    jitter = 1e-8 * np.trace(covariances[0]) * np.eye(len(means[0]))
    return np.concatenate(
        [
            mean + rng.normal(size=(count, len(mean))) @ np.linalg.cholesky(covariance + jitter).T
            for count, mean, covariance in zip(counts, means, covariances, strict=True)
            if count
        ]
    )
