"""Several arms at one size: joint draws of their means, probabilities of ranks, tie groups.

A ranking models the trials at a size as y[arm, seed] = mean[arm] + shared[seed] + own: what the
trials of a seed share (labels, images) cancels in every difference, wholly where all arms have
the same seeds, by generalised least squares where not. sd(shared) / sd(own) is averaged over a
half-Cauchy prior (Gelman, Bayesian Analysis 1, 2006); given it, all else has closed forms.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysl.analysis.levels import Noise, group_cells, pooled_noise
from raysl.analysis.scores import Score, check_scores
from raysl.analysis.wording import arm_title, count, listed, points, probability

Array = NDArray[np.float64]
Cell = Mapping[int, float]  # seed -> metric
Interval = tuple[float, float]

CERTAINTY = 0.95  # that no two arms at all are wrongly told apart
CONFIDENCE = 0.90  # of the intervals
MENTIONED = 0.05  # smaller probabilities to be the best are left to the table
RATIOS = tuple(np.tan((np.arange(40) + 0.5) / 40 * np.pi / 2))  # equal steps of a half-Cauchy
NO_NOISE = (
    "The seed noise cannot be measured, since no cell has two seeds whose metrics differ; run "
    "more seeds, or give an assumed sd (--assume-sd)."
)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One arm among those ranked.

    mean: where arms have different seeds, cleared of what the seeds share.
    behind: the highest mean minus this one. p_rank: of rank 1, 2, ...
    p_best: strictly the best; p_within_margin: at most the margin short of the best.
    """

    arm: str
    num_seeds: int
    mean: float
    interval: Interval
    behind: float
    behind_interval: Interval
    p_best: float
    p_within_margin: float
    p_rank: tuple[float, ...]
    expected_rank: float


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The arms at one size, the highest mean first.

    ahead: pairs (better, worse) shown to differ by more than the margin; equal: shown to differ
    by less. `CERTAINTY` that all pairs of both are right. groups: each its leader and the arms
    that it is not shown to be ahead of.
    noise: the own sd of a trial, the median of its draws; shared_sd: of what a seed's trials share.
    """

    size: float | None
    unit: str
    margin: float
    standings: tuple[Standing, ...]
    groups: tuple[tuple[str, ...], ...]
    ahead: tuple[tuple[str, str], ...]
    equal: tuple[tuple[str, str], ...]
    noise: Noise
    shared_sd: float

    def sentence(self) -> str:
        """Who leads, who ties with the leader, and how far ahead of the next they are."""
        leader, *ties = self.groups[0]
        rest = [s for s in self.standings if s.arm not in self.groups[0]]
        names = listed(arm_title(arm) for arm in self.groups[0])
        text = names if self.size is None else f"At {count(self.size)} {self.unit} {names}"
        if ties and all(pair in self.equal for pair in itertools.permutations(self.groups[0], 2)):
            text += f" are within {self.margin:g} points of each other"
        elif ties:
            text += " cannot be told apart"
            text += f" by more than {self.margin:g} points" if self.margin else ""
        if rest:
            every = all((arm, s.arm) in self.ahead for arm in ties for s in rest)
            text += (" and are" if every else f", and {arm_title(leader)} is") if ties else " is"
            text += f" ahead of {listed(arm_title(s.arm) for s in rest)}"
            far = "that" if ties else f"{self.margin:g} points"
            text += f" by more than {far}" if self.margin else ""
            low, high = rest[0].behind_interval
            text += f"; {arm_title(leader)} leads {arm_title(rest[0].arm)} by "
            text += f"{points(rest[0].behind)} points ({100 * CONFIDENCE:g} % interval "
            text += f"{points(low)} to {points(high)})"
        if self.noise.source == "assumed":
            text += f", assuming a seed sd of {self.noise.sd:g} points"
        return text + "."

    def odds(self) -> str:
        """Who may be the best, with the probability of it, in a sentence."""
        likely = [s for s in self.standings if s.p_best >= MENTIONED]
        likely.sort(key=lambda s: -s.p_best)
        return (
            "Probability to be the best: "
            f"{listed(f'{arm_title(s.arm)} {probability(s.p_best)}' for s in likely)}."
        )


def rank_arms(
    scores: Sequence[Score],
    *,
    size: float | None,
    margin: float = 0.5,
    draws: int = 10_000,
    seed: int = 0,
    assume_sd: float | None = None,
    unit: str = "images",
) -> Ranking:
    """The arms at a size, from joint draws of their means; a flat arm counts at every size.

    margin: differences up to it, in points, do not matter. size: None ranks the flat arms alone.
    assume_sd: the sd of a trial, none of it shared; without it some cell must have two seeds.
    """
    check_numbers(margin, assume_sd)
    cells = cells_by_arm(scores)
    sizes = {n for found in cells.values() for n in found}
    if size not in sizes | {None}:
        raise ValueError(unknown_size(size, sizes))
    here = {arm: cell for arm, found in cells.items() if (cell := cell_at(found, size))}
    if len(here) < 2:
        place = "without a size" if size is None else f"at size {count(size)}"
        names = listed(map(arm_title, here)) if here else "none"
        raise ValueError(f"A ranking needs two arms, and {place} there is {names}; add another.")
    # Flat arms are left out elsewhere: their trials are the same ones and would count twice.
    elsewhere = [[f[n] for f in cells.values() if n in f] for n in sizes - {None, size}]
    mean, sample, noise, shared_sd = _draw_means(
        [list(here.values()), *elsewhere], assume_sd, draws=draws, rng=np.random.default_rng(seed)
    )
    order = np.argsort(-mean, kind="stable")
    arms, mean, sample = [list(here)[i] for i in order], mean[order], sample[:, order]  # [J, A]
    ranks = np.argsort(np.argsort(-sample, axis=1), axis=1)  # [J, A]
    p_rank = (ranks[:, :, None] == np.arange(len(arms))).mean(axis=0)  # [A, A]
    within = (sample >= sample.max(axis=1, keepdims=True) - margin).mean(axis=0)  # [A]
    ahead, equal = _tell_apart(mean, sample, margin)
    groups, remaining = [], list(range(len(arms)))
    while remaining:
        members = [i for i in remaining if not ahead[remaining[0], i]]
        groups.append(tuple(arms[i] for i in members))
        remaining = [i for i in remaining if i not in members]
    return Ranking(
        size=size,
        unit=unit,
        margin=margin,
        standings=tuple(
            Standing(
                arm=arm,
                num_seeds=len(here[arm]),
                mean=float(mean[i]),
                interval=_interval(sample[:, i]),
                behind=float(mean[0] - mean[i]),
                behind_interval=_interval(sample[:, 0] - sample[:, i]),
                p_best=float(p_rank[i, 0]),
                p_within_margin=float(within[i]),
                p_rank=tuple(map(float, p_rank[i])),
                expected_rank=float(p_rank[i] @ np.arange(1, len(arms) + 1)),
            )
            for i, arm in enumerate(arms)
        ),
        groups=tuple(groups),
        ahead=tuple((arms[i], arms[j]) for i, j in np.argwhere(ahead)),
        equal=tuple((arms[i], arms[j]) for i, j in np.argwhere(equal)),
        noise=noise,
        shared_sd=shared_sd,
    )


def ranking_sizes(scores: Sequence[Score], *, near: float | None = None) -> Sequence[float | None]:
    """Where to rank: the largest size that all arms have, and the one nearest to `near` in log n.

    Only None where no arm depends on the size; empty where the arms have no size in common.
    """
    found = [set(cells) for cells in cells_by_arm(scores).values()]
    sized = [sizes for sizes in found if None not in sizes]
    if not sized:
        return [None]
    common = sorted(n for n in set.intersection(*sized) if n is not None)
    chosen = set(common[-1:])
    if near is not None and common:
        chosen.add(min(common, key=lambda n: abs(math.log(n / near))))
    return sorted(chosen)


def _draw_means(
    sizes: Sequence[Sequence[Cell]],
    assume_sd: float | None,
    *,
    draws: int,
    rng: np.random.Generator,
) -> tuple[Array, Array, Noise, float]:
    """Of the first size the means [A] and draws of them [J, A]; the noise is that of all sizes."""
    ratios = np.array(RATIOS if assume_sd is None else [0.0])
    fits = [_fit(cells, ratios) for cells in sizes]
    mean, root, _, _ = fits[0]
    squares = np.sum([f[2] for f in fits], axis=0)  # [R]
    df = sum(len(cell) - 1 for cells in sizes for cell in cells)
    scale = max(abs(v) for cells in sizes for cell in cells for v in cell.values())
    weights = np.ones(len(ratios))
    if assume_sd is None:
        if df == 0 or math.sqrt(squares[0] / df) <= 1e-12 * scale:
            raise ValueError(NO_NOISE)
        evidence = -np.sum([f[3] for f in fits], axis=0) / 2 - df / 2 * np.log(squares)  # [R]
        weights = np.exp(evidence - evidence.max())
        weights /= weights.sum()
    which = rng.choice(len(ratios), size=draws, p=weights)
    sd = np.full(draws, assume_sd)
    if assume_sd is None:
        sd = np.sqrt(squares[which] / rng.chisquare(df, size=draws))
    z = rng.standard_normal((draws, len(sizes[0])))
    sample = mean[which] + sd[:, None] * np.einsum("jba,jb->ja", root[which], z)  # [J, A]
    noise = Noise(sd=float(np.median(sd)), df=df, source="measured")
    if assume_sd is not None:
        noise = Noise(sd=assume_sd, df=0, source="assumed")
    return weights @ mean, sample, noise, float(np.median(sd * ratios[which]))


def _fit(cells: Sequence[Cell], ratios: Array) -> tuple[Array, Array, Array, Array]:
    """Generalised least squares for each ratio of the sds.

    Means [R, A], roots of their covariance over the own variance [R, A, A], weighted squares of
    the residuals [R], log determinants [R].
    """
    rows = [(i, seed, v) for i, cell in enumerate(cells) for seed, v in cell.items()]
    arm, seeds, y = (np.array(column) for column in zip(*rows, strict=True))  # [N]
    x = np.eye(len(cells))[arm]  # [N, A]
    covariance = np.eye(len(y)) + np.square(ratios)[:, None, None] * (seeds[:, None] == seeds)
    weight = np.linalg.inv(covariance)  # [R, N, N]
    precision = x.T @ weight @ x  # [R, A, A]
    mean = np.linalg.solve(precision, (x.T @ weight @ y)[..., None])[..., 0]
    residual = y - mean @ x.T  # [R, N]
    squares = np.einsum("rn,rnm,rm->r", residual, weight, residual)
    root = np.linalg.inv(np.linalg.cholesky(precision))
    return mean, root, squares, np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(precision)[1]


def _tell_apart(mean: Array, sample: Array, margin: float) -> tuple[Array, Array]:
    """Which arms are ahead of which, and equal to which [A, A], with one certainty for all pairs.

    With 95 % for each pair by itself, the highest of 5 equal arms with 3 seeds came out ahead of
    another, margin 0, in 38 to 46 % of 1,000 simulated studies; like this, in 4 to 5 %.
    """
    deviation = np.abs((d := sample - mean)[:, :, None] - d[:, None, :])  # [J, A, A]
    scale = np.median(deviation, axis=0) + np.eye(len(mean))
    reach = scale * np.quantile((deviation / scale).max(axis=(1, 2)), CERTAINTY)
    difference = mean[:, None] - mean
    equal = np.abs(difference) + reach < margin
    return difference - reach > margin, equal & ~np.eye(len(mean), dtype=bool)


def _interval(sample: Array) -> Interval:
    low, high = np.quantile(sample, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def cells_by_arm(scores: Sequence[Score]) -> dict[str, dict[float | None, Cell]]:
    found: dict[str, dict[float | None, Cell]] = {}
    for (arm, size), cell in group_cells(check_scores(scores)).items():
        found.setdefault(arm, {})[size] = {score.seed: score.value for score in cell}
    return found


def cell_at(cells: Mapping[float | None, Cell], size: float | None) -> Cell:
    """The arm's cell at a size; a flat arm's is the same at every one, and empty is none."""
    return cells.get(size, cells.get(None, {}))


def check_numbers(margin: float, assume_sd: float | None) -> None:
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"The margin must be a number of at least 0, not {margin!r}.")
    if assume_sd is not None:
        pooled_noise([], assume_sd=assume_sd)  # rejects what is not a number above 0


def unknown_size(size: float | None, sizes: set[float | None]) -> str:
    known = [count(n) for n in sorted(n for n in sizes if n is not None)]
    if not known or size is None:
        return "No arm depends on the size, so there is none to choose; leave the size out."
    return f"No arm has the size {count(size)}; choose {listed(known, 'or')}."
