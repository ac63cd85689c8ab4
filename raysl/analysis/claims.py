"""Lists of claims that arms beat a baseline, with one bound on any of them being wrong.

One-sided t tests at every size, adjusted by Holm. Noise is pooled over the sizes of a pair; since
a seed may move all of them together, its degrees of freedom are counted by Satterthwaite's rule.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from raysl.analysis.ranking import (
    NO_NOISE,
    Cell,
    cell_at,
    cells_by_arm,
    check_numbers,
    unknown_size,
)
from raysl.analysis.scores import Score
from raysl.analysis.wording import arm_title, count, listed
from raysl.config import unknown_name

Variance = tuple[float, float]  # of one trial or one difference, and its degrees of freedom

MIN_DF = 2  # below it an arm's noise is too uncertain, and that of all arms takes its place


@dataclass(frozen=True, kw_only=True)
class Claim:
    """That an arm beats the baseline by more than the margin at a size (None: at every size).

    difference: arm minus baseline; error: its standard error, with df degrees of freedom (None:
    of an assumed sd). paired: compared seed by seed. p: one-sided; p_adjusted: by Holm over all
    claims made together, of which `holds` is wrong for any with a probability of at most alpha.
    """

    arm: str
    baseline: str
    size: float | None
    margin: float
    alpha: float
    difference: float
    error: float
    df: float | None
    paired: bool
    p: float
    p_adjusted: float
    holds: bool


def beats_baseline(
    scores: Sequence[Score],
    *,
    baseline: str,
    arms: Sequence[str] | None = None,
    sizes: Sequence[float] | None = None,
    alpha: float = 0.05,
    margin: float = 0.0,
    assume_sd: float | None = None,
) -> tuple[Claim, ...]:
    """A claim for each arm and size that has trials of both, adjusted by Holm for their number.

    arms, sizes: by default all. Where the seeds of one side are among the other's, trials are
    compared seed by seed, else as two samples; the noise is pooled over the pair's sizes.
    """
    from statsmodels.stats.multitest import multipletests  # takes most of a second to import

    check_numbers(margin, assume_sd)
    cells = cells_by_arm(scores)
    for name in (baseline, *(arms or ())):
        if name not in cells:
            raise ValueError(unknown_name("arm", name, list(cells)))
    known = {n for found in cells.values() for n in found}
    for size in sizes or ():
        if size not in known:
            raise ValueError(unknown_size(size, known))
    everyone = _pool(cell for found in cells.values() for cell in found.values())
    estimates = [
        (arm, estimate)
        for arm in (cells if arms is None else dict.fromkeys(arms))
        if arm != baseline
        for estimate in _estimate(cells[arm], cells[baseline], everyone, assume_sd)
        if sizes is None or estimate.size in (None, *sizes)
    ]
    if not estimates:
        raise ValueError(
            f"There is nothing to claim: no other arm has a size in common with {baseline!r}; "
            "run both at one size."
        )
    p = [float(stats.t.sf((e.difference - margin) / e.error, e.df)) for _, e in estimates]
    holds, adjusted, *_ = multipletests(p, alpha=alpha, method="holm")
    return tuple(
        Claim(
            arm=arm,
            baseline=baseline,
            size=e.size,
            margin=margin,
            alpha=alpha,
            difference=e.difference,
            error=e.error,
            df=None if math.isinf(e.df) else e.df,
            paired=e.paired,
            p=p[i],
            p_adjusted=float(adjusted[i]),
            holds=bool(holds[i]),
        )
        for i, (arm, e) in enumerate(estimates)
    )


def claims_sentence(claims: Sequence[Claim]) -> str:
    """Which of the claims hold, for how many made together."""
    first = claims[0]
    places = {claim.arm: [c for c in claims if c.arm == claim.arm and c.holds] for claim in claims}
    shown = [
        arm_title(arm) + ("" if held[0].size is None else f" at {listed(_size(c) for c in held)}")
        for arm, held in places.items()
        if held
    ]
    text = "; ".join(shown) if shown else "no arm at any size"
    margin = f" by more than {first.margin:g} points" if first.margin else ""
    number = "1 claim" if len(claims) == 1 else f"{len(claims)} claims, Holm"
    return (
        f"Shown to beat {arm_title(first.baseline)}{margin} "
        f"({number}, {100 * first.alpha:g} % for any error): {text}."
    )


def _size(claim: Claim) -> str:
    assert claim.size is not None
    return count(claim.size)


@dataclass(frozen=True, kw_only=True)
class _Estimate:
    size: float | None
    difference: float
    error: float
    df: float
    paired: bool


def _estimate(
    mine: Mapping[float | None, Cell],
    other: Mapping[float | None, Cell],
    everyone: Variance,
    assume_sd: float | None,
) -> Iterator[_Estimate]:
    """The difference of two arms at every size that both have; None where neither has sizes."""
    sizes = (mine.keys() | other.keys()) - {None} or {None}
    pairs = {n: (cell_at(mine, n), cell_at(other, n)) for n in sorted(sizes, key=lambda n: n or 0)}
    pairs = {n: (a, b) for n, (a, b) in pairs.items() if a and b}
    variance, paired_df = _pool({s: a[s] - b[s] for s in a if s in b} for a, b in pairs.values())
    first, second = _pool(mine.values()), _pool(other.values())
    own = min(first[1], second[1]) >= MIN_DF
    if not own:
        first = second = everyone
    for size, (a, b) in pairs.items():
        seeds = a.keys() & b.keys()
        paired = assume_sd is None and paired_df > 0 and len(seeds) == min(len(a), len(b))
        if paired:
            a, b = ({s: cell[s] for s in seeds} for cell in (a, b))
            error, df = math.sqrt(variance / len(seeds)), paired_df
        elif assume_sd is not None:
            error, df = assume_sd * math.sqrt(1 / len(a) + 1 / len(b)), math.inf
        elif not first[1]:
            raise ValueError(NO_NOISE)
        else:
            parts = first[0] / len(a), second[0] / len(b)
            error = math.sqrt(sum(parts))
            df = everyone[1]
            if own:  # Welch
                df = sum(parts) ** 2 / (parts[0] ** 2 / first[1] + parts[1] ** 2 / second[1])
        difference = float(np.mean(list(a.values())) - np.mean(list(b.values())))
        yield _Estimate(size=size, difference=difference, error=error, df=df, paired=paired)


def _pool(cells: Iterable[Cell]) -> Variance:
    """The variance within cells and its degrees of freedom; (0, 0) where it cannot be measured.

    A seed may move all its cells together (a flat baseline's trial is in the difference at every
    size). With correlation r the pooled squares have fewer df, by Satterthwaite's rule.
    """
    rows = [(i, seed, v) for i, cell in enumerate(cells) for seed, v in cell.items()]
    if not rows:
        return 0.0, 0.0
    cell, seeds, y = (np.array(column) for column in zip(*rows, strict=True))  # [N]
    same_cell = cell[:, None] == cell
    centre = np.eye(len(y)) - same_cell / same_cell.sum(axis=0)  # [N, N]
    residual = centre @ y
    df, squares = len(y) - len(set(cell)), float(residual @ residual)
    if df == 0 or math.sqrt(squares / df) <= 1e-12 * np.abs(y).max():
        return 0.0, 0.0
    same_seed = centre @ (seeds[:, None] == seeds)
    excess = max(float((same_seed * same_seed.T).sum()) / df - 1, 1e-9)  # 0: no seed in two cells
    r = np.clip((residual @ same_seed @ residual / squares - 1) / excess, 0, 1)
    return squares / df, float(df / (1 + r**2 * excess))
