"""One arm beside the baseline at one combination of further axes: threshold, ranking, claims."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysl.analysis.answer import Threshold
from raysl.analysis.claims import Claim, beats_baseline, claims_sentence
from raysl.analysis.curves import Prior
from raysl.analysis.levels import Curve, Noise, make_curves
from raysl.analysis.models import ModelComparison, compare_models
from raysl.analysis.ranking import Ranking, rank_arms, ranking_sizes
from raysl.analysis.scores import Score
from raysl.analysis.test_set import Flags, ImageSpread, test_set_sd
from raysl.analysis.threshold import find_threshold
from raysl.analysis.wording import arm_title, count, listed, metric_title, points

CONFIDENCE = 0.90


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The arms at one combination of further axes; `where` is empty without such axes.

    threshold: None for the `reason`, a sentence. notes: sentences beside either. rankings, claims:
    of three or more arms. models: other families of curves, where there is a threshold. point: one
    point in units of the metric. test_set: what the choice of test images adds, where it is known.
    """

    where: Mapping[str, Any]
    curves: tuple[Curve, ...]
    threshold: Threshold | None
    reason: str = ""
    notes: tuple[str, ...] = ()
    rankings: tuple[Ranking, ...] = ()
    claims: tuple[Claim, ...] = ()
    test_set: ImageSpread | None = None
    models: ModelComparison | None = None
    point: float = 1.0


def compare(
    study: Mapping[str, Any],
    arm: str,
    where: Mapping[str, Any],
    *,
    scores: Sequence[Score],
    healthy: Sequence[Score],
    ranked: Sequence[Score],
    noise: Noise,
    metric: str,
    unit: str,
    correct: Mapping[str, Flags],
) -> Comparison:
    """One arm beside the baseline; healthy: without collapsed trials; ranked: to be ranked.

    correct: by a score's `where`, which test images its trial got right, of the trials that tell.
    """
    baseline = study["baseline"]
    spread, untold = _test_set(arm, baseline, scores, correct)
    threshold, reason = _threshold(
        study, arm, scores, metric=metric, unit=unit, test_set_sd=spread.sd if spread else None
    )
    notes = meanings(study, where) + untold + ([spread.sentence()] if spread else [])
    left_out = {s.where for s in scores if s.arm in (arm, baseline)} - {s.where for s in healthy}
    if threshold is not None and left_out:
        other, why = _threshold(study, arm, healthy, metric=metric, unit=unit)
        text = other.sentence() if other else why
        notes.append(f"Without the collapsed trials ({len(left_out)}): {text}")
    point = size_of_a_point(metric, scores) if scores else 1.0
    rankings, claims, unranked = rank(baseline, ranked, threshold, unit=unit)
    return Comparison(
        where=where,
        curves=make_curves(scores, confidence=CONFIDENCE, noise=noise) if scores else (),
        threshold=threshold,
        reason=reason if baseline else _best(scores, noise, metric=metric, unit=unit),
        notes=(*notes, *unranked),
        rankings=rankings,
        claims=claims,
        models=None if threshold is None else families_of(scores, threshold, point=point),
        point=point,
        test_set=spread,
    )


def compare_at_one_size(
    study: Mapping[str, Any],
    where: Mapping[str, Any],
    *,
    scores: Sequence[Score],
    noise: Noise,
    unit: str,
) -> Comparison:
    """Several methods where no axis of sizes can hold a threshold: how they rank is the answer."""
    rankings, claims, unranked = rank(study["baseline"], scores, None, unit=unit)
    sentences = [text for ranking in rankings for text in (ranking.sentence(), ranking.odds())]
    if claims:
        sentences.append(claims_sentence(claims))
    return Comparison(
        where=where,
        curves=make_curves(scores, confidence=CONFIDENCE, noise=noise) if scores else (),
        threshold=None,
        reason=" ".join(sentences or unranked or ("No ranking: fewer than three arms finished.",)),
        notes=(*meanings(study, where), *(unranked if sentences else ())),
        rankings=rankings,
        claims=claims,
    )


def compare_tables(
    scores: Sequence[Score],
    *,
    arms: Sequence[str],
    baseline: str,
    confidence: float,
    point: float,
    **options: Any,
) -> tuple[Comparison, ...]:
    """Each arm of a bare table beside the baseline; options: of `find_threshold`.

    The first one ranks all arms. ValueError where the scores cannot hold a threshold.
    """
    found = []
    for arm in arms:
        threshold = find_threshold(
            scores, arm=arm, baseline=baseline, confidence=confidence, point=point, **options
        )
        own = [s for s in scores if s.arm == arm or s.arm not in arms]
        ranked = scores if arm == arms[0] else []
        rankings, claims, unranked = rank(baseline, ranked, threshold, unit=threshold.unit)
        found.append(
            Comparison(
                where={},
                curves=make_curves(own, confidence=confidence),
                threshold=threshold,
                notes=unranked,
                rankings=rankings,
                claims=claims,
                models=families_of(scores, threshold, point=point),
                point=point,
            )
        )
    return tuple(found)


