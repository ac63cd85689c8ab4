"""The decoupled, debiased and hard-negative losses are the equations of their papers."""

import math

import pytest
import torch

from raysl.methods.parts.contrast import (
    cosines,
    debiased,
    decoupled,
    nt_xent,
    von_mises_fisher_weights,
)
from raysl.methods.parts.unit import unit_rows

TEMPERATURES = [0.1, 0.5, 1.0]
SIZES = [2, 5]


def projections(size, seed=0, width=4):
    draw = torch.Generator().manual_seed(seed + size)
    return torch.randn(2, size, width, generator=draw, dtype=torch.float64)


def cosines_of(z1, z2):
    return cosines(unit_rows(torch.cat([z1, z2])))


def terms(z1, z2):
    """Of each view: its cosine with the other view, those with the views of other images."""
    n = len(z1)
    z = [v / v.norm() for v in torch.cat([z1, z2])]
    for i in range(2 * n):
        negatives = [float(z[i] @ z[k]) for k in range(2 * n) if k % n != i % n]
        yield float(z[i] @ z[(i + n) % (2 * n)]), negatives


def naive_dcl(z1, z2, temperature, sigma=None):
    """Yeh et al., the DCL and DCLW equations."""
    views = list(terms(z1, z2))
    mean = sum(math.exp(s / (sigma or 1)) for s, _ in views) / len(views)
    total = 0.0
    for s, negatives in views:
        weight = 1.0 if sigma is None else 2 - math.exp(s / sigma) / mean
        total += -weight * s / temperature
        total += math.log(sum(math.exp(k / temperature) for k in negatives))
    return total / len(views)


def naive_hard(z1, z2, temperature, tau_plus, beta):
    """Robinson et al.: importance weights on the estimator of Chuang et al., equations 6 to 8."""
    views = list(terms(z1, z2))
    total = 0.0
    for s, negatives in views:
        weights = [math.exp(beta * k / temperature) for k in negatives]
        mean_weight = sum(weights) / len(weights)
        expected = sum(
            w / mean_weight * math.exp(k / temperature)
            for w, k in zip(weights, negatives, strict=True)
        ) / len(negatives)
        g = (expected - tau_plus * math.exp(s / temperature)) / (1 - tau_plus)
        g = max(g, math.exp(-1 / temperature))
        positive = math.exp(s / temperature)
        total -= math.log(positive / (positive + len(negatives) * g))
    return total / len(views)


def logits(z1, z2, temperature):
    positive, negatives = cosines_of(z1, z2)
    return positive / temperature, negatives / temperature


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("size", SIZES)
def test_dcl_equals_the_equation(temperature, size):
    z1, z2 = projections(size)
    loss = decoupled(*logits(z1, z2, temperature)).mean()
    assert float(loss) == pytest.approx(naive_dcl(z1, z2, temperature), abs=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("sigma", [0.05, 0.5, 3.0])
def test_dclw_equals_the_equation(temperature, sigma):
    z1, z2 = projections(6)
    weights = von_mises_fisher_weights(cosines_of(z1, z2)[0], sigma)
    loss = decoupled(*logits(z1, z2, temperature), weights).mean()
    assert float(loss) == pytest.approx(naive_dcl(z1, z2, temperature, sigma), abs=1e-6)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("tau_plus", "beta"), [(0.1, 0.0), (0.3, 0.0), (0.1, 1.0), (0.2, 3.0)])
def test_debiased_and_hard_equal_the_equations(temperature, size, tau_plus, beta):
    z1, z2 = projections(size)
    loss = debiased(
        *logits(z1, z2, temperature), temperature=temperature, tau_plus=tau_plus, beta=beta
    ).mean()
    expected = naive_hard(z1, z2, temperature, tau_plus, beta)
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_dcl_is_nt_xent_without_the_positive_in_the_denominator():
    positive, negatives = logits(*projections(5), 0.5)
    gap = nt_xent(positive, negatives) - decoupled(positive, negatives)
    expected = (1 + positive.exp() / negatives.exp().sum(dim=1)).log()
    assert torch.allclose(gap, expected)


def test_the_weights_of_dclw_average_one_and_fall_with_agreement():
    cosine = torch.linspace(-1, 1, 9)
    weights = von_mises_fisher_weights(cosine, 0.5)
    assert float(weights.mean()) == pytest.approx(1.0)
    assert (weights.diff() < 0).all()
    assert torch.allclose(von_mises_fisher_weights(torch.full((4,), 0.3), 0.5), torch.ones(4))


def test_the_weights_of_dclw_get_no_gradient():
    cosine = torch.zeros(3, requires_grad=True)
    assert not von_mises_fisher_weights(cosine, 0.5).requires_grad


def test_debiased_without_false_negatives_is_nt_xent():
    positive, negatives = logits(*projections(6), 0.5)
    loss = debiased(positive, negatives, temperature=0.5, tau_plus=0.0)
    assert torch.allclose(loss, nt_xent(positive, negatives))


def test_debiased_of_identical_projections_has_its_known_value():
    """The estimate of g is then exp(1 / t) whatever tau_plus: log(1 + M)."""
    z = torch.ones(4, 3, dtype=torch.float64)
    loss = debiased(*logits(z, z, 0.5), temperature=0.5, tau_plus=0.4)
    assert torch.allclose(loss, torch.full_like(loss, math.log(1 + 6)))


def test_debiased_takes_its_lower_bound_where_negatives_are_far():
    """Orthogonal pairs: (1 - tau e^2) / (1 - tau) is below e^-2 at tau = 0.13, t = 0.5."""
    z = torch.eye(4, dtype=torch.float64)
    loss = debiased(*logits(z, z, 0.5), temperature=0.5, tau_plus=0.13)
    expected = math.log(1 + 6 * math.exp(-2) / math.exp(2))
    assert torch.allclose(loss, torch.full_like(loss, expected))


def test_a_large_beta_leaves_the_hardest_negative_alone():
    positive, negatives = logits(*projections(5), 0.5)
    loss = debiased(positive, negatives, temperature=0.5, tau_plus=0.0, beta=1e4)
    hardest = negatives.shape[1] * negatives.amax(dim=1).exp()
    assert torch.allclose(loss, (1 + hardest / positive.exp()).log())
