"""Five families of curves, each of which predicts the mean at a size from other sizes.

    power law    level - slope * (exp(-b x) - 1) / b: error c + A n^-b, b = 0 is log-linear
    log-linear   level + slope * x
    Hill         level + slope / (1 + exp(-h (x - middle))), or MMF: levels off at both ends
    isotonic     never falls; between two sizes anywhere between their levels (scikit-learn)
    GP           a straight line in x plus a Gaussian process (scikit-learn)

A prediction is a mixture over shapes. For a parametric family level and slope >= 0 are in closed
form for every shape of a grid (variable projection) that closes in on the shapes that fit; a
shape's weight is its prior times its profile likelihood, the variance of its prediction the delta
method's. So what the sizes leave open about an exponent is counted, not linearised, and nothing
hangs on the start of an optimiser.
x = log size from the middle of the arm's range; means are in points.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit, logsumexp

from raysl.analysis.switch import Array

MAX_RISE = 100.0  # points: the sd of a slope about which the sizes say nothing
# Of the Gaussian process: the line's intercept and slope per half range, then sd and length of the
# deviation from it. Each pair counts by its marginal likelihood.
LINE_SD = 50.0  # points
DEVIATION_SDS = (0.3, 1.5, 7.5)  # points
LENGTHS = (0.5, 1.0, 2.0)  # half ranges
ZOOMS = 3  # of the grid over shapes
NEAR = 20.0  # above the least loss: a weight of exp(-10)


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Means [K] of one arm by increasing x, and their variances; half: half its log range."""

    x: Array
    mean: Array
    variance: Array
    half: float


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Predictions at M places by G fits: normalised log weights [G], means, variances [G, M]."""

    log_weights: Array
    means: Array
    variances: Array

    @property
    def mean(self) -> Array:
        mean: Array = np.exp(self.log_weights) @ self.means  # [M]
        return mean

    @property
    def variance(self) -> Array:
        """Of a prediction [M]: within the fits and between them."""
        between = np.square(self.means - self.mean)
        variance: Array = np.exp(self.log_weights) @ (self.variances + between)
        return variance


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A parametric family up to level and slope.

    rise: shapes [G, P], x [M] -> increasing curves [G, M]. log_prior: shapes [G, P] -> [G].
    bounds: half the log range -> smallest and largest shape [P]. steps: of the grid, each axis.
    """

    rise: Callable[[Array, Array], Array]
    bounds: Callable[[float], tuple[Array, Array]]
    log_prior: Callable[[Array], Array]
    steps: int


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Least squares of mean = level + slope * (rise - pivot), slope >= 0, one for each rise [G].

    information: about the slope, 1 / its variance. loss: the weighted squares.
    """

    level: float
    slope: Array
    pivot: Array
    information: Array
    loss: Array

    def at(self, rises: Array) -> Array:
        """The curves at places where the rises are known [G, M]."""
        curves: Array = self.level + self.slope[:, None] * (rises - self.pivot[:, None])
        return curves


def best_curve(family: str, cells: Cells, at: Array) -> Array:
    """The curve [M] of the family: the least-squares fit where parametric, else the mean."""
    if family not in SHAPES:
        return FAMILIES[family](cells, at).mean
    rise, shape = SHAPES[family].rise, fit_shape(SHAPES[family], cells)[None]  # [1, P]
    return fit_lines(rise(shape, cells.x), cells).at(rise(shape, at))[0]


def fit_shape(shape: Shape, cells: Cells) -> Array:
    """The least-squares shape [P]: the best of the grid, polished within the family's bounds."""
    grid = close_grid(shape, cells)
    losses = fit_lines(shape.rise(grid, cells.x), cells).loss  # [G]
    start = grid[np.argmin(losses)]
    if not start.size:
        return start

    def residuals(values: Array) -> Array:
        rises = shape.rise(values[None], cells.x)
        return (cells.mean - fit_lines(rises, cells).at(rises)[0]) / np.sqrt(cells.variance)

    bounds = shape.bounds(cells.half)
    polished = least_squares(residuals, start, bounds=bounds, xtol=1e-10, ftol=1e-12, gtol=1e-10)
    return polished.x if 2 * polished.cost < losses.min() else start


def close_grid(shape: Shape, cells: Cells) -> Array:
    """Equally spaced shapes [G, P] that cover all that fit about as well as the best.

    A grid over the bounds first, then three times one over the box of the shapes that are near: for
    a steep curve with little noise a fixed grid has no point that fits.
    """
    low, high = shape.bounds(cells.half)
    for zoom in range(ZOOMS + 1):
        axes = [np.linspace(a, b, shape.steps) for a, b in zip(low, high, strict=True)]
        grid = np.array(list(itertools.product(*axes)))  # [G, P]
        if zoom < ZOOMS and low.size:
            loss = fit_lines(shape.rise(grid, cells.x), cells).loss
            # a multiple of the loss too: where no point of the grid fits, the best may mislead
            near = grid[loss <= 3 * loss.min() + NEAR]
            step = (high - low) / (shape.steps - 1)
            low = np.maximum(low, near.min(axis=0) - step)
            high = np.minimum(high, near.max(axis=0) + step)
    return grid


