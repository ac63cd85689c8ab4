"""The curve families of one comparison, from its measured levels."""

import functools
from collections.abc import Sequence

from raysl.analysis.levels import Curve
from raysl.analysis.models import ModelComparison, compare_models
from raysl.analysis.scores import Score


@functools.lru_cache(maxsize=8)  # the figures and report.json of one comparison ask for the same
def check_models(
    curves: tuple[Curve, ...],
    *,
    arm: str,
    baseline: str,
    assumed_sd: float | None = None,
    point: float = 1.0,
) -> ModelComparison:
    """How other curve families do on these levels; assumed_sd: None where the noise is measured."""
    scores = scores_of(curves)
    return compare_models(scores, arm=arm, baseline=baseline, sd=assumed_sd, point=point)


def scores_of(curves: Sequence[Curve]) -> list[Score]:
    """The trials that the levels were made of."""
    return [
        Score(curve.arm, level.size, seed, value)
        for curve in curves
        for level in curve.levels
        for seed, value in zip(level.seeds, level.values, strict=True)
    ]
