"""The figures of one comparison, each captioned with the sentence that it supports."""

from collections.abc import Sequence

import numpy as np

from raysl.analysis.answer import Threshold
from raysl.analysis.compare import Comparison
from raysl.analysis.figure import Drawing, finish
from raysl.analysis.models import ModelComparison
from raysl.analysis.plots import draw_curves, draw_difference
from raysl.analysis.ranking import Ranking
from raysl.analysis.ranking_plot import draw_ranking
from raysl.analysis.threshold_plots import (
    Z,
    draw_models,
    draw_places,
    draw_residuals,
    residual_counts,
)
from raysl.analysis.wording import arm_title, count, listed, metric_title, placed, probability

BEYOND_NORMAL = 0.0455  # share of normal values more than `Z` = 2 sds away


def draw_comparison(
    comparison: Comparison,
    *,
    order: Sequence[str],
    metric: str,
    unit: str,
    suffix: str = "",
) -> list[Drawing]:
    """Ranking or curves, difference, posterior, residuals, curve families: what there is of them.

    order: arms by colour. suffix: of the figures' names.
    """
    threshold = comparison.threshold
    found = []
    ranked = comparison.rankings if threshold is None else ()
    found += [_ranking(comparison, ranking, metric, suffix) for ranking in ranked]
    one_size = all(len(curve.levels) == 1 for curve in comparison.curves)
    if comparison.curves and not (ranked and one_size):
        found.append(_curves(comparison, order, metric, unit, suffix))
    if threshold is None:
        return found
    units = "points" if comparison.point == 1 else metric_title(metric)
    found.append(_difference(comparison, threshold, suffix, units=units))
    if threshold.masses is not None:
        found.append(_places(comparison, threshold, suffix))
    if threshold.residuals:
        found.append(_residuals(comparison, threshold, suffix))
    if comparison.models is not None and comparison.models.models:
        found.append(_models(comparison, threshold, comparison.models, suffix))
    return found


def _ranking(comparison: Comparison, ranking: Ranking, metric: str, suffix: str) -> Drawing:
    place = "" if ranking.size is None else f"-{ranking.size:g}"
    reading = (
        "A bar is the 90 % interval of an arm's mean, its colour the group of arms that cannot be "
        "told apart from the group's first; beside it the probability to be at most "
        f"{ranking.margin:g} points short of the best. What the trials of a seed share is in the "
        "bars and cancels in the differences, so bars that overlap may belong to different groups."
    )
    return finish(
        draw_ranking(ranking, metric=metric),
        f"ranking{place}{suffix}",
        "ranking",
        caption=placed(comparison.where, f"{ranking.sentence()} {reading}"),
        alternative=f"{metric_title(metric)} of every arm. {ranking.sentence()}",
    )


def _curves(
    comparison: Comparison, order: Sequence[str], metric: str, unit: str, suffix: str
) -> Drawing:
    threshold, curves = comparison.threshold, comparison.curves
    figure = draw_curves(curves, order=order, metric=metric, unit=unit, threshold=threshold)
    fitted = {fit.arm for fit in threshold.curves} if threshold else set()
    others = [curve.arm for curve in curves if curve.arm not in fitted]
    noise, confidence = curves[0].noise, 100 * curves[0].confidence
    sentences = [threshold.sentence()] if threshold else []
    if fitted:
        lines = "Lines are medians of the fitted curves with their 50 and 90 % bands, points "
        lines += "single seeds"
        if others:
            lines += f"; of {listed(map(arm_title, others))}, means with {confidence:g} % intervals"
    elif noise.sd is None:
        lines = "Lines are means, points single seeds; without repetitions there is no interval"
    else:
        lines = (
            f"Lines are means, points single seeds, bands {confidence:g} % intervals of the mean "
            f"from a seed sd of {noise.sd:.2f} points pooled over all cells ({noise.df} degrees of "
            "freedom)"
        )
    sentences.append(f"{lines}.")
    if threshold is not None and fitted and threshold.sizes != threshold.asked:
        sentences.append("Dashed: beyond the sizes that both arms have.")
    if threshold is not None and threshold.correlation and threshold.correlation > 0.02:
        sentences.append(
            "What the trials of a seed share cancels in the difference, so the threshold's "
            "interval does not follow from these bands."
        )
    if any(curve.is_flat for curve in curves):
        sentences.append(
            "A level line is an arm that does not depend on the size; its seeds are at the right "
            "edge."
        )
    arms = listed(arm_title(curve.arm) for curve in curves)
    return finish(
        figure,
        f"curves{suffix}",
        "curves",
        caption=placed(comparison.where, " ".join(sentences)),
        alternative=f"{metric_title(metric)} of {arms} by number of {unit}.",
    )