def fit_lines(rises: Array, cells: Cells) -> Lines:
    """Level and slope in closed form for each of the rises [G, K] at the cells."""
    weights = 1 / cells.variance  # [K]
    level = float(np.average(cells.mean, weights=weights))
    pivot = rises @ weights / weights.sum()  # [G]
    offsets = rises - pivot[:, None]  # [G, K]
    information = np.square(offsets) @ weights
    slope = np.maximum(0, offsets @ (weights * (cells.mean - level)) / information)
    loss = np.square(cells.mean - level - slope[:, None] * offsets) @ weights
    return Lines(level=level, slope=slope, pivot=pivot, information=information, loss=loss)


def predict_parametric(shape: Shape) -> Callable[[Cells, Array], Mixture]:
    def predict(cells: Cells, at: Array) -> Mixture:
        grid = close_grid(shape, cells)
        lines = fit_lines(shape.rise(grid, cells.x), cells)
        rises = shape.rise(grid, at)  # [G, M]
        leverage = np.square(rises - lines.pivot[:, None])
        of_slope = 1 / (lines.information + MAX_RISE**-2)  # [G]
        return _mixture(
            shape.log_prior(grid) - lines.loss / 2,
            lines.at(rises),
            1 / np.sum(1 / cells.variance) + of_slope[:, None] * leverage,
        )

    return predict


def predict_isotonic(cells: Cells, at: Array) -> Mixture:
    """Linear in x between the fitted levels, constant beyond the first and the last.

    A curve that only never falls may lie anywhere between two neighbouring levels, which adds the
    variance of a uniform; beyond an end it may be off by as much as the step before that end.
    """
    from sklearn.isotonic import IsotonicRegression

    weights = 1 / cells.variance
    fit = IsotonicRegression(out_of_bounds="clip").fit(cells.x, cells.mean, sample_weight=weights)
    levels = fit.predict(cells.x)  # [K]
    same = levels[:, None] == levels  # [K, K], sizes pooled into one level
    variances = same / (same @ weights)[:, None]  # [K, K], the covariance of the levels
    after = np.clip(np.searchsorted(cells.x, at), 1, len(levels) - 1)  # [M]
    before = after - 1
    share = np.clip((at - cells.x[before]) / (cells.x[after] - cells.x[before]), 0, 1)
    noise = (1 - share) ** 2 * variances[before, before] + share**2 * variances[after, after]
    noise += 2 * share * (1 - share) * variances[before, after]
    outside = (at < cells.x[0]) | (at > cells.x[-1])
    steps = np.square(levels[after] - levels[before]) / np.where(outside, 1, 12)
    return _mixture(np.zeros(1), fit.predict(at)[None], (noise + steps)[None])


def predict_gp(cells: Cells, at: Array) -> Mixture:
    """A mixture over the kernel's fixed grid, weighted by marginal likelihood: no optimiser."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct

    level = np.average(cells.mean, weights=1 / cells.variance)
    line = ConstantKernel(LINE_SD**2) * DotProduct(1.0)
    log_weights, means, variances = [], [], []
    for sd, length in itertools.product(DEVIATION_SDS, LENGTHS):
        kernel = line + ConstantKernel(sd**2) * RBF(length)
        fit = GaussianProcessRegressor(kernel, alpha=cells.variance, optimizer=None)
        fit.fit(cells.x[:, None] / cells.half, cells.mean - level)
        mean, deviation = fit.predict(at[:, None] / cells.half, return_std=True)
        log_weights.append(fit.log_marginal_likelihood_value_)
        means.append(level + mean)
        variances.append(np.square(deviation))
    return _mixture(np.array(log_weights), np.array(means), np.array(variances))


def _mixture(log_weights: Array, means: Array, variances: Array) -> Mixture:
    normalised = log_weights - logsumexp(log_weights)
    return Mixture(log_weights=normalised, means=means, variances=variances)


def _power_rise(shapes: Array, x: Array) -> Array:
    b = np.where(shapes == 0, 1.0, shapes)  # [G, 1]
    return np.where(shapes == 0, x, -np.expm1(-b * x) / b)


def _no_prior(shapes: Array) -> Array:
    return np.zeros(len(shapes))


SHAPES = {
    "power law": Shape(
        rise=_power_rise,
        # the exponent's range and prior are those of `curves`
        bounds=lambda half: (np.array([-0.3]), np.array([1.4])),
        log_prior=lambda shapes: -np.square((shapes[:, 0] - 0.5) / 0.5) / 2,
        steps=86,
    ),
    "log-linear": Shape(
        rise=lambda shapes, x: np.broadcast_to(x, (len(shapes), len(x))),
        bounds=lambda half: (np.zeros(0), np.zeros(0)),
        log_prior=_no_prior,
        steps=1,
    ),
    # shape: log steepness and middle; far below the sizes the middle gives an offset power law
    "Hill": Shape(
        rise=lambda shapes, x: expit(np.exp(shapes[:, :1]) * (x - shapes[:, 1:])),
        bounds=lambda half: (
            np.array([math.log(0.3 / half), -4 * half]),
            np.array([math.log(8 / half), 2 * half]),
        ),
        log_prior=_no_prior,
        steps=25,
    ),
}
FAMILIES: dict[str, Callable[[Cells, Array], Mixture]] = {
    **{name: predict_parametric(shape) for name, shape in SHAPES.items()},
    "isotonic": predict_isotonic,
    "GP": predict_gp,
}
