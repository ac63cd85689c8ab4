"""Alignment and uniformity are the paper's; without uniformity everything collapses."""

import math

import pytest
import torch
import torch.nn.functional as F
from method_steps import batch_of, build, trajectory

from raysl.methods.alignment_uniformity import (
    AlignmentUniformity,
    AlignmentUniformityConfig,
    alignment,
    uniformity,
)


def on_sphere(size, seed, width=4):
    draw = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(size, width, generator=draw, dtype=torch.float64), dim=1)


def naive_alignment(x, y, alpha):
    distances = [math.dist(a.tolist(), b.tolist()) for a, b in zip(x, y, strict=True)]
    return sum(d**alpha for d in distances) / len(distances)


def naive_uniformity(x, t):
    pairs = [(i, j) for i in range(len(x)) for j in range(i)]
    potential = sum(math.exp(-t * math.dist(x[i].tolist(), x[j].tolist()) ** 2) for i, j in pairs)
    return math.log(potential / len(pairs))


@pytest.mark.parametrize("size", [2, 7])
@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_both_terms_equal_the_equations(size, power):
    x, y = on_sphere(size, 0), on_sphere(size, 1)
    assert float(alignment(x, y, power)) == pytest.approx(naive_alignment(x, y, power), abs=1e-6)
    assert float(uniformity(x, power)) == pytest.approx(naive_uniformity(x, power), abs=1e-6)


def test_the_loss_adds_the_weighted_terms():
    method = build("alignment_uniformity", alignment=0.7, uniformity=0.3)
    outputs = method(batch_of("alignment_uniformity", 8))
    expected = 0.7 * outputs["alignment"] + 0.3 * outputs["uniformity"]
    assert torch.allclose(outputs["loss"], expected)


def test_opposite_views_have_the_largest_distance():
    x = on_sphere(3, 0)
    assert float(alignment(x, -x, 2.0)) == pytest.approx(4.0)
    assert float(alignment(x, -x, 1.0)) == pytest.approx(2.0)
    assert float(alignment(x, x, 2.0)) == 0.0


def test_known_potentials():
    """One point for all: 0. Two opposite points: -4 t. Orthogonal ones: -2 t."""
    assert float(uniformity(torch.ones(4, 3) / math.sqrt(3), 2.0)) == pytest.approx(0.0, abs=1e-6)
    assert float(uniformity(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), 2.0)) == pytest.approx(-8.0)
    assert float(uniformity(torch.eye(5), 3.0)) == pytest.approx(-6.0)


@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
def test_views_that_meet_have_a_finite_gradient(alpha):
    x = on_sphere(3, 0).requires_grad_()
    alignment(x, x.detach(), alpha).backward()
    assert torch.isfinite(x.grad).all()


def test_autocast_does_not_round_the_potential():
    x = on_sphere(6, 0).float()
    expected = uniformity(x, 2.0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(uniformity(x, 2.0), expected)


@pytest.mark.parametrize(("weight", "collapses"), [(0.0, True), (1.0, False)])
def test_alignment_alone_collapses_and_is_flagged_and_uniformity_prevents_it(weight, collapses):
    method = build("alignment_uniformity", uniformity=weight)
    trajectory(method, "alignment_uniformity", 40, progress=0.5)
    spread = float(method(batch_of("alignment_uniformity", 16))["embedding_std"])
    assert (spread < 0.1) == collapses
    assert (spread > 0.6) != collapses


@pytest.mark.parametrize(
    "fields", [{"alpha": 0.5}, {"t": 0.0}, {"alignment": -1.0}, {"uniformity": -1.0}]
)
def test_impossible_values_are_refused(fields):
    with pytest.raises(ValueError, match=r"method\."):
        AlignmentUniformityConfig(**fields)


def test_a_batch_of_one_image_has_no_pairs():
    encoder = build("alignment_uniformity").encoder
    with pytest.raises(ValueError, match="at least 2"):
        AlignmentUniformity(
            AlignmentUniformityConfig(),
            encoder,
            num_examples=9,
            num_classes=0,
            batch_size=1,
            num_steps=9,
        )
