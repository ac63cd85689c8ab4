"""What all trials of one seed share: how much it is, and curves drawn jointly with it.

Trials of a seed share the choice of images and labels, which with few labels moves all of them
together: y = e_arm(n) + shared(seed) + own noise. Given exponents, departures and noise, the
coefficients of all arms and the shared parts are one Gaussian.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from raysl.analysis.curves import SHIFTS, STEP, ArmFit, Array, Indices, Prior, Range, Runs

# sd of what a seed's trials share, as a multiple of the noise of one trial, and its prior weight.
SHARES = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 8.0])
LOG_WEIGHT_OF_SHARES = np.log([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
REDRAWS = 30  # of a draw in which a curve that must not get worse with more images does


@dataclass(frozen=True, kw_only=True, eq=False)
class Arms:
    """The trials of all arms with their weights [N], and each arm's fit."""

    runs: Runs
    span: Range
    weight: Array
    fits: tuple[ArmFit, ...]


@dataclass(frozen=True, eq=False)
class _Sums:
    """What the joint system of one arm needs of its trials, for every exponent [B, ...]."""

    gram: Array  # [B, P, P]
    cross: Array  # [B, P, S]
    count: Array  # [S]
    moment: Array  # [B, P]
    seed_moment: Array  # [B, S]
    square: Array  # [B]
    num_runs: int


def _sums(arms: Arms, number: int, seeds: Indices) -> _Sums:
    runs, arm = arms.runs, arms.fits[number]
    own = runs.arm == number
    x, weight = runs.x[own], arms.weight[own]
    columns = np.ones((1, len(x), 1)) if arm.is_flat else arms.span.basis(x)
    z = (runs.seed[own][:, None] == seeds) * 1.0  # [N, S]
    residual = runs.error[own] - columns @ arm.mean  # [B, N]
    weighted = columns * weight[:, None]
    return _Sums(
        gram=np.einsum("bnp,bnq->bpq", weighted, columns),
        cross=weighted.transpose(0, 2, 1) @ z,
        count=weight @ z,
        moment=np.einsum("bnp,bn->bp", weighted, residual),
        seed_moment=(residual * weight) @ z,
        square=(residual**2) @ weight,
        num_runs=len(x),
    )


def _system(
    arms: Arms,
    sums: Sequence[_Sums],
    exponents: Sequence[Indices],
    departures: Sequence[Indices],
    sds: Array,
    shared_sd: Array,
) -> tuple[Array, Array]:
    """Precision [J, D, D] and right side [J, D] of all whitened coefficients, seeds last."""
    sizes = [arm.scale.shape[1] for arm in arms.fits]
    num_seeds = len(sums[0].count)
    start = np.cumsum([0, *sizes])
    matrix = np.zeros((len(shared_sd), start[-1] + num_seeds, start[-1] + num_seeds))
    right = np.zeros(matrix.shape[:2])
    matrix[:] = np.eye(matrix.shape[1])
    seeds = slice(start[-1], None)
    for number, (arm, s) in enumerate(zip(arms.fits, sums, strict=True)):
        b, t = exponents[number], departures[number]
        here = slice(start[number], start[number + 1])
        precision = 1 / sds[number] ** 2
        scale = arm.scale[t]  # [J, P]
        scaled = scale * precision[:, None]
        matrix[:, here, here] += s.gram[b] * scaled[:, :, None] * scale[:, None, :]
        across = s.cross[b] * (scaled * shared_sd[:, None])[:, :, None]
        matrix[:, here, seeds] = across
        matrix[:, seeds, here] = across.transpose(0, 2, 1)
        diagonal = np.arange(start[-1], matrix.shape[1])
        matrix[:, diagonal, diagonal] += (precision * shared_sd**2)[:, None] * s.count
        right[:, here] = s.moment[b] * scaled
        right[:, seeds] += s.seed_moment[b] * (precision * shared_sd)[:, None]
    return matrix, right