def families_of(scores: Sequence[Score], threshold: Threshold, *, point: float) -> ModelComparison:
    """How other families of curves do on the threshold's two arms."""
    noise = threshold.noise
    return compare_models(
        scores,
        arm=threshold.arm,
        baseline=threshold.baseline,
        sd=noise.sd if noise.source == "assumed" else None,
        point=point,
    )


def _test_set(
    arm: str, baseline: str | None, scores: Sequence[Score], correct: Mapping[str, Flags]
) -> tuple[ImageSpread | None, list[str]]:
    """What the choice of test images adds, or why that cannot be told."""
    if baseline is None or not correct:
        return None, []
    try:
        return test_set_sd(scores, correct, arm=arm, baseline=baseline), []
    except ValueError as error:  # one seed
        return None, [str(error)]


def meanings(study: Mapping[str, Any], where: Mapping[str, Any]) -> list[str]:
    """What a combination asks, a sentence for each axis of which the study says it."""
    known = study.get("meanings", {})
    return [known[a][str(v)] for a, v in where.items() if str(v) in known.get(a, {})]


def _threshold(
    study: Mapping[str, Any],
    arm: str,
    scores: Sequence[Score],
    *,
    metric: str,
    unit: str,
    test_set_sd: float | None = None,
) -> tuple[Threshold | None, str]:
    """The threshold, or why there is none; neither where the study asks for none."""
    baseline = study["baseline"]
    if baseline is None:
        return None, ""
    present = {score.arm for score in scores}
    absent = [arm_title(name) for name in (arm, baseline) if name not in present]
    if absent:
        return None, f"No threshold: no trial of {listed(absent)} has finished with {metric}."
    design = study.get("design") or {}
    options: dict[str, Any] = {
        "point": size_of_a_point(metric, scores),
        "test_set_sd": test_set_sd,
    }
    if design:
        options |= {"margin": design["margin"], "prior": _prior(design)}
    if study.get("planner") == "threshold":
        sizes = study["axes"][study["size_axis"]]
        options["asked"] = (float(min(sizes)), float(max(sizes)))
    try:
        return find_threshold(
            scores, arm=arm, baseline=baseline, confidence=CONFIDENCE, unit=unit, **options
        ), ""
    except ValueError as error:  # too few sizes in common
        return None, f"No threshold: {error}"


def _prior(design: Mapping[str, Any]) -> Prior:
    return Prior(sd=design["sd"], sd_spread=design["sd_spread"])


def size_of_a_point(metric: str, scores: Sequence[Score]) -> float:
    """1 for accuracies, which are percent; of any other metric a twentieth of its spread.

    The priors of the curves are in points; accuracies that differ by 20 are what they are made for.
    """
    values = [score.value for score in scores]
    spread = max(values) - min(values)
    return 1.0 if "_top" in metric or spread == 0 else spread / 20


def rank(
    baseline: str | None, scores: Sequence[Score], threshold: Threshold | None, *, unit: str
) -> tuple[tuple[Ranking, ...], tuple[Claim, ...], tuple[str, ...]]:
    """Of three or more arms the rankings, the claims, and a sentence where there are none."""
    arms = {score.arm for score in scores}
    if len(arms) < 3:
        return (), (), ()
    sizes = ranking_sizes(scores, near=threshold.point if threshold else None)
    try:
        rankings = tuple(rank_arms(scores, size=size, unit=unit) for size in sizes)
        claims = beats_baseline(scores, baseline=baseline) if baseline in arms else ()
    except ValueError as error:  # no repeated cell
        return (), (), (f"No ranking: {error}",)
    return rankings, claims, ()


def _best(scores: Sequence[Score], noise: Noise, *, metric: str, unit: str) -> str:
    """The answer of a study that compares nothing: its best cell."""
    if not scores:
        return ""
    curves = make_curves(scores, confidence=CONFIDENCE, noise=noise)
    levels = [(curve.arm, level) for curve in curves for level in curve.levels]
    arm, level = max(levels, key=lambda pair: pair[1].mean)
    place = "" if level.size is None else f" at {count(level.size)} {unit}"
    text = f"{arm_title(arm)} does best{place}: {points(level.mean)}"
    if level.low is not None and level.high is not None:
        text += f" ({100 * CONFIDENCE:g} % interval {points(level.low)} to {points(level.high)})"
    return f"{text} in {metric_title(metric)}. No baseline was named, so there is no threshold."
