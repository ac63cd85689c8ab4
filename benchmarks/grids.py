"""Strategies that decide beforehand what to run: grids, read by eye or with a model."""

import numpy as np
from outcomes import FINE_X, Outcome, Purchases, X, answer
from worlds import FINE, GRID_SIZES, SIZES, World

from raysl.analysis.switch import switch_points

DRAWS = 400
NUM_SEEDS = 3
EXPONENTS = np.geomspace(0.02, 4.0, 60)  # [B], each 9 % more than the one before
MID_SIZE = float(np.sqrt(FINE[0] * FINE[-1]))


def buy_grid(world: World) -> Purchases:
    """Every size with the same number of seeds in both arms."""
    purchases = Purchases(world=world)
    for size in GRID_SIZES:
        for arm in (0, 1):
            purchases.buy_cell(arm, size, NUM_SEEDS)
    return purchases


def practice(world: World) -> Outcome:
    """The usual reading: interpolate the means, the interval is the two sizes around the switch.

    Where the means change sign more often, the best single switch counts.
    """
    purchases, sizes = buy_grid(world), list(GRID_SIZES)
    x = X[sizes]
    difference = purchases.means(0, sizes) - purchases.means(1, sizes)  # [K]
    at = float(switch_points(x, difference[None])[0])
    low, high = x[x <= at].max(), x[x >= at].min()
    return Outcome(
        claim="always" if at == x[0] else "never" if at == x[-1] else "found",
        point=float(np.exp(at)),
        low=float(np.exp(low)),
        high=float(np.exp(high)),
        cost=purchases.cost,
        runs=purchases.runs,
    )


def power_laws(world: World) -> Outcome:
    """A power law an arm by least squares, with a parametric bootstrap of the pooled sd."""
    purchases, sizes = buy_grid(world), list(GRID_SIZES)
    n = SIZES[sizes]
    means = np.array([purchases.means(arm, sizes) for arm in (0, 1)])  # [2, K]
    fits = fit_power_laws(n, means)
    fitted = evaluate(fits, n)  # [2, K]
    squares, freedom = purchases.within()
    noise = np.sqrt(squares / freedom / NUM_SEEDS)
    rng = np.random.default_rng(world.number)
    base, method = (
        evaluate(
            fit_power_laws(n, curve + noise * rng.normal(size=(DRAWS, len(n)))), np.exp(FINE_X)
        )
        for curve in fitted
    )  # [J, G] each
    best = evaluate(fits, np.exp(FINE_X))  # [2, G]
    point = float(switch_points(FINE_X, best[:1] - best[1:])[0])
    return answer(purchases, FINE_X, base - method, point=point)


def fit_power_laws(n: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Least squares of c + A (n / MID_SIZE)^-b with A >= 0 to each row of errors [J, K].

    Variable projection: for a given b the best (c, A) is closed form, so that no optimiser can
    stop early; b is the best of EXPONENTS, moved to the vertex of the parabola through its
    neighbours' losses. c may be negative: the curve is read inside the range only, and c >= 0
    would cost it curves that bend late. Returns c, A and b.  # [3, J]
    """
    x = np.log(n / MID_SIZE)
    loss = project(errors, np.exp(-EXPONENTS[:, None] * x))[2]  # [J, B]
    inner = np.clip(np.argmin(loss, axis=1), 1, len(EXPONENTS) - 2)  # [J]
    before, at, after = (loss[np.arange(len(errors)), inner + step] for step in (-1, 0, 1))
    bend = before - 2 * at + after
    move = np.clip((before - after) / np.where(bend > 0, 2 * bend, np.inf), -1, 1)
    exponent = EXPONENTS[inner] * (EXPONENTS[1] / EXPONENTS[0]) ** move
    floor, scale, _ = project(errors, np.exp(-exponent[:, None, None] * x))  # [J, 1] each
    return np.array([floor[:, 0], scale[:, 0], exponent])


def project(errors: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best floor and scale of each of B basis curves for each row of errors [J, K], and loss.

    basis: [B, K], or [J, B, K] for curves of each row's own. Results are [J, B]; the loss lacks
    the errors' own sum of squares, which no curve changes.
    """
    count = errors.shape[1]
    sums, squares = basis.sum(axis=-1), (basis**2).sum(axis=-1)
    products = (basis @ errors[:, :, None])[:, :, 0]  # [J, B]
    totals = errors.sum(axis=1, keepdims=True)  # [J, 1]
    scale = (count * products - sums * totals) / (count * squares - sums**2)
    scale = np.maximum(scale, 0)
    floor = (totals - sums * scale) / count
    own = scale**2 * squares + 2 * scale * floor * sums + count * floor**2
    return floor, scale, own - 2 * (scale * products + floor * totals)


def evaluate(fits: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Errors of power laws [3, J] at sizes n [K].  # [J, K]"""
    floor, scale, exponent = fits[:, :, None]
    return floor + scale * (n / MID_SIZE) ** -exponent