def draw_jointly(
    arms: Arms,
    sds: Array,
    exponents: Sequence[Indices],
    departures: Sequence[Indices],
    shared_sd: Array,
    rng: np.random.Generator,
    coefficients: Sequence[Array],
    *,
    rising: Sequence[int] = (),
) -> tuple[list[Array], dict[int, Array]]:
    """Coefficients and shared parts given everything else; without a shared part as they were.

    rising: the arms whose slope must not be below 0.
    """
    seeds = np.unique(arms.runs.seed)
    sums = [_sums(arms, number, seeds) for number in range(len(arms.fits))]
    moved = np.flatnonzero(shared_sd)
    found = [theta.copy() for theta in coefficients]
    shared = np.zeros((len(shared_sd), len(seeds)))
    chosen = [b[moved] for b in exponents], [t[moved] for t in departures]
    matrix, right = _system(arms, sums, *chosen, sds[:, moved], shared_sd[moved])
    factor = np.linalg.cholesky(matrix)
    middle = np.linalg.solve(factor, right[:, :, None])
    ends = np.cumsum([0, *(arm.scale.shape[1] for arm in arms.fits)])
    out = np.arange(len(moved))
    for _ in range(1 + REDRAWS):
        z = rng.standard_normal((len(out), right.shape[1], 1))
        whitened = np.linalg.solve(factor[out].transpose(0, 2, 1), middle[out] + z)[:, :, 0]
        for number, arm in enumerate(arms.fits):
            scale = arm.scale[departures[number][moved[out]]]
            own = whitened[:, ends[number] : ends[number + 1]]
            found[number][moved[out]] = arm.mean + scale * own
        shared[moved[out]] = whitened[:, ends[-1] :] * shared_sd[moved[out], None]
        falls = np.zeros(len(moved), dtype=bool)
        for number in rising:
            falls |= found[number][moved, 1] < 0
        out = np.flatnonzero(falls)
        if not len(out):
            break
    return found, {int(seed): shared[:, i] for i, seed in enumerate(seeds)}


def has_shared_seeds(runs: Runs) -> bool:
    """There are two seeds or more, and trials that have one in common."""
    _, counts = np.unique(runs.seed, return_counts=True)
    return len(counts) > 1 and bool(counts.max() > 1)


def measure_shares(
    arms: Arms, *, sds: Array, likely_sd: float, prior: Prior
) -> tuple[Array, Array]:
    """Weights of `SHARES` [H] and each trial's shared part [N], at the likeliest curves.

    sds: the grid of the noise that the arms share [G]; likely_sd: its posterior mean.
    """
    seeds, place = np.unique(arms.runs.seed, return_inverse=True)
    sums = [_sums(arms, number, seeds) for number in range(len(arms.fits))]
    share, sd = (a.ravel() for a in np.meshgrid(SHARES, sds, indexing="ij"))  # [H * G]
    own = np.empty((len(sums), len(share)))
    exponents, departures = [], []
    for number, arm in enumerate(arms.fits):
        b, t, g = np.unravel_index(np.argmax(arm.log_evidence), arm.log_evidence.shape)
        exponents.append(np.full(len(share), b))
        departures.append(np.full(len(share), t))
        own[number] = sd * np.clip(arm.sds[g] / likely_sd, STEP ** SHIFTS[0], STEP ** SHIFTS[-1])
    matrix, right = _system(arms, sums, exponents, departures, own, share * sd)
    solved = np.linalg.solve(matrix, right[:, :, None])[:, :, 0]  # [H * G, D]
    log_evidence = (right * solved).sum(axis=1) / 2 - np.linalg.slogdet(matrix)[1] / 2
    for number, s in enumerate(sums):
        log_evidence -= s.square[exponents[number]] / own[number] ** 2 / 2
        log_evidence -= s.num_runs * np.log(own[number])
    if prior.sd_spread > 0:
        log_evidence -= ((np.log(sd) - np.log(prior.sd)) / prior.sd_spread) ** 2 / 2
    log_evidence = log_evidence.reshape(len(SHARES), -1) + LOG_WEIGHT_OF_SHARES[:, None]
    weights = np.exp(log_evidence - logsumexp(log_evidence))  # [H, G]
    found = solved[:, -len(seeds) :] * (share * sd)[:, None]
    return weights.sum(axis=1), (weights.ravel() @ found)[place]
