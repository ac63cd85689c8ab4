"""What draws of a difference curve say: the switch point's interval and the kind of answer."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from raysl.analysis.switch import Array, reversal_probabilities, switch_points

Kind = Literal["found", "always", "never", "several", "undetermined"]

SURE = 0.95  # the probability that a claim needs
DOUBTFUL = 0.2  # no single threshold where D changes sign twice with this probability ...
REVERSED = 0.6  # ... and no threshold at all, but several crossings, with this one
# A search that stops when its interval is narrow selects lucky intervals: the credible interval is
# therefore wider than the confidence that is claimed, 93 % for 90 %.
CALIBRATION = 0.7
# A difference below this many sds of one trial is on neither side. Without it 15 % of simulated
# studies whose arms do not differ were said to cross several times, with it 2 %.
SHALLOW = 0.25
COARSE = 5  # knots between those at which reversals are looked for


@dataclass(frozen=True, kw_only=True)
class Masses:
    """Probabilities that the switch point lies at the first size, inside, at the last size.

    several: that the difference changes sign at least twice; falls: from above zero to below.
    """

    below: float
    inside: float
    above: float
    several: float
    falls: float


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The kind of answer; point and interval of the switch point, in sizes."""

    kind: Kind
    point: float
    low: float
    high: float
    masses: Masses

    @property
    def ratio(self) -> float:
        """How wide the interval is: its upper end over its lower."""
        return self.high / self.low


def judge(x: Array, differences: Array, *, sd: float = 0.0, confidence: float = 0.90) -> Verdict:
    """The verdict of draws [J, K] of arm minus baseline at log sizes x [K], increasing.

    sd: of the noise of one trial: what is shallow beside it is no change of sign.
    """
    switches = switch_points(x, differences)  # [J]
    coarse = differences[:, ::COARSE]
    several, falls = reversal_probabilities(np.where(np.abs(coarse) < SHALLOW * sd, 0.0, coarse))
    below, above = float(np.mean(switches <= x[0])), float(np.mean(switches >= x[-1]))
    masses = Masses(
        below=below, inside=1 - below - above, above=above, several=several, falls=falls
    )
    tail = credible_tail(confidence)
    low, point, high = np.quantile(switches, [tail, 0.5, 1 - tail])
    return Verdict(
        kind=kind_of(masses),
        point=math.exp(point),
        low=math.exp(low),
        high=math.exp(high),
        masses=masses,
    )


def credible_tail(confidence: float) -> float:
    """The probability beyond each end of the interval that claims this confidence."""
    return (1 - confidence) / 2 * CALIBRATION


def kind_of(masses: Masses) -> Kind:
    """The kind of answer that the probabilities allow."""
    if masses.several >= REVERSED or masses.falls >= SURE:
        return "several"
    if masses.below >= SURE and masses.falls < REVERSED:
        return "always"
    if masses.above >= SURE and masses.falls < REVERSED:
        return "never"
    if masses.inside >= SURE and masses.several < DOUBTFUL:
        return "found"
    return "undetermined"
