"""The numbers that curves and thresholds are made of, from a study's results or a bare table."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysl.analysis.table_file import read_number, read_rows, read_whole
from raysl.analysis.wording import count
from raysl.config import unknown_name

BASELINES = ("scratch", "random", "supervised")
FEW = 4  # rows: fewer may agree to the last digit without anything being wrong


@dataclass(frozen=True, slots=True)
class Score:
    """The metric of one trial.

    size: None where the arm does not depend on it: one level for all sizes.
    where: how a message names the row: "row 3" or "trial 1f0a".
    """

    arm: str
    size: float | None
    seed: int
    value: float
    where: str = ""

    def __str__(self) -> str:
        if self.size is None:
            size = "any size"
        else:
            size = f"size {count(self.size) if math.isfinite(self.size) else self.size}"
        return f"{self.where or 'a row'} ({self.arm}, {size}, seed {self.seed})"


def read_table(path: Path, *, size: str = "size", metric: str = "metric") -> list[Score]:
    """Scores from a CSV or Parquet file with columns arm, size, seed, metric.

    An empty size means that the arm does not depend on it. `size` and `metric` name other columns.
    A metric that is the same in every row is refused: no study of four trials ends like that.
    """
    scores = check_scores(
        [
            Score(
                arm=_name(row["arm"], where),
                size=None
                if row[size] in (None, "")
                else read_number(row[size], where, size, is_count=True),
                seed=read_whole(row["seed"], where, "seed"),
                value=read_number(row[metric], where, metric),
                where=where,
            )
            for where, row in read_rows(path, ("arm", size, "seed", metric))
        ]
    )
    if len(scores) >= FEW and len({score.value for score in scores}) == 1:
        raise ValueError(
            f"{path}: the {metric} is {scores[0].value:g} in all {len(scores)} rows; check that "
            "the column holds what was measured."
        )
    return scores


def scores_from_results(
    table: Any,
    *,
    metric: str,
    size_axis: str = "pool_size",
    where: Mapping[str, Any] | None = None,
    with_collapsed: bool = True,
) -> list[Score]:
    """Scores of the finished confirmation trials in a results table (`load_results`).

    where: values of further axes; a trial that is null on one of them belongs to every value.
    Failed trials and those without the metric are not among them; the report lists both.
    """
    if metric not in table.column_names:
        return []
    scores = []
    for row in table.to_pylist():
        fits = all(row.get(axis) in (None, value) for axis, value in (where or {}).items())
        fits &= with_collapsed or "collapsed" not in row["flags"]
        if row["phase"] == "confirm" and row["status"] == "ok" and fits:
            value, size = row[metric], row.get(size_axis)
            if value is not None and math.isfinite(value):
                size = None if size is None else float(size)
                name = f"trial {row['digest']}"
                scores.append(Score(row["arm"], size, row["seed"], value, name))
    return check_scores(scores)


def check_scores(scores: Sequence[Score]) -> list[Score]:
    """The scores in order, or a ValueError that names the row at fault."""
    seen: dict[tuple[str, float | None, int], Score] = {}
    flat: dict[str, Score] = {}
    for score in scores:
        if not math.isfinite(score.value):
            raise ValueError(f"{_start(score)} has no finite metric; fill it in or remove the row.")
        if score.size is not None and not (math.isfinite(score.size) and score.size > 0):
            raise ValueError(
                f"{_start(score)}: a size must be above 0 and finite; leave it empty for an arm "
                "that does not depend on it."
            )
        key = (score.arm, score.size, score.seed)
        if key in seen:
            raise ValueError(
                f"{_start(score)} repeats {seen[key].where or 'an earlier row'}; give repetitions "
                "different seeds, and keep one row for each arm, size and seed."
            )
        seen[key] = score
        other = flat.setdefault(score.arm, score)
        if (other.size is None) != (score.size is None):
            raise ValueError(
                f"Arm {score.arm!r} has rows with a size and without ({other.where}, "
                f"{score.where}); an arm either depends on the size or does not."
            )
    order = [(s.arm, -1.0 if s.size is None else s.size, s.seed) for s in scores]
    return [scores[i] for i in sorted(range(len(scores)), key=order.__getitem__)]


def choose_arms(
    scores: Iterable[Score], arm: str | None = None, baseline: str | None = None
) -> tuple[str, str]:
    """The pair to compare; only a baseline called scratch, random or supervised is guessed."""
    arms = sorted({score.arm for score in scores})
    baseline = choose_baseline(arms, baseline, arm=arm)
    if arm is None:
        others = [name for name in arms if name != baseline]
        if len(others) != 1:
            raise ValueError(
                f"Name the arm to compare with {baseline!r}; it may be {', '.join(others)}."
            )
        arm = others[0]
    if arm == baseline:
        raise ValueError(f"Arm and baseline are both {arm!r}; name two different arms.")
    return arm, baseline


def choose_baseline(arms: Sequence[str], baseline: str | None, *, arm: str | None = None) -> str:
    """The named baseline, or the only usual one of the arms."""
    for name in (arm, baseline):
        if name is not None and name not in arms:
            raise ValueError(unknown_name("arm", name, arms))
    if len(arms) < 2:
        there = f"is only {arms[0]!r}" if arms else "are no scores"
        raise ValueError(f"A comparison needs two arms, and there {there}; add rows of another.")
    if baseline is not None:
        return baseline
    usual = [name for name in arms if name in BASELINES and name != arm]
    if len(usual) != 1:
        raise ValueError(f"Name the baseline; the arms are {', '.join(arms)}.")
    return usual[0]


def _start(score: Score) -> str:
    text = str(score)
    return text[0].upper() + text[1:]


def _name(value: Any, where: str) -> str:
    if value is None or not str(value).strip():
        raise ValueError(f"{where.capitalize()} names no arm; fill it in or remove the row.")
    return str(value).strip()
