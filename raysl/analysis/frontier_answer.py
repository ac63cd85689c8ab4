"""The answer of a frontier question as a value, and as a sentence."""

from dataclasses import dataclass

from raysl.analysis.levels import Noise
from raysl.analysis.verdict import Kind, Masses
from raysl.analysis.wording import about, arm_title, count, limits, listed


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """Arm minus baseline in one cell: the difference of the means of their seeds."""

    label_size: float
    pool_size: float
    mean: float
    num_seeds: tuple[int, int]  # of the arm, of the baseline


@dataclass(frozen=True, kw_only=True)
class LinePoint:
    """The frontier's line at one label size: median and band of the pool size, within the grid."""

    label_size: float
    point: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class FrontierPoint:
    """From which pool size on the arm pays at one label size.

    kind: as of a Threshold. point: the median; None at an end of the grid. low, high: the
    interval; an end at an end of the grid is open there.
    """

    label_size: float
    kind: Kind
    point: float | None
    low: float
    high: float
    masses: Masses


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """From which pool size on `arm` beats `baseline` by `margin` points; sizes increase.

    points: at the label sizes of the grid. line: the same with steps between them, to draw.
    noise: of a single trial, pooled over the cells of both arms.
    """

    arm: str
    baseline: str
    confidence: float
    margin: float
    pool_sizes: tuple[float, ...]
    label_sizes: tuple[float, ...]
    cells: tuple[GridCell, ...]
    points: tuple[FrontierPoint, ...]
    line: tuple[LinePoint, ...]
    noise: Noise

    def interval_text(self, point: FrontierPoint | LinePoint) -> str:
        """ "820 to 1,900", "below 500 to 1,900"; one word where the whole band is at an end."""
        low, high = limits(point.low, point.high, (self.pool_sizes[0], self.pool_sizes[-1]))
        return low if low == high else f"{low} to {high}"

    def sentence(self) -> str:
        """The answer in one sentence, label size by label size."""
        better = f" by {self.margin:g} points" if self.margin else ""
        interval = f"{100 * self.confidence:g} % interval"
        claims = [
            f"from about {about(p.point)} unlabelled images on with {count(p.label_size)} labels "
            f"({interval} {self.interval_text(p)})"
            for p in self._of_kind("found")
            if p.point is not None
        ]
        ends = f"from {count(self.pool_sizes[0])} to {count(self.pool_sizes[-1])}"
        for kind, words in (("always", "at every pool size"), ("never", "at no pool size")):
            if chosen := self._of_kind(kind):
                claims.append(f"{words} {ends} with {_labels(chosen)}")
        parts = []
        if claims:
            names = f"{arm_title(self.arm)} beats {arm_title(self.baseline)}"
            parts.append(f"{names}{better} {listed(claims)}")
        if chosen := self._of_kind("several"):
            parts.append(f"with {_labels(chosen)} it is not ahead from one pool size on")
        if chosen := self._of_kind("undetermined"):
            doubts = [
                f"{count(p.label_size)} labels ({interval} {self.interval_text(p)})" for p in chosen
            ]
            parts.append(f"undetermined with {listed(doubts)}")
        text = "; ".join(parts)
        return f"{text[0].upper()}{text[1:]}."

    def _of_kind(self, kind: str) -> list[FrontierPoint]:
        return [point for point in self.points if point.kind == kind]


def _labels(points: list[FrontierPoint]) -> str:
    return f"{listed(count(point.label_size) for point in points)} labels"
