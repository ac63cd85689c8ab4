"""Linear probe: logistic regression on standardised features, its penalty chosen on val.

Multinomial, on the device, the whole path of penalties at once:

    minimise over W, b:  sum over i of  -log softmax(W x_i + b)[label_i]  +  penalty / 2 * |W|^2

x has mean 0 and standard deviation 1 over the training images; the intercept b is not penalised.
The objective is that of scikit-learn's LogisticRegression with C = 1 / penalty (with two classes
C = 2 / penalty, since scikit-learn then has one vector of weights where this has two).

Solver: Newton's method whose steps come from conjugate gradients, in the principal axes of the
features, where the penalty keeps its form and the curvature is nearly diagonal and preconditions
well. Each penalty of the path starts from the cubic through its four predecessors' solutions.
Values and gradients are float64; the conjugate gradients, where nearly all time goes and whose
errors the next step corrects, are float32. No random numbers, no order that varies.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from raysl.evaluation.features import Labelled, Predictions, top_accuracy

if TYPE_CHECKING:
    from raysl.evaluation import EvaluationConfig

VERSION = 2

# The path's fits end when a Newton step promises less than this share of the objective. After it no
# probability differed by more than 2e-4 from scikit-learn converged to 1e-10 (9 penalties each on
# digits and on Fashion-MNIST features of a random and a trained convnet, 30 to 4,000 images).
TOLERANCE = 1e-6
FORCING = 0.03  # a Newton step is solved until its residual is this share of the gradient ...
ENOUGH = 3e-4  # ... or could gain no more than this share of what the tolerance leaves
CERTAIN = 1e-3  # mean of p (1 - p) over images and classes, below which float32 does not do
MAX_NEWTON_STEPS = 100
MAX_GRADIENT_STEPS = 1000  # of conjugate gradients, in one Newton step


def predict(
    train: Labelled,
    held_out: Mapping[str, Labelled],
    *,
    num_classes: int,
    config: "EvaluationConfig",
) -> Predictions:
    """Fit the path on `train`, choose on held_out["val"], classify every held-out split.

    Of equal accuracies on val the strongest penalty wins.
    """
    path = fit_path(train, config.linear_penalties)
    val = held_out["val"]
    accuracies = [
        top_accuracy(fit.log_probabilities(val.features, num_classes), val.labels, 1)
        for fit in path
    ]
    best = path[accuracies.index(max(accuracies))]
    scores = {
        split: best.log_probabilities(labelled.features, num_classes)
        for split, labelled in held_out.items()
    }
    details = [
        {"penalty": fit.penalty, "val_top1": top1, "steps": fit.steps, "converged": fit.converged}
        for fit, top1 in zip(path, accuracies, strict=True)
    ]
    return Predictions(scores, chosen={"penalty": best.penalty}, details={"path": details})


@dataclass(frozen=True, eq=False)
class Fit:
    """The logistic regression at one penalty, float64; K classes occur in training.

    mean, scale: [D], of the standardisation; weight: [K, D]; bias: [K]; classes: int64 [K].
    steps: of Newton's method; converged: whether they ended below the tolerance.
    """

    penalty: float
    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    classes: Tensor
    steps: int
    converged: bool

    def log_probabilities(self, features: Tensor, num_classes: int) -> Tensor:
        """float64 [N, num_classes]; -inf for classes that did not occur in training."""
        standardised = (features.double() - self.mean) * self.scale  # [N, D]
        known = torch.addmm(self.bias, standardised, self.weight.T).log_softmax(dim=1)  # [N, K]
        result = known.new_full((len(features), num_classes), -torch.inf)
        result[:, self.classes] = known
        return result


def fit_path(
    train: Labelled, penalties: Sequence[float], *, tolerance: float = TOLERANCE
) -> list[Fit]:
    """The fits at all penalties, from the strongest to the weakest.

    A feature that is constant over the training images, but for rounding, becomes 0. Takes about
    20 bytes for each number of the features, and as much for each image and class.
    """
    features = train.features.double()  # [N, D]
    mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0)
    constant = deviation <= 1e-6 * mean.abs()  # float32 rounding reaches a tenth of this
    scale = torch.where(constant, 0.0, 1 / deviation)
    classes, targets = train.labels.unique(return_inverse=True)
    axes, problem = in_principal_axes((features - mean) * scale, targets)

    fits: list[Fit] = []
    known: list[tuple[float, Tensor]] = []
    for penalty in sorted(set(penalties), reverse=True):
        start = extrapolate(known, penalty, problem)
        weight, steps, converged = minimise(problem, penalty, start, tolerance=tolerance)
        known = [*known[-3:], (penalty, weight)]
        linear, bias = weight[:, :-1] @ axes.T, weight[:, -1]  # [K, D], [K]
        fits.append(Fit(penalty, mean, scale, linear, bias, classes, steps, converged))
    return fits


@dataclass(frozen=True, eq=False)
class Problem:
    """The training images in R principal axes, with a row of ones for the intercept.

    Images are columns: class-major products and softmaxes are six times faster on a CPU than
    image-major ones, at 60,000 images and 10 classes.
    """

    design: Tensor  # float64 [R + 1, N]
    coarse: Tensor  # the same in float32
    targets: Tensor  # int64 [N], 0 to K - 1
    curvature: Tensor  # float64 [R + 1], sum of squares of each row of `design`
    num_classes: int  # K

    @property
    def own(self) -> tuple[Tensor, Tensor]:
        """Index of every image's own class in a tensor [K, N]."""
        return self.targets, torch.arange(len(self.targets), device=self.targets.device)

    def penalties(self, penalty: float) -> Tensor:
        """float64 [R + 1], 0 for the intercept."""
        values = torch.full_like(self.curvature, penalty)
        values[-1] = 0
        return values


