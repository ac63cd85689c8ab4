"""From how many images on an arm beats its baseline: one number with its interval.

The curves of both arms are drawn from their posterior (`curves`, `posterior`), and the best single
switch point of each drawn difference (`switch`) is a draw of the threshold: it is the crossing
where there is one and an end of the range where there is none. No threshold is claimed outside the
sizes that both arms have.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raysl.analysis.answer import Crossing, Difference, Threshold
from raysl.analysis.bands import (
    along_the_range,
    at_sizes,
    crossings,
    fitted,
    places,
    residuals_of,
    within,
)
from raysl.analysis.checks import check_sizes, check_units, missing_cells, notes_on
from raysl.analysis.curves import Array, Prior, Range, Runs
from raysl.analysis.explain import notes_on_fit, reading, why_no_noise, why_undecided
from raysl.analysis.levels import Noise, group_cells, pooled_noise
from raysl.analysis.posterior import Posterior, draw, fit
from raysl.analysis.scores import Score, check_scores, choose_arms
from raysl.analysis.switch import sign_changes, switch_points
from raysl.analysis.test_set import for_population
from raysl.analysis.verdict import Verdict, judge
from raysl.rng import numpy_generator


def find_threshold(
    scores: Sequence[Score],
    *,
    arm: str | None = None,
    baseline: str | None = None,
    margin: float = 0.0,
    confidence: float = 0.90,
    seed: int = 0,
    draws: int = 4000,
    assume_sd: float | None = None,
    prior: Prior | None = None,
    asked: tuple[float, float] | None = None,
    unit: str = "images",
    point: float = 1.0,
    test_set_sd: float | None = None,
) -> Threshold:
    """The threshold of `arm` over `baseline`; ValueError where the scores cannot hold one.

    margin: by how much, in units of the metric, the arm must be ahead. assume_sd: the sd between
    seeds, used in place of the measured one. prior: of the curves and the noise, in points. asked:
    the range of sizes that the question is about, by default that of the sizes both arms have.
    point: what counts as a point of the metric; 1 for percent, 0.01 for metrics in 0 to 1.
    test_set_sd: what the choice of test images adds to the difference (`test_set`); where given, a
    note says what holds for other test images too.
    """
    _check_arguments(margin=margin, confidence=confidence, point=point)
    scores = check_scores(scores)
    arm, baseline = choose_arms(scores, arm, baseline)
    scores = [score for score in scores if score.arm in (arm, baseline)]
    check_units(scores, point=point)
    common = check_sizes(scores, arm, baseline)
    cells = group_cells(scores)
    counts = [len(cell) for cell in cells.values()]
    noise = pooled_noise([[s.value for s in c] for c in cells.values()], assume_sd=assume_sd)
    means = {key: float(np.mean([s.value for s in cell])) for key, cell in cells.items()}
    flat = {s.arm: s.size is None for s in scores}
    measured = {
        size: means[arm, None if flat[arm] else size]
        - means[baseline, None if flat[baseline] else size]
        for size in common
    }
    known: dict[str, Any] = {
        "arm": arm,
        "baseline": baseline,
        "unit": unit,
        "confidence": confidence,
        "sizes": (common[0], common[-1]),
        "asked": asked or (common[0], common[-1]),
        "num_seeds": (min(counts), max(counts)),
        "margin": margin,
        "point_size": point,
    }
    notes = (*missing_cells(scores, arm, baseline), *notes_on(scores))
    if noise.sd is None:
        return _bare(measured, noise, why_no_noise(max(counts)), known | {"notes": notes})
    if assume_sd is not None:
        prior = Prior(sd=assume_sd / point, sd_spread=0.0)
    low, high = known["asked"]
    span = Range(low=math.log(low), high=math.log(high))
    runs = _runs(scores, arm, point)
    posterior = fit(runs, (flat[baseline], flat[arm]), span, prior or Prior())
    drawn = draw(posterior, draws, numpy_generator(seed, "threshold"))
    lead = (drawn.errors(0) - drawn.errors(1)) * point  # [J, K] along the range

    def judged(lead: Array) -> tuple[Verdict, dict[str, Any]]:
        sd = posterior.sd * point
        return answer_of(judge(span.knots, lead - margin, sd=sd, confidence=confidence), known)

    verdict, answer = judged(lead)
    threshold = Threshold(
        **known,
        **answer,
        noise=noise if noise.source == "assumed" else _noise(posterior, noise, point),
        correlation=posterior.correlation,
        differences=at_sizes(drawn, measured, point=point, confidence=confidence),
        band=along_the_range(span, lead, confidence=confidence),
        crossings=crossings(span.knots, lead - margin, ends=(low, high), confidence=confidence),
        curves=tuple(
            fitted(drawn, number, name, is_flat=flat[name], point=point)
            for number, name in enumerate((baseline, arm))
        ),
        places=places(span, lead - margin),
        residuals=residuals_of(posterior, (baseline, arm)),
        notes=(*notes_on_fit(posterior, drawn, verdict, noise=noise, known=known), *notes),
    )
    if test_set_sd is None:
        return threshold
    _, answer = judged(for_population(lead, test_set_sd, numpy_generator(seed, "test set")))
    other = dataclasses.replace(threshold, **answer, differences=())  # their intervals are narrower
    note = f"For test images in general, not these alone: {other.sentence()}"
    return dataclasses.replace(threshold, notes=(*threshold.notes, note))


def answer_of(verdict: Verdict, known: Mapping[str, Any]) -> tuple[Verdict, dict[str, Any]]:
    """The verdict within the range asked for, and what it makes of a `Threshold`."""
    ends, (first, last) = known["asked"], known["sizes"]
    verdict = dataclasses.replace(
        verdict,
        point=within(verdict.point, ends),
        low=within(verdict.low, ends),
        high=within(verdict.high, ends),
    )
    kind = verdict.kind
    if kind == "found" and not first <= verdict.low <= verdict.high <= last:
        kind = "undetermined"  # the interval lies where nothing was measured
    return verdict, {
        "kind": kind,
        "point": verdict.point if ends[0] < verdict.point < ends[1] else None,
        "low": verdict.low,
        "high": verdict.high,
        "masses": verdict.masses,
        "reason": why_undecided(verdict, ends, (first, last)) if kind == "undetermined" else "",
    }


def _check_arguments(*, margin: float, confidence: float, point: float) -> None:
    if not 0.5 <= confidence < 1:
        raise ValueError(f"The confidence must be from 0.5 to below 1, not {confidence}.")
    if not (math.isfinite(point) and point > 0):
        raise ValueError(f"The size of a point must be a number above 0, not {point}.")
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"The margin must be a number from 0 up, not {margin}.")


def _runs(scores: Sequence[Score], arm: str, point: float) -> Runs:
    """The trials in the model's coordinates, the baseline as arm 0; error up to a constant."""
    return Runs(
        arm=np.array([int(s.arm == arm) for s in scores]),
        x=np.array([math.nan if s.size is None else math.log(s.size) for s in scores]),
        seed=np.array([s.seed for s in scores]),
        error=np.array([-s.value / point for s in scores]),
    )


def _noise(posterior: Posterior, measured: Noise, point: float) -> Noise:
    """The sd of one trial as the fit sees it, what a seed's trials share included."""
    shared = math.hypot(posterior.shared_sd, posterior.own_shared_sd)
    return Noise(
        sd=math.hypot(posterior.sd, shared) * point, df=measured.df, source=measured.source
    )


def _bare(
    measured: Mapping[float, float], noise: Noise, why: str, known: dict[str, Any]
) -> Threshold:
    """What the means show where the noise is unknown: the point of straight lines between them."""
    x = np.log(np.array(list(measured)))
    means = np.array(list(measured.values())) - known["margin"]
    place = float(switch_points(x, means[None])[0])
    point = math.exp(place) if x[0] < place < x[-1] else None
    return Threshold(
        **known,
        kind="undetermined",
        noise=noise,
        point=point,
        differences=tuple(Difference(size=n, mean=mean) for n, mean in measured.items()),
        crossings=tuple(
            Crossing(size=math.exp(at), upward=upward)
            for at, _, _, upward in sign_changes(x, means)
        ),
        reason=why + reading(known["arm"], known["baseline"], means, point),
    )