def _difference(
    comparison: Comparison, threshold: Threshold, suffix: str, *, units: str
) -> Drawing:
    arm = arm_title(threshold.arm)
    names = f"{arm} minus {arm_title(threshold.baseline)}"
    sentences = [_who_is_ahead(threshold)] if threshold.band else []
    line = "line and band the fitted curves, points means" if threshold.band else "the means"
    sentences.append(f"{names}, {line}: above zero {arm} is ahead.")
    if threshold.kind == "found" and threshold.low is not None:
        sentences.append("The grey strip is the threshold's interval.")
    return finish(
        draw_difference(threshold, units=units),
        f"difference{suffix}",
        "curves",
        caption=placed(comparison.where, " ".join(sentences)),
        alternative=f"Difference {names} by number of {threshold.unit}. {threshold.sentence()}",
    )


def _who_is_ahead(threshold: Threshold) -> str:
    """At which measured sizes the simultaneous band lies above or below the margin."""
    x = np.log([d.size for d in threshold.band])
    bounds = [(d.band_low or 0.0, d.band_high or 0.0) for d in threshold.band]
    lows, highs = np.array(bounds).T
    ahead: list[str] = []
    behind: list[str] = []
    unsure: list[str] = []
    for size in (d.size for d in threshold.differences):
        low, high = (float(np.interp(np.log(size), x, row)) for row in (lows, highs))
        group = ahead if low > threshold.margin else behind if high < threshold.margin else unsure
        group.append(count(size))
    margin = f" by {threshold.margin:g} points" if threshold.margin else ""
    short = "not so far ahead" if threshold.margin else "behind"
    parts = [
        f"{words} at {listed(sizes)}"
        for sizes, words in (
            (ahead, f"ahead{margin}"),
            (behind, short),
            (unsure, "too close to call"),
        )
        if sizes
    ]
    return (
        f"With {100 * threshold.confidence:g} % for all sizes together, "
        f"{arm_title(threshold.arm)} is {listed(parts)}."
    )


def _places(comparison: Comparison, threshold: Threshold, suffix: str) -> Drawing:
    masses = threshold.masses
    assert masses is not None
    low, high = (count(size) for size in threshold.asked)
    sentence = (
        f"n* lies between {low} and {high} with probability {probability(masses.inside)}, below "
        f"{low} with {probability(masses.below)}, above {high} or nowhere with "
        f"{probability(masses.above)}."
    )
    better = f" by {threshold.margin:g} points" if threshold.margin else ""
    reading = (
        f"n* is the size from which on {arm_title(threshold.arm)} is the better choice{better}. "
        f"Darker: its {100 * threshold.confidence:g} % interval. The bars beyond the ends hold "
        "what the range does not show."
    )
    if threshold.kind == "several":
        reading += (
            " The difference does not change sign just once, upwards, so this is no threshold but "
            "the best single switch."
        )
    return finish(
        draw_places(threshold),
        f"posterior{suffix}",
        "curves",
        caption=placed(comparison.where, f"{sentence} {reading}"),
        alternative=f"Posterior of the threshold n*. {sentence}",
    )


def _residuals(comparison: Comparison, threshold: Threshold, suffix: str) -> Drawing:
    number, far = residual_counts(threshold)
    lie = "lies" if far == 1 else "lie"
    sentence = (
        f"{far} of {number} trials {lie} more than {Z:g} noise sds from the curve; of normal noise "
        f"about {BEYOND_NORMAL * number:.1f} would."
    )
    reading = (
        "Left: a bend along the sizes would say that the curves do not fit, a wedge that the noise "
        "changes with the size. Right: on the line the noise is normal; points off its ends are "
        "outliers."
    )
    if any(r.size is None for r in threshold.residuals):
        reading += " At the right edge: an arm that does not depend on the size."
    return finish(
        draw_residuals(threshold),
        f"residuals{suffix}",
        "checks",
        caption=placed(comparison.where, f"{sentence} {reading}"),
        alternative=f"Distance of each trial from its curve. {sentence}",
    )


def _models(
    comparison: Comparison, threshold: Threshold, models: ModelComparison, suffix: str
) -> Drawing:
    reading = (
        "Filled: within 2 standard errors of the best log score on left-out sizes. The spread "
        "shows what the choice of curve does; noise between seeds is not in it, so it is no "
        "interval."
    )
    sentences = [models.sentence(), reading, models.warning()]
    return finish(
        draw_models(models, threshold),
        f"models{suffix}",
        "checks",
        caption=placed(comparison.where, " ".join(filter(None, sentences))),
        alternative=f"The threshold n* under each curve family. {models.sentence()}",
    )
