"""What the trials of one seed share: how much it is, and curves drawn jointly with it.

Trials of a seed share the choice of images and labels, which with few labels moves all of them
together, and those of one arm more than others: y = e_arm(n) + shared(seed) + shared(seed, arm) +
own noise. Given exponents, departures and noise, all of it is one Gaussian, in which each trial
has one part of either kind: both are integrated out in closed form, the arm's own first. What all
arms share cancels in their difference, what one arm has alone does not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysl.analysis.curves import SHIFTS, STEP, ArmFit, Array, Indices, Prior, Range, Runs

# sd of what a seed's trials share, as a multiple of the noise of one trial, and its prior weight.
SHARES = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 8.0])
LOG_WEIGHT_OF_SHARES = np.log([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
# The same of what only the trials of one seed and one arm share.
OWN_SHARES = np.array([0.0, 0.7, 1.5, 3.0, 6.0])
LOG_WEIGHT_OF_OWN_SHARES = np.log([0.8, 0.05, 0.05, 0.05, 0.05])
REDRAWS = 30  # of a draw in which a curve that must not get worse with more images does
Part = tuple[int | None, int]  # number of the arm (None: all arms), seed


@dataclass(frozen=True, kw_only=True, eq=False)
class Arms:
    """The trials of all arms with their weights [N], and each arm's fit."""

    runs: Runs
    span: Range
    weight: Array
    fits: tuple[ArmFit, ...]


@dataclass(frozen=True, eq=False)
class Given:
    """What the Gaussian is conditioned on, in J cases: all that is not linear.

    exponents, departures: of each arm [J]. sds: of the arms' own noise [A, J]. shared_sd, own_sd:
    of the parts [J]; a flat arm has no part of its own.
    """

    exponents: Sequence[Indices]
    departures: Sequence[Indices]
    sds: Array
    shared_sd: Array
    own_sd: Array

    def at(self, cases: Indices) -> "Given":
        return Given(
            exponents=[b[cases] for b in self.exponents],
            departures=[t[cases] for t in self.departures],
            sds=self.sds[:, cases],
            shared_sd=self.shared_sd[cases],
            own_sd=self.own_sd[cases],
        )


@dataclass(frozen=True, eq=False)
class _Sums:
    """One arm's trials by seed, for every exponent [B, ...]; residuals are from the prior mean."""

    gram: Array  # [B, P, P]
    moment: Array  # [B, P]
    square: Array  # [B]
    cross: Array  # [B, P, S] columns, summed within a seed
    residual: Array  # [B, S]
    count: Array  # [S]
    num_runs: int


@dataclass(frozen=True, eq=False)
class _System:
    """The Gaussian in J cases, parts integrated out; coefficients of all arms whitened [D]."""

    matrix: Array  # [J, D, D] precision
    right: Array  # [J, D]
    log_rest: Array  # [J] what the evidence has beside them
    own_gain: Sequence[Array]  # of each arm [J, S]
    shared_gain: Array  # [J, S]
    across: Array  # [J, D, S]
    shared_residual: Array  # [J, S]
    scale: Array  # [J, D]


def _sum_up(arms: Arms, number: int, seeds: Indices) -> _Sums:
    runs, fit = arms.runs, arms.fits[number]
    own = runs.arm == number
    x, weight = runs.x[own], arms.weight[own]
    columns = np.ones((1, len(x), 1)) if fit.is_flat else arms.span.basis(x)
    z = (runs.seed[own][:, None] == seeds) * 1.0  # [N, S]
    residual = runs.error[own] - columns @ fit.mean  # [B, N]
    weighted = columns * weight[:, None]
    return _Sums(
        gram=weighted.transpose(0, 2, 1) @ columns,
        moment=(weighted.transpose(0, 2, 1) @ residual[:, :, None])[:, :, 0],
        square=(residual**2) @ weight,
        cross=weighted.transpose(0, 2, 1) @ z,
        residual=(residual * weight) @ z,
        count=weight @ z,
        num_runs=len(x),
    )


