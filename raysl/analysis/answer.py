"""The answer of a threshold question as a value, and as a sentence."""

from dataclasses import dataclass

from raysl.analysis.levels import Noise
from raysl.analysis.verdict import Kind, Masses
from raysl.analysis.wording import about, arm_title, count, limits, listed, number


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Arm minus baseline at one size, in units of the metric; None where nothing is known.

    mean: of the trials at this size; None between the sizes. estimate, low, high: the curves'
    difference with its interval; band_low, band_high: of all sizes simultaneously.
    """

    size: float
    mean: float | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    band_low: float | None = None
    band_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A change of sign of the difference; its probability and interval where they are known."""

    size: float
    upward: bool
    probability: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class FittedCurve:
    """The curve of an arm: quantiles 0.05, 0.25, 0.5, 0.75 and 0.95 of the metric at sizes [K]."""

    arm: str
    is_flat: bool
    sizes: tuple[float, ...]
    quantiles: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Residual:
    """How far a trial lies from its arm's curve, in sds of the noise of one trial."""

    arm: str
    size: float | None
    seed: int
    z: float


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """From which size on an arm beats its baseline (by more than `margin`).

    kind: "found" at `point`; "always", "never": no crossing, the arm is ahead everywhere or
        nowhere; "several": the difference changes sign otherwise than once upwards, see
        `crossings`; "undetermined" for the `reason`.
    sizes: the smallest and largest size that both arms have; no threshold is claimed outside.
    asked: the range that the question is about; wider than `sizes` while a search is under way.
    point: the switch point, its posterior median where the noise is known; None at an end.
    low, high: the interval; an end at an end of `asked` is open there (`interval_text`).
    differences: at the sizes that both arms have; band: along the whole range asked for.
    places: posterior of n*, as (from, to, probability), without what lies at the ends.
    num_seeds: the smallest and largest number of seeds in a cell of the two arms.
    noise: of a single trial. correlation: of the noise of two trials with one seed.
    point_size: of a point in units of the metric, in which margin, noise and differences are;
        sentences say points.
    notes: sentences that a reader needs beside the answer.
    """

    arm: str
    baseline: str
    unit: str
    kind: Kind
    confidence: float
    sizes: tuple[float, float]
    asked: tuple[float, float]
    differences: tuple[Difference, ...]
    crossings: tuple[Crossing, ...]
    num_seeds: tuple[int, int]
    noise: Noise
    margin: float = 0.0
    point_size: float = 1.0
    correlation: float | None = None
    point: float | None = None
    low: float | None = None
    high: float | None = None
    masses: Masses | None = None
    band: tuple[Difference, ...] = ()
    curves: tuple[FittedCurve, ...] = ()
    places: tuple[tuple[float, float, float], ...] = ()
    residuals: tuple[Residual, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()

    def interval_text(self) -> str:
        """ "820-1,900", "below 500 to 1,900"; empty without an interval."""
        if self.low is None or self.high is None:
            return ""
        return _interval(self.low, self.high, self.asked)

    def sentence(self) -> str:
        """The answer in one sentence."""
        arm, baseline = arm_title(self.arm), arm_title(self.baseline)
        interval = f"{100 * self.confidence:g} % interval {self.interval_text()}"
        between = f"between {count(self.asked[0])} and {count(self.asked[1])} {self.unit}"
        lead = f" by {number(self.margin / self.point_size)} points" if self.margin else ""
        near = [
            d.size
            for d in self.differences
            if (d.low or 0) <= self.margin <= (d.high or 0) and d.low is not None
        ]
        close = (
            f", though too close to call at {listed(count(size) for size in near)}" if near else ""
        )
        if self.kind == "found":
            assert self.point is not None
            text = f"{arm} beats {baseline}{lead} from about {about(self.point)} {self.unit} on"
            text += f", {interval}"
        elif self.kind == "always":
            text = f"No crossing {between}: {arm} is ahead of {baseline}{lead} everywhere{close}"
        elif self.kind == "never":
            text = f"No crossing {between}: {arm} is ahead of {baseline}{lead} nowhere{close}"
        elif self.kind == "several":
            text = self._reversal(arm, baseline + lead, between)
        else:
            text = f"Undetermined, because {self.reason}"
            if self.low != self.high and (self.low, self.high) != self.asked:
                text += f"; the {100 * self.confidence:g} % interval of the crossing is "
                text += self.interval_text()
        if self.noise.source == "assumed":
            assert self.noise.sd is not None
            text += f", assuming a seed sd of {number(self.noise.sd / self.point_size)} points"
        return text + "."

    def _reversal(self, arm: str, baseline: str, between: str) -> str:
        places = [about(crossing.size) for crossing in self.crossings]
        if [crossing.upward for crossing in self.crossings] == [False]:
            (crossing,) = self.crossings
            text = f"{arm} stops being ahead of {baseline} at about {places[0]} {self.unit}"
            if crossing.low is not None and crossing.high is not None:
                interval = _interval(crossing.low, crossing.high, self.asked)
                text += f", {100 * self.confidence:g} % interval {interval}"
            return text
        return (
            f"No single threshold {between}: {arm} and {baseline} cross more than once"
            f"{', at about ' + listed(places) if places else ''}"
        )


def _interval(low: float, high: float, ends: tuple[float, float]) -> str:
    first, last = limits(low, high, ends)
    if first == last:
        return first
    plain = first[0].isdigit() and last[0].isdigit()
    return f"{first}-{last}" if plain else f"{first} to {last}"
