"""Scaling curves: mean and interval of a metric by arm and size, with one pooled noise.

With 2 or 3 seeds the standard deviation of one cell says almost nothing, so it is pooled over all
cells with at least two seeds: s^2 = sum of within-cell squares / df, and the interval of a cell
with r seeds is mean +- t(df) s / sqrt(r). Without any repeated cell there is no interval.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from raysl.analysis.scores import Score, check_scores


@dataclass(frozen=True, kw_only=True)
class Noise:
    """The standard deviation between repetitions.

    sd: None where it is unknown. df: degrees of freedom; 0 where it was not measured.
    """

    sd: float | None
    df: int
    source: Literal["measured", "assumed", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Level:
    """One cell: an arm at a size (None: at every size). low, high: None without an interval."""

    size: float | None
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One arm; levels by size. A flat arm has a single level, its size None."""

    arm: str
    levels: tuple[Level, ...]
    noise: Noise
    confidence: float

    @property
    def is_flat(self) -> bool:
        return self.levels[0].size is None


def make_curves(
    scores: Sequence[Score], *, confidence: float = 0.90, noise: Noise | None = None
) -> tuple[Curve, ...]:
    """A curve for each arm, in alphabetical order.

    noise: by default pooled over these scores; of more scores, or assumed, where given.
    """
    cells = group_cells(check_scores(scores))
    noise = noise or pooled_noise([[s.value for s in cell] for cell in cells.values()])
    levels: dict[str, list[Level]] = {}
    for (arm, size), cell in cells.items():
        values = tuple(score.value for score in cell)
        mean = float(np.mean(values))
        half = half_width(noise, len(values), confidence)
        levels.setdefault(arm, []).append(
            Level(
                size=size,
                seeds=tuple(score.seed for score in cell),
                values=values,
                mean=mean,
                low=None if half is None else mean - half,
                high=None if half is None else mean + half,
            )
        )
    return tuple(
        Curve(arm=arm, levels=tuple(found), noise=noise, confidence=confidence)
        for arm, found in levels.items()
    )


def group_cells(scores: Iterable[Score]) -> dict[tuple[str, float | None], list[Score]]:
    """(arm, size) -> its scores, in the order of the scores."""
    cells: dict[tuple[str, float | None], list[Score]] = {}
    for score in scores:
        cells.setdefault((score.arm, score.size), []).append(score)
    return cells


def pooled_noise(cells: Iterable[Sequence[float]], *, assume_sd: float | None = None) -> Noise:
    """The sd pooled over the cells; `assume_sd`, where given, takes its place.

    Repetitions that agree to the last digit were not repetitions: their noise is unknown, not 0.
    """
    if assume_sd is not None:
        if not (math.isfinite(assume_sd) and assume_sd > 0):
            raise ValueError(f"The assumed sd must be a number above 0, not {assume_sd!r}.")
        return Noise(sd=assume_sd, df=0, source="assumed")
    groups = [np.asarray(cell, dtype=float) for cell in cells]
    df = sum(len(group) - 1 for group in groups)
    squares = sum(float(np.square(group - group.mean()).sum()) for group in groups)
    scale = max((float(np.abs(group).max()) for group in groups), default=0.0)
    if df == 0 or math.sqrt(squares / df) <= 1e-12 * scale:
        return Noise(sd=None, df=0, source="unknown")
    return Noise(sd=math.sqrt(squares / df), df=df, source="measured")


def half_width(noise: Noise, num_seeds: int, confidence: float) -> float | None:
    """Half the width of the interval of a mean of `num_seeds` trials."""
    if noise.sd is None:
        return None
    tail = (1 + confidence) / 2
    quantile = stats.t.ppf(tail, noise.df) if noise.df else stats.norm.ppf(tail)
    return float(quantile) * noise.sd / math.sqrt(num_seeds)