def in_principal_axes(standardised: Tensor, targets: Tensor) -> tuple[Tensor, Problem]:
    """The orthonormal axes [D, R], R = min(N, D), and the problem in their coordinates."""
    num_examples, width = standardised.shape
    tall = num_examples > width
    reduced = torch.linalg.qr(standardised, mode="r").R if tall else standardised
    axes = torch.linalg.svd(reduced, full_matrices=False).Vh.T  # [D, R]
    ones = standardised.new_ones(1, num_examples)
    design = torch.cat([axes.T @ standardised.T, ones])  # [R + 1, N]
    curvature = design.square().sum(dim=1)
    num_classes = int(targets.max()) + 1
    return axes, Problem(design, design.float(), targets, curvature, num_classes)


def extrapolate(known: list[tuple[float, Tensor]], penalty: float, problem: Problem) -> Tensor:
    """Where to start: the polynomial through known solutions over the logarithm of the penalty."""
    start = problem.design.new_zeros(problem.num_classes, len(problem.design))
    for own, weight in known:
        factors = (
            math.log(penalty / other) / math.log(own / other) for other, _ in known if other != own
        )
        start = start + math.prod(factors) * weight
    return start


def minimise(
    problem: Problem, penalty: float, weight: Tensor, *, tolerance: float
) -> tuple[Tensor, int, bool]:
    """The solution [K, R + 1], the number of Newton steps, and whether they converged."""
    value, log_probabilities = objective(problem, penalty, weight)
    for step in range(1, MAX_NEWTON_STEPS + 1):
        probabilities = log_probabilities.exp()  # [K, N]
        residual = probabilities.clone()
        residual[problem.own] -= 1
        gradient = residual @ problem.design.T + problem.penalties(penalty) * weight
        enough = ENOUGH * tolerance * value
        direction = newton_direction(problem, penalty, gradient, probabilities, enough=enough)
        decrement = -float((gradient * direction).sum())  # twice what the step should gain
        for halvings in itertools.count():
            proposal = weight + direction / 2**halvings
            new_value, new_log_probabilities = objective(problem, penalty, proposal)
            if new_value <= value - 1e-4 * decrement / 2**halvings:
                weight, value, log_probabilities = proposal, new_value, new_log_probabilities
                break
            if halvings == 30:  # no descent left in float64
                return weight, step, decrement <= tolerance * value
        if decrement <= tolerance * value:
            return weight, step, True
    return weight, MAX_NEWTON_STEPS, False


def objective(problem: Problem, penalty: float, weight: Tensor) -> tuple[float, Tensor]:
    """The value to minimise and the log-probabilities [K, N]."""
    log_probabilities = (weight @ problem.design).log_softmax(dim=0)
    squares = (problem.penalties(penalty) * weight.square()).sum()
    return float(squares / 2 - log_probabilities[problem.own].sum()), log_probabilities


def newton_direction(
    problem: Problem, penalty: float, gradient: Tensor, probabilities: Tensor, *, enough: float
) -> Tensor:
    """-(Hessian^-1) gradient, float64 [K, R + 1], by preconditioned conjugate gradients.

    enough: of the objective, below which what the residual could still gain does not count.

    The preconditioner is the Hessian's diagonal if all probabilities varied alike. Nearly certain
    predictions leave a curvature that float32 cannot resolve beside 1; those stay in float64.
    """
    spread = (probabilities * (1 - probabilities)).mean().clamp_min(1e-12)
    design = problem.coarse if float(spread) > CERTAIN else problem.design
    probabilities = probabilities.to(design.dtype)
    penalties = problem.penalties(penalty).to(design.dtype)
    inverse = (1 / (problem.curvature * spread + penalties)).to(design.dtype)  # [R + 1]
    residual = -gradient.to(design.dtype)
    solution = torch.zeros_like(residual)
    conditioned = inverse * residual
    direction = conditioned
    size = (residual * conditioned).sum()
    goal = max(FORCING**2 * float(size), enough)
    for _ in range(MAX_GRADIENT_STEPS):
        if float(size) <= goal:
            break
        change = probabilities * (direction @ design)  # [K, N]
        change = torch.addcmul(change, probabilities, change.sum(dim=0, keepdim=True), value=-1)
        curved = change @ design.T + penalties * direction  # Hessian times direction
        length = size / (direction * curved).sum()
        solution = solution + length * direction
        residual = residual - length * curved
        conditioned = inverse * residual
        previous, size = size, (residual * conditioned).sum()
        direction = conditioned + size / previous * direction
    return solution.double()