def _system(arms: Arms, sums: Sequence[_Sums], given: Given) -> _System:
    ends = np.cumsum([0, *(fit.scale.shape[1] for fit in arms.fits)])
    num_cases, num_seeds = len(given.shared_sd), len(sums[0].count)
    matrix = np.zeros((num_cases, ends[-1], ends[-1]))
    right, scale = np.zeros((2, num_cases, ends[-1]))
    across = np.zeros((num_cases, ends[-1], num_seeds))
    counts, residuals = np.zeros((2, num_cases, num_seeds))
    square, log_rest = np.zeros((2, num_cases))
    own_gain = []
    for number, (fit, s) in enumerate(zip(arms.fits, sums, strict=True)):
        b, t = given.exponents[number], given.departures[number]
        here = slice(ends[number], ends[number + 1])
        variance = given.sds[number][:, None] ** 2  # [J, 1]
        own = 0.0 if fit.is_flat else given.own_sd[:, None] ** 2
        gain = own / (variance + s.count * own)  # [J, S]
        kept = (1 - s.count * gain) / variance
        cross, residual = s.cross[b], s.residual[b]
        weighted = cross * gain[:, None]  # [J, P, S]
        gram = s.gram[b] - weighted @ cross.transpose(0, 2, 1)
        matrix[:, here, here] = gram / variance[:, :, None]
        moment = s.moment[b] - (weighted @ residual[:, :, None])[:, :, 0]
        right[:, here] = moment / variance
        across[:, here] = cross * kept[:, None]
        counts += s.count * kept
        residuals += residual * kept
        square += (s.square[b] - (gain * residual**2).sum(axis=1)) / variance[:, 0]
        log_rest -= s.num_runs * np.log(given.sds[number])
        log_rest -= np.log1p(s.count * own / variance).sum(axis=1) / 2
        scale[:, here] = fit.scale[t]
        own_gain.append(gain)
    shared = given.shared_sd[:, None] ** 2
    gain = shared / (1 + shared * counts)  # [J, S]
    weighted = across * gain[:, None]
    matrix -= weighted @ across.transpose(0, 2, 1)
    right -= (weighted @ residuals[:, :, None])[:, :, 0]
    square -= (gain * residuals**2).sum(axis=1)
    log_rest -= np.log1p(shared * counts).sum(axis=1) / 2 + square / 2
    matrix = np.eye(ends[-1]) + matrix * scale[:, :, None] * scale[:, None]
    return _System(
        matrix, right * scale, log_rest, own_gain, gain, across, residuals, scale
    )  # fmt: skip


def _parts(
    sums: Sequence[_Sums], system: _System, given: Given, away: Array, noise: Array
) -> tuple[Array, list[Array]]:
    """The parts of each seed [J, S] and of each arm's [J, S], given the coefficients.

    away: the coefficients' distance from their prior mean [J, D]. noise: standard normal, or 0 for
    the expected parts.
    """
    told = system.shared_residual - (away[:, None] @ system.across)[:, 0]
    shared = system.shared_gain * told + np.sqrt(system.shared_gain) * noise[0]
    own, start = [], 0
    for number, (s, gain) in enumerate(zip(sums, system.own_gain, strict=True)):
        cross = s.cross[given.exponents[number]]  # [J, P, S]
        stop = start + cross.shape[1]
        left = s.residual[given.exponents[number]] - (away[:, None, start:stop] @ cross)[:, 0]
        spread = np.sqrt(gain) * given.sds[number][:, None]
        own.append(gain * (left - s.count * shared) + spread * noise[1 + number])
        start = stop
    return shared, own


