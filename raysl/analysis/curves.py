"""The error curve of an arm: a power law with an offset, and a small smooth departure from it.

    e(n) = E + S phi_b(x) + sum_k w_k psi_k(t)      phi_b(x) = (exp(-b x) - 1) / b,  phi_0 = -x

x = log(n / n_c) with n_c the geometric middle of the range, t = x scaled to [-1, 1]; E is the error
at n_c and S the slope there in points per e-fold, both stable where {c, A, b} of c + A n^-b are not
(Hoiem et al., arXiv 2010.11029). psi_k are the sines of a Hilbert-space Gaussian process (Solin and
Sarkka, arXiv 1401.5508). Given (b, tau, sigma) everything is linear and Gaussian, so those three
are averaged over a grid in closed form: no optimiser can stop early and no chain has to converge.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

# b < 0 takes the flat start of a curve near chance. Steps above 0.085 cost coverage (72-77 %).
EXPONENTS = np.linspace(-0.3, 1.4, 21)
LOG_WEIGHT_OF_EXPONENTS = -(((EXPONENTS - 0.5) / 0.5) ** 2) / 2
# How far curves depart from a power law, in points, and how likely that is beforehand. The last two
# are for curves that no power law describes; they cost ordinary ones nothing (docs/decisions.md).
TAUS = np.array([0.05, 0.3, 1.0, 3.0])
WEIGHT_OF_TAUS = np.array([0.57, 0.37, 0.04, 0.02])
NUM_SINES, HALF_WIDTH, LENGTH = 5, 1.4, 0.5  # the sines live on [-1.4, 1.4], length scale in t
# Noise of one trial as multiples of its prior median, and how far an arm's own may be from the one
# that the arms share: shifts along the same grid, factors 0.53, 0.73, 1, 1.37 and 1.87.
STEP = 1.37
SHIFTS = np.arange(-2, 3)
LOG_WEIGHT_OF_SHIFTS = -((SHIFTS / 1.1) ** 2) / 2
NOISE_FACTORS = STEP ** np.arange(-5, 10)


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Beforehand, in points: slope ~ N(slope, slope_sd^2), kept above 0, and log-normal noise.

    sd: median of the noise of one trial; sd_spread: of its logarithm; 0 fixes it at `sd`.
    """

    level_sd: float = 40.0
    slope: float = 8.0
    slope_sd: float = 8.0
    sd: float = 0.6
    sd_spread: float = 0.6

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sd) and self.sd > 0 and self.sd_spread >= 0):
            raise ValueError(f"The sd of the noise must be a number above 0, not {self.sd!r}.")


@dataclass(frozen=True, eq=False)
class Runs:
    """Finished trials as arrays [N]: number of the arm, log size (nan: flat), seed, error."""

    arm: Indices
    x: Array
    seed: Indices
    error: Array

    def __len__(self) -> int:
        return len(self.arm)

    def select(self, keep: NDArray[np.bool_]) -> "Runs":
        return Runs(self.arm[keep], self.x[keep], self.seed[keep], self.error[keep])


@dataclass(frozen=True, kw_only=True)
class Range:
    """The sizes that a curve is about, in log: its ends, and a fine grid of knots [K]."""

    low: float
    high: float
    num_knots: int = 101

    @functools.cached_property
    def knots(self) -> Array:
        return np.linspace(self.low, self.high, self.num_knots)

    def basis(self, x: Array) -> Array:
        """Columns E, S, w_1 ... w_5 at the log sizes x [K], for every exponent [B, K, 7]."""
        return _basis(self, tuple(np.asarray(x, dtype=float).tolist()))


@functools.lru_cache(maxsize=64)  # the fits of a search ask for the same few again and again
def _basis(span: Range, sizes: tuple[float, ...]) -> Array:
    x = np.array(sizes) - (span.low + span.high) / 2
    t = 2 * x / (span.high - span.low)
    b = np.where(EXPONENTS == 0, 1.0, EXPONENTS)[:, None]
    phi = np.where(EXPONENTS[:, None] == 0, -x, np.expm1(-b * x) / b)  # [B, K]
    k = np.arange(1, NUM_SINES + 1)
    psi = np.sin(math.pi * k * (t[:, None] + HALF_WIDTH) / (2 * HALF_WIDTH)) / HALF_WIDTH**0.5
    columns = np.empty((len(EXPONENTS), len(x), 2 + NUM_SINES))
    columns[:, :, 0], columns[:, :, 1], columns[:, :, 2:] = 1.0, phi, psi
    columns.flags.writeable = False
    return columns


def spectral_sds() -> Array:
    """Prior sds of w_1 ... w_5 for tau = 1: the root of the RBF kernel's spectral density [5]."""
    omega = math.pi * np.arange(1, NUM_SINES + 1) / (2 * HALF_WIDTH)
    return np.sqrt(math.sqrt(2 * math.pi) * LENGTH) * np.exp(-((LENGTH * omega) ** 2) / 4)


