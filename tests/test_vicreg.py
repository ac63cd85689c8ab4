"""VICReg's loss is the equations of the paper, normalised as the authors' code does."""

import math

import pytest
import torch
from method_steps import batch_of, build, trajectory

from raysl.methods.vicreg import VICRegConfig, penalties
from raysl.precision import full_precision


def naive_penalties(z):
    """Equations 1 to 4 of the paper, term by term."""
    n, d = z.shape
    columns = z.T.tolist()
    means = [sum(column) / n for column in columns]

    def covariance(i, j):
        pairs = zip(columns[i], columns[j], strict=True)
        return sum((x - means[i]) * (y - means[j]) for x, y in pairs) / (n - 1)

    v = sum(max(0.0, 1 - math.sqrt(covariance(i, i) + 1e-4)) for i in range(d)) / d
    c = sum(covariance(i, j) ** 2 for i in range(d) for j in range(d) if i != j) / d
    return v, c


@pytest.mark.parametrize(("size", "width"), [(2, 3), (7, 4), (20, 6)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_the_penalties_equal_the_equations(size, width, scale):
    draw = torch.Generator().manual_seed(size)
    z = torch.randn(size, width, generator=draw, dtype=torch.float64) * scale + 5
    found = [float(x) for x in penalties(z)]
    assert found == pytest.approx(naive_penalties(z), abs=1e-6)


def test_the_gradient_is_that_of_finite_differences():
    """Of both views at once, though none flows through their means."""
    draw = torch.Generator().manual_seed(0)
    z = torch.randn(2, 5, 3, generator=draw, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(penalties, z)


def test_the_loss_weighs_the_terms_of_the_authors_code():
    """With an identity for encoder and projector, so that the views are the embeddings."""
    weights = {"invariance": 3.0, "variance": 5.0, "covariance": 7.0}
    method, batch = build("vicreg", **weights), batch_of("vicreg", 6)
    draw = torch.Generator().manual_seed(0)
    z1, z2 = torch.randn(2, 6, 4, generator=draw) * 0.7
    batch.views[:] = [z1, z2]
    method.encoder = method.projector = torch.nn.Identity()
    (v1, c1), (v2, c2) = naive_penalties(z1.double()), naive_penalties(z2.double())
    squares = (
        sum((x - y) ** 2 for x, y in zip(z1.flatten(), z2.flatten(), strict=True)) / z1.numel()
    )
    expected = 3 * float(squares) + 5 * (v1 + v2) / 2 + 7 * (c1 + c2)
    assert float(method(batch)["loss"]) == pytest.approx(expected, rel=1e-5)


def test_one_constant_embedding_has_the_full_variance_penalty():
    v, c = penalties(torch.ones(8, 5))
    assert float(v) == pytest.approx(1 - math.sqrt(1e-4))
    assert float(c) == 0


def test_features_of_unit_variance_that_repeat_nothing_pay_nothing():
    z = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    assert [float(x) for x in penalties(z)] == pytest.approx([0, 0], abs=1e-6)


def test_without_the_variance_term_the_embeddings_collapse_and_the_log_says_so():
    last = {}
    for variance in (0.0, 25.0):
        method = build("vicreg", variance=variance)
        trajectory(method, "vicreg", 60, progress=0.5)
        last[variance] = float(method(batch_of("vicreg", 16))["variance"])
    assert last[0.0] > 0.9
    assert last[25.0] < 0.3


def test_matrices_are_multiplied_in_full_precision_inside_of_autocast():
    z = torch.randn(32, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = z.T @ z
        with full_precision(z):
            exact = z.T @ z
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(exact, z.T @ z)


def test_wrong_parameters_get_a_sentence():
    for name in ("invariance", "variance", "covariance"):
        with pytest.raises(ValueError, match=rf"method\.{name}"):
            VICRegConfig(**{name: -1.0})
    with pytest.raises(ValueError, match=r"method\.projector"):
        VICRegConfig(projector=())