def draw_jointly(
    arms: Arms,
    given: Given,
    rng: np.random.Generator,
    coefficients: Sequence[Array],
    *,
    rising: Sequence[int] = (),
) -> tuple[list[Array], dict[Part, Array]]:
    """Coefficients and parts in each case; without a shared part the coefficients stay as they are.

    rising: the arms whose slope must not be below 0.
    """
    seeds = np.unique(arms.runs.seed)
    sums = [_sum_up(arms, number, seeds) for number in range(len(arms.fits))]
    moved = np.flatnonzero(given.shared_sd + given.own_sd)
    cases = given.at(moved)
    system = _system(arms, sums, cases)
    factor = np.linalg.cholesky(system.matrix)
    middle = np.linalg.solve(factor, system.right[:, :, None])
    ends = np.cumsum([0, *(fit.scale.shape[1] for fit in arms.fits)])
    away = np.zeros_like(system.right)
    out = np.arange(len(moved))
    for _ in range(1 + REDRAWS):
        z = rng.standard_normal((len(out), away.shape[1], 1))
        whitened = np.linalg.solve(factor[out].transpose(0, 2, 1), middle[out] + z)[:, :, 0]
        away[out] = whitened * system.scale[out]
        falls = np.zeros(len(moved), dtype=bool)
        for number in rising:
            falls |= arms.fits[number].mean[1] + away[:, ends[number] + 1] < 0
        out = np.flatnonzero(falls)
        if not len(out):
            break
    noise = rng.standard_normal((1 + len(sums), len(moved), len(seeds)))
    shared, own = _parts(sums, system, cases, away, noise)
    found: list[Array] = []
    parts: dict[Part, Array] = {}
    for number, (fit, theta) in enumerate(zip(arms.fits, coefficients, strict=True)):
        new = theta.copy()
        new[moved] = fit.mean + away[:, ends[number] : ends[number + 1]]
        found.append(new)
    kinds: list[tuple[int | None, Array]] = [(None, shared)]
    kinds += [(number, part) for number, part in enumerate(own) if not arms.fits[number].is_flat]
    for arm, part in kinds:
        for i, seed in enumerate(seeds.tolist()):
            parts[arm, seed] = np.zeros(len(given.shared_sd))
            parts[arm, seed][moved] = part[:, i]
    return found, parts


def has_shared_seeds(runs: Runs) -> bool:
    """There are two seeds or more, and trials that have one in common."""
    _, counts = np.unique(runs.seed, return_counts=True)
    return len(counts) > 1 and bool(counts.max() > 1)


def measure_shares(
    arms: Arms, *, sds: Array, likely_sd: float, prior: Prior
) -> tuple[Array, Array]:
    """Weights of `SHARES` and `OWN_SHARES` [H, I], each trial's shared parts summed [N].

    Both at the likeliest curves. sds: the grid of the noise that the arms share [G]; likely_sd: its
    posterior mean.
    """
    seeds, place = np.unique(arms.runs.seed, return_inverse=True)
    sums = [_sum_up(arms, number, seeds) for number in range(len(arms.fits))]
    # the noise of a trial is at most what it seemed to be while the shared parts were in it
    sds = sds[(sds > likely_sd / 3) & (sds < likely_sd * 1.5)] if len(sds) > 1 else sds
    grid = np.meshgrid(SHARES, OWN_SHARES, sds, indexing="ij")
    share, own_share, sd = (a.ravel() for a in grid)  # [H * I * G]
    noise = np.empty((len(sums), len(share)))
    exponents, departures = [], []
    for number, fit in enumerate(arms.fits):
        b, t, g = np.unravel_index(np.argmax(fit.log_evidence), fit.log_evidence.shape)
        exponents.append(np.full(len(share), b))
        departures.append(np.full(len(share), t))
        noise[number] = sd * np.clip(fit.sds[g] / likely_sd, STEP ** SHIFTS[0], STEP ** SHIFTS[-1])
    given = Given(exponents, departures, noise, share * sd, own_share * sd)
    system = _system(arms, sums, given)
    solved = np.linalg.solve(system.matrix, system.right[:, :, None])[:, :, 0]
    log_evidence = (system.right * solved).sum(axis=1) / 2 + system.log_rest
    log_evidence -= np.linalg.slogdet(system.matrix)[1] / 2
    if prior.sd_spread > 0:
        log_evidence -= ((np.log(sd) - np.log(prior.sd)) / prior.sd_spread) ** 2 / 2
    log_evidence = log_evidence.reshape(len(SHARES), len(OWN_SHARES), -1)
    log_evidence += LOG_WEIGHT_OF_SHARES[:, None, None] + LOG_WEIGHT_OF_OWN_SHARES[:, None]
    weights = normalised(log_evidence)  # [H, I, G]
    away = solved * system.scale
    shared, own = _parts(sums, system, given, away, np.zeros(1 + len(sums)))
    offsets = (weights.ravel() @ shared)[place]
    for number, part in enumerate(own):
        offsets += (arms.runs.arm == number) * (weights.ravel() @ part)[place]
    return weights.sum(axis=2), offsets


def normalised(log_weights: Array, *, axis: int | None = None) -> Array:
    """Weights that sum to 1, along the axis if there is one, from their logarithms."""
    weights: Array = np.exp(log_weights - np.logaddexp.reduce(log_weights, axis=axis))
    return weights