@dataclass(frozen=True, kw_only=True, eq=False)
class ArmFit:
    """One arm given each of B exponents, T departures and G noises, in whitened coordinates.

    The coefficients are mean + scale * (V z), z independent with precision 1 + d / sd^2 and mean
    (g / sd^2) / (1 + d / sd^2).
    """

    is_flat: bool
    sds: Array  # [G]
    log_evidence: Array  # [B, T, G], prior of b and tau included
    d: Array  # [B, T, P]
    g: Array  # [B, T, P]
    vectors: Array  # [B, T, P, P]
    mean: Array  # [P]
    scale: Array  # [T, P]

    @functools.cached_property
    def by_sd(self) -> Array:
        """Log evidence for each noise, exponents and departures averaged [G]."""
        found: Array = np.logaddexp.reduce(self.log_evidence, axis=(0, 1))
        return found

    @functools.cached_property
    def by_shift(self) -> Array:
        """Log evidence for each shift along the noises that the arms share [5, G - 4]."""
        num_sds = len(self.sds) - len(SHIFTS) + 1
        shifted = np.stack([self.by_sd[i : i + num_sds] for i in range(len(SHIFTS))])
        return shifted + LOG_WEIGHT_OF_SHIFTS[:, None]

    def draw(self, sds: Indices, rng: np.random.Generator) -> tuple[Indices, Indices, Array]:
        """For each sd [J], an index into `sds`: exponent, departure [J], coefficients [J, P]."""
        num_exponents, num_taus, _ = self.log_evidence.shape
        weights = np.exp(self.log_evidence - self.log_evidence.max(axis=(0, 1)))
        cumulative = np.cumsum(weights.reshape(-1, len(self.sds)), axis=0)  # [B * T, G]
        level = rng.uniform(size=len(sds)) * cumulative[-1, sds]
        flat = np.minimum((cumulative[:, sds] < level).sum(axis=0), len(cumulative) - 1)
        b, t = np.divmod(flat, num_taus)
        variance = self.sds[sds][:, None] ** 2
        precision = 1 + self.d[b, t] / variance  # [J, P]
        z = rng.standard_normal(precision.shape)
        whitened = self.g[b, t] / variance / precision + z / np.sqrt(precision)
        rotated = np.einsum("jpq,jq->jp", self.vectors[b, t], whitened)
        assert num_exponents == self.d.shape[0]
        return b, t, self.mean + self.scale[t] * rotated


@dataclass(frozen=True, eq=False)
class _Design:
    """What a fit owes to where the trials are, not to what they say; shared, never written to."""

    columns: Array  # [B, C, P]
    scale: Array  # [T, P]
    log_prior: Array  # [B, T]
    d: Array  # [B, T, P]
    vectors: Array  # [B, T, P, P]


@functools.lru_cache(maxsize=64)
def _design(
    sizes: tuple[float, ...] | None, weights: tuple[float, ...], span: Range, prior: Prior
) -> _Design:
    """For C cells at these log sizes, with so many trials each; sizes None: the arm is flat.

    Kept, since the fits of one posterior, and those of the next trial's other arms, share it.
    """
    if sizes is None:
        columns, scale = np.ones((1, len(weights), 1)), np.array([[prior.level_sd]])
        log_prior = np.zeros((1, 1))
    else:
        columns = span.basis(np.array(sizes))
        departures = TAUS[:, None] * spectral_sds()  # [T, 5]
        ends = np.broadcast_to([prior.level_sd, prior.slope_sd], (len(TAUS), 2))
        scale = np.concatenate([ends, departures], axis=1)
        log_prior = LOG_WEIGHT_OF_EXPONENTS[:, None] + np.log(WEIGHT_OF_TAUS)  # [B, T]
    weighted = columns * np.array(weights)[:, None]
    gram = (weighted.transpose(0, 2, 1) @ columns)[:, None]  # [B, 1, P, P]
    d, vectors = np.linalg.eigh(gram * scale[:, :, None] * scale[:, None])
    return _Design(columns, scale, log_prior, np.maximum(d, 0.0), vectors)


def fit_arm(
    x: Array | None,
    error: Array,
    weight: Array,
    *,
    sds: Array,
    span: Range,
    prior: Prior,
    level: float,
) -> ArmFit:
    """Fit the trials [N] of one arm; x None: an arm that is flat, its only coefficient E.

    weight: at most 1, of outliers less. level: the prior mean of E.
    """
    unique, place = np.unique(np.zeros(len(error)) if x is None else x, return_inverse=True)
    r = np.bincount(place, weight, len(unique))  # [C]
    sizes = None if x is None else tuple(unique.tolist())
    design = _design(sizes, tuple(r.tolist()), span, prior)
    mean = np.array([level] if x is None else [level, prior.slope, *[0.0] * NUM_SINES])
    cell_means = np.bincount(place, weight * error, len(unique)) / np.maximum(r, 1e-300)
    within = float((weight * (error - cell_means[place]) ** 2).sum())
    residual = cell_means - design.columns @ mean  # [B, C]
    moment = (r * residual)[:, None, None] @ design.columns[:, None]  # [B, 1, 1, P]
    g = ((moment * design.scale[:, None]) @ design.vectors)[:, :, 0]  # [B, T, P]
    d = design.d
    total = (residual**2 @ r + within)[:, None, None]  # [B, 1, 1]
    variance = sds[:, None] ** 2  # [G, 1]
    precision = 1 + d[:, :, None] / variance  # [B, T, G, P]
    explained = (g[:, :, None] ** 2 / variance**2 / precision).sum(axis=-1)  # [B, T, G]
    log_evidence = (
        -np.log(precision).sum(axis=-1) / 2
        - (total / variance[:, 0] - explained) / 2
        - len(error) * np.log(sds)
    )
    return ArmFit(
        is_flat=x is None,
        sds=sds,
        log_evidence=log_evidence + design.log_prior[:, :, None],
        d=d,
        g=g,
        vectors=design.vectors,
        mean=mean,
        scale=design.scale,
    )
