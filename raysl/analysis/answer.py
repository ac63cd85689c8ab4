"""The answer of a threshold question as a value, and as a sentence."""

from dataclasses import dataclass
from typing import Literal

from raysl.analysis.levels import Noise
from raysl.analysis.wording import about, arm_title, count, limits, listed

Design = Literal["independent", "pairs", "blocks"]
Kind = Literal["found", "always", "never", "several", "undetermined"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Arm minus baseline at one size, in the metric's points; None without known noise.

    low, high: the interval at this size; band_low, band_high: of all sizes simultaneously.
    """

    size: float
    mean: float
    low: float | None = None
    high: float | None = None
    band_low: float | None = None
    band_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A change of sign of the mean difference, and its probability where the noise is known."""

    size: float
    upward: bool
    probability: float | None = None


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
class Threshold:
    """From which size on an arm beats its baseline.

    kind: "found" at `point`; "always", "never": no crossing, the arm is ahead everywhere or
        nowhere; "several": the difference changes sign otherwise than once upwards, see
        `crossings`; "undetermined" for the `reason`.
    sizes: the smallest and largest size that both arms have; nothing is claimed outside.
    point: the switch point of the means; None where they do not cross upwards.
    low, high: the interval; an end at an end of `sizes` is open there (`interval_text`).
    num_seeds: the smallest and largest number of seeds in a cell of the two arms.
    noise: of a single trial, pooled over all cells of the two arms.
    design: how the noise of the difference was taken (`spread`); None where it is unknown.
    notes: sentences that a reader needs beside the answer; how the arms' noise was taken is one.
    """

    arm: str
    baseline: str
    unit: str
    kind: Kind
    confidence: float
    sizes: tuple[float, float]
    differences: tuple[Difference, ...]
    crossings: tuple[Crossing, ...]
    num_seeds: tuple[int, int]
    noise: Noise
    design: Design | None = None
    point: float | None = None
    low: float | None = None
    high: float | None = None
    masses: Masses | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()

    def interval_text(self) -> str:
        """ "820-1,900", "below 500 to 1,900"; empty without an interval."""
        if self.low is None or self.high is None:
            return ""
        low, high = limits(self.low, self.high, self.sizes)
        if low == high:
            return low
        return f"{low}-{high}" if low[0].isdigit() and high[0].isdigit() else f"{low} to {high}"

    def sentence(self) -> str:
        """The answer in one sentence."""
        arm, baseline = arm_title(self.arm), arm_title(self.baseline)
        interval = f"{100 * self.confidence:g} % interval {self.interval_text()}"
        between = f"between {count(self.sizes[0])} and {count(self.sizes[1])} {self.unit}"
        near = [d.size for d in self.differences if (d.low or 0) <= 0 <= (d.high or 0)]
        close = (
            f", though too close to call at {listed(count(size) for size in near)}" if near else ""
        )
        if self.kind == "found":
            assert self.point is not None
            text = f"{arm} beats {baseline} from about {about(self.point)} {self.unit} on"
            text += f", {interval}"
        elif self.kind == "always":
            text = f"No crossing {between}: {arm} is ahead of {baseline} everywhere{close}"
        elif self.kind == "never":
            text = f"No crossing {between}: {arm} is ahead of {baseline} nowhere{close}"
        elif self.kind == "several":
            text = self._reversal(arm, baseline, between)
        else:
            text = f"Undetermined, because {self.reason}"
            if (self.low, self.high) not in ((None, None), self.sizes):
                text += f"; the {100 * self.confidence:g} % interval of the crossing is "
                text += self.interval_text()
        if self.kind == "found" and len(self.differences) == 2:
            text += ", if the difference is straight in log n between the only two sizes"
        if self.noise.source == "assumed":
            text += f", assuming a seed sd of {self.noise.sd:g} points"
        return text + "."

    def _reversal(self, arm: str, baseline: str, between: str) -> str:
        places = [about(crossing.size) for crossing in self.crossings]
        if [crossing.upward for crossing in self.crossings] == [False]:
            return f"{arm} stops being ahead of {baseline} at about {places[0]} {self.unit}"
        return (
            f"No single threshold {between}: {arm} and {baseline} cross more than once"
            f"{', at about ' + listed(places) if places else ''}"
        )
