"""How much of a difference of accuracies is owed to the test images that happen to be there.

Let d_i be the difference of how often two arms get image i right, over all seeds. The difference of
their accuracies on m images is the mean of the d_i, so from one test set to another its variance is

    Var(d) / m

All trials on one test set have this part in common: more seeds do not average it out, more test
images do (Jordan, "On the variance of neural network training with respect to test sets and
distributions", ICLR 2024, tells it from what seeds do).

The frequencies f_i over the seeds that were run vary over the images by more than Var(d), namely by
the flips of the seeds, too. Those are independent between seeds, so the covariance over the images
of two trials with different seeds is free of them, without bias:

    Var(d) = C(arm, arm) + C(baseline, baseline) - 2 C(arm, baseline)

where C is the mean, over all pairs of trials with different seeds, of their sample covariance over
the images. With r seeds this is Var_i(f_i) less 1/r of the within-image variance over the seeds,
from which what moves all images of a trial alike is left out. Pairs with the same seed are left out
between the arms as well, since they share labelled images.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysl.analysis.scores import Score
from raysl.analysis.wording import count, listed, number, points
from raysl.result import stored_correct
from raysl.study.results import TRIALS_FOLDER

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

LIMIT = 1.645  # sds above the estimate: what is exceeded with probability 0.05
ALIKE = 0.5  # correlation between sizes below which a shift common to all sizes is a rough picture


@dataclass(frozen=True, kw_only=True)
class ImageSpread:
    """What the choice of test images adds to the difference of two arms, in points.

    sds: (size, sd) at each size where it can be told. sd: pooled over them; at_most: its upper 95 %
    limit, since with few images or seeds it is known roughly. correlation: between the sizes, of
    the images' differences; 1 where another test set would shift the whole curve; None where it
    cannot be told.
    """

    arm: str
    baseline: str
    num_images: int
    sds: tuple[tuple[float, float], ...]
    sd: float
    at_most: float
    correlation: float | None

    def sentence(self) -> str:
        """What another test set would do, and what would help."""
        start = f"On another test set of {count(self.num_images)} images the difference would vary"
        if self.sd < 0.005:
            return f"{start} by a further sd of at most {self.at_most:.2f} points."
        text = (
            f"{start} by a further sd of {points(self.sd)} points, which more seeds do not take "
            "away; four times as many test images would halve it."
        )
        if self.correlation is not None and self.correlation < ALIKE:
            text += (
                " It would move the sizes differently (correlation "
                f"{number(self.correlation, digits=2)}), so that one shift of the whole curve is "
                "a rough picture of it."
            )
        return text


def read_correct(study_directory: Path, digests: Iterable[str], metric: str) -> dict[str, Flags]:
    """Which test images each trial got right, bool [M]; without the trials that kept no record.

    metric: "test/linear_top1", or without the split.
    """
    name = metric.removeprefix("test/")
    found = {}
    for digest in digests:
        correct = stored_correct(study_directory / TRIALS_FOLDER / digest)
        if name in correct:
            found[digest] = correct[name]
    return found


def test_set_sd(
    scores: Sequence[Score], correct: Mapping[str, Flags], *, arm: str, baseline: str
) -> ImageSpread:
    """What the choice of test images adds to `arm` minus `baseline` at each size that both have.

    correct: by a score's `where`, the test images that its trial got right [M]; scores that are not
    in it are passed over. An arm whose sizes are None has the same trials at every size. Variances
    are pooled before a negative one is called 0. ValueError where no size has two seeds.

    The images are taken to be drawn one by one; a test set drawn class by class varies a little
    less.
    """
    trials = [s for s in scores if s.arm in (arm, baseline) and s.where in correct]
    sizes = sorted({s.size for s in trials if s.size is not None})
    contrasts = {size: _contrast(trials, size, (arm, baseline)) for size in sizes}
    seeds = np.array([s.seed for s in trials])
    weights = {size: _weights(c, c, seeds) for size, c in contrasts.items()}
    own = {size: weight for size, weight in weights.items() if weight is not None}
    if not own:
        raise ValueError(
            f"What another test set would change cannot be told without two seeds of {baseline} "
            f"and of {arm} at one size that kept which test images were right; run one more seed."
        )
    lengths = sorted({len(correct[s.where]) for s in trials})
    if len(lengths) > 1 or lengths[0] < 2:
        raise ValueError(
            f"The trials were tested on {listed(count(n) for n in lengths)} images; compare trials "
            "of one data set, with two test images or more."
        )
    num_images = lengths[0]
    right = np.stack([correct[s.where] for s in trials]).astype(np.float64)  # [N, M]
    right -= right.mean(axis=1, keepdims=True)
    covariances = right @ right.T / (num_images - 1)  # [N, N]
    variances = {size: float((weight * covariances).sum()) for size, weight in own.items()}
    pooled_weight = sum(own.values()) / len(own)
    by_image = (right * (pooled_weight @ right)).sum(axis=0)  # [M], their mean is the variance
    pooled = float(by_image.sum()) / (num_images - 1)
    error = float(by_image.std(ddof=1)) / math.sqrt(num_images)
    across = [
        float((weight * covariances).sum())
        for one, other in itertools.combinations(own, 2)
        if (weight := _weights(contrasts[one], contrasts[other], seeds)) is not None
    ]

    def in_points(variance: float) -> float:
        return 100 * math.sqrt(max(variance, 0.0) / num_images)

    return ImageSpread(
        arm=arm,
        baseline=baseline,
        num_images=num_images,
        sds=tuple((size, in_points(variance)) for size, variance in variances.items()),
        sd=in_points(pooled),
        at_most=in_points(pooled + LIMIT * error),
        correlation=float(np.clip(np.mean(across) / pooled, -1, 1))
        if across and pooled > LIMIT * error
        else None,
    )


def for_population(lead_draws: Array, sd: float, rng: np.random.Generator) -> Array:
    """Draws [J, K] of the difference on all images there might be, from draws on one test set.

    Each draw is shifted by a Gaussian of this sd, in the units of the draws, at all K sizes alike.
    That is an approximation: images that favour one arm favour it at every size. How nearly,
    `ImageSpread.correlation` says.
    """
    return lead_draws + rng.normal(0.0, sd, size=(len(lead_draws), 1))


def _contrast(
    trials: Sequence[Score], size: float, arms: tuple[str, str]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which trials are the arm's at this size, and which the baseline's."""
    here = [s.size is None or s.size == size for s in trials]
    first, second = (
        np.flatnonzero([s.arm == name and h for s, h in zip(trials, here, strict=True)])
        for name in arms
    )
    return first, second


def _weights(
    one: tuple[NDArray[np.intp], ...], other: tuple[NDArray[np.intp], ...], seeds: NDArray[np.int_]
) -> Array | None:
    """Weights [N, N] of the trials' covariances in that of two contrasts, or None without a pair.

    Each block is the mean over its pairs with different seeds.
    """
    weights = np.zeros((len(seeds), len(seeds)))
    for (i, rows), (j, columns) in itertools.product(enumerate(one), enumerate(other)):
        apart = seeds[rows][:, None] != seeds[columns]
        if not apart.any():
            return None
        weights[np.ix_(rows, columns)] += (1 if i == j else -1) * apart / apart.sum()
    return weights
