"""Sentences beside a threshold: why it is undetermined, what it rests on, what to beware of."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from raysl.analysis.curves import Array
from raysl.analysis.forecast import RATIO, forecast_text, pairs_needed, runs_needed
from raysl.analysis.levels import Noise
from raysl.analysis.posterior import FALLING, Draws, Posterior
from raysl.analysis.switch import switch_points
from raysl.analysis.verdict import DOUBTFUL, SURE, Verdict, credible_tail
from raysl.analysis.wording import about, arm_title, count, listed, number, points, probability

REDRAWN = 0.05  # share of drawn curves that got worse with more images, worth a word
NOTICED = 0.3  # of the noise of one trial, worth a word
BENT = 0.1  # probability of a curve that falls on the way, or crosses again beyond, worth a word
FURTHER = math.log(2)  # how far beyond the range the curves are looked at, in e-folds
TIGHTEST = 1.05  # ratio of an interval's ends, where n* lies close to an end of the range


def why_no_noise(most_seeds: int) -> str:
    """Why the noise between seeds is unknown, and what to do."""
    if most_seeds == 1:
        return (
            "each cell has one seed, so the noise between seeds is unknown (run two seeds or "
            "more, or assume an sd)"
        )
    return (
        "the repetitions of every cell agree exactly, so the noise between seeds is unknown "
        "(check that the seeds differ, or assume an sd)"
    )


def reading(arm: str, baseline: str, means: Array, point: float | None) -> str:
    """What the bare means show, where no more is known."""
    if point is not None:
        return f"; the means cross at about {about(point)}"
    leader = arm if means.sum() > 0 else baseline
    everywhere = np.all(means > 0) or np.all(means < 0)
    return f"; in the means {arm_title(leader)} is ahead" if everywhere else ""


def why_undecided(verdict: Verdict, asked: tuple[float, float], sizes: tuple[float, float]) -> str:
    """What keeps the answer open, with its probabilities."""
    masses = verdict.masses
    if max(masses.below, masses.above) >= SURE:
        text = (
            "the difference may fall from above zero to below "
            f"(probability {probability(masses.falls)})"
        )
    elif masses.inside >= SURE and masses.several >= DOUBTFUL:
        text = (
            "the difference may change sign more than once "
            f"(probability {probability(masses.several)})"
        )
    elif masses.inside >= SURE:
        text = (
            f"the crossing may lie outside {count(sizes[0])} to {count(sizes[1])}, the sizes "
            "that both arms were measured at"
        )
    else:
        low, high = count(asked[0]), count(asked[1])
        likely = {
            f"below {low}": masses.below,
            f"between {low} and {high}": masses.inside,
            f"above {high}": masses.above,
        }
        texts = [
            f"{place} (probability {probability(mass)})"
            for place, mass in likely.items()
            if mass >= 0.005
        ]
        text = f"the crossing may lie {listed(texts, 'or')}"
    if asked[0] < verdict.point < asked[1]:
        text += f"; it is likeliest near {about(verdict.point)}"
    return text


def notes_on_fit(
    posterior: Posterior,
    draws: Draws,
    verdict: Verdict,
    *,
    noise: Noise,
    known: Mapping[str, Any],
) -> tuple[str, ...]:
    """Noise, smallest difference, extrapolation, shape, outliers and what more trials would buy."""
    arms = [arm_title(known["baseline"]), arm_title(known["arm"])]
    notes = [_on_noise(posterior, noise, known)]
    if verdict.kind in ("always", "never"):
        notes.append(_smallest(draws, confidence=known["confidence"]))
    notes += _on_extrapolation(draws, verdict, known)
    if np.isfinite(np.unique(posterior.runs.x)).sum() == 2:
        notes.append(
            "Only two sizes were measured: between them the answer rests on the shape of the "
            "fitted curves."
        )
    notes += _on_shape(draws, arms)
    num_outliers = int(np.sum(posterior.weight < 0.6))
    if num_outliers:
        trials = "1 trial lies" if num_outliers == 1 else f"{num_outliers} trials lie"
        notes.append(f"{trials} far from the curves and count for less.")
    if verdict.kind == "undetermined":
        notes += _forecast(posterior, draws, known)
    return tuple(notes)


def _on_noise(posterior: Posterior, noise: Noise, known: Mapping[str, Any]) -> str:
    if noise.source == "assumed":
        assert noise.sd is not None
        sd = number(noise.sd / known["point_size"])
        text = f"The seed sd of {sd} points is assumed, not measured"
        if known["num_seeds"][1] == 1:
            text += ": each cell has one seed"
        return text + "."
    text = f"The noise of one trial has sd {posterior.sd:.2f} points ({noise.df} df measured)"
    if posterior.correlation > 0.02:
        text += (
            f" beside sd {posterior.shared_sd:.2f} that all trials of a seed share, which cancels "
            "between arms with the same seeds"
        )
    if posterior.own_shared_sd > NOTICED * posterior.sd:
        text += (
            f"; sd {posterior.own_shared_sd:.2f} that the trials of a seed and an arm share at all "
            "sizes does not cancel"
        )
    return text + "."


def _smallest(draws: Draws, *, confidence: float) -> str:
    lead = draws.errors(0) - draws.errors(1)  # [J, K]
    closest = int(np.argmin(np.abs(np.median(lead, axis=0))))
    tail = credible_tail(confidence)
    low, middle, high = np.quantile(lead[:, closest], [tail, 0.5, 1 - tail])
    return (
        f"The smallest difference is {points(middle)} points at about "
        f"{about(math.exp(draws.span.knots[closest]))} "
        f"({100 * confidence:g} % interval {points(low)} to {points(high)})."
    )


def _on_extrapolation(draws: Draws, verdict: Verdict, known: Mapping[str, Any]) -> list[str]:
    (first, last), (low, high) = known["sizes"], known["asked"]
    notes = []
    if (first, last) != (low, high) and verdict.kind in ("always", "never"):
        notes.append(
            f"Both arms were measured from {count(first)} to {count(last)} only; beyond that the "
            "answer rests on the fitted curves."
        )
    x = draws.span.knots
    beyond = np.linspace(x[0] - FURTHER, x[0], 12)[:-1]
    wide = np.concatenate([beyond, x, np.linspace(x[-1], x[-1] + FURTHER, 12)[1:]])
    lead = draws.errors(0, wide) - draws.errors(1, wide) - known["margin"] / known["point_size"]
    inside = slice(len(beyond), len(beyond) + len(x))
    changes = (np.diff(np.sign(lead), axis=1) != 0).sum(axis=1)
    within = (np.diff(np.sign(lead[:, inside]), axis=1) != 0).sum(axis=1)
    again = float(np.mean(changes > within))
    if again > BENT:
        notes.append(
            f"Nothing is claimed outside {count(low)} to {count(high)}: continued to half and "
            f"twice these sizes, the curves cross there with probability {probability(again)}."
        )
    return notes


def _on_shape(draws: Draws, arms: list[str]) -> list[str]:
    notes = []
    for arm, title in enumerate(arms):
        rejected = float(draws.rejected[arm])
        if rejected > FALLING:
            notes.append(f"{title} gets worse with more images (probability {rejected:.2f}).")
        elif rejected > REDRAWN:
            notes.append(
                f"{title} may get worse with more images: {100 * rejected:.0f} % of its possible "
                "curves did, and were left out."
            )
        error = draws.errors(arm)
        rise = (error - np.minimum.accumulate(error, axis=1)).max(axis=1)  # [J]
        bent = float(np.mean(rise > draws.sds[arm]))
        if rejected <= FALLING and bent > BENT:
            notes.append(
                f"{title} may lose more than the noise of a trial on the way up (probability "
                f"{probability(bent)}), so a smooth curve is doubtful."
            )
    return notes


def _forecast(posterior: Posterior, draws: Draws, known: Mapping[str, Any]) -> list[str]:
    """What it would take, from the noise and the slope of the difference at its likeliest n*.

    The interval must leave out the nearer end of the range; where enough was run for that, nothing.
    """
    x = draws.span.knots
    lead = draws.errors(0) - draws.errors(1)  # [J, K]
    steps = np.median(np.diff(lead, axis=1), axis=0) / np.diff(x)  # [K - 1] points per e-fold
    margin = known["margin"] / known["point_size"]
    place = float(np.median(switch_points(x, lead - margin)))
    slope = float(np.interp(place, (x[1:] + x[:-1]) / 2, steps)) * math.log(2)
    slope, sd = float(f"{slope:.2g}"), float(f"{posterior.sd:.2g}")
    nearer = min(place - x[0], x[-1] - place)
    ratio = round(min(max(math.exp(2 * nearer), TIGHTEST), RATIO), 2)
    near = np.abs(posterior.runs.x - place) < math.log(2)
    flat = posterior.arms[0].is_flat
    baseline = posterior.runs.arm == 0
    done = {
        "arm_runs": int(np.sum(near & ~baseline)),
        "baseline_runs": int(np.sum(baseline & (near | flat))),
    }
    pairs = pairs_needed(sd, slope / math.log(2), ratio=ratio)
    if math.isfinite(pairs) and runs_needed(pairs, **done) == 0:
        return []
    text = forecast_text(
        arm=known["arm"],
        baseline=known["baseline"],
        sd=sd,
        slope=slope,
        ratio=ratio,
        flat_baseline=flat,
        **done,
    )
    return [text]
