"""Unit rows are F.normalize's, with its gradient."""

import pytest
import torch
import torch.nn.functional as F

from raysl.methods.parts.unit import unit_rows


@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 6)])
def test_values_and_gradients_are_those_of_normalize(shape):
    draw = torch.Generator().manual_seed(0)
    x, weights = torch.randn(2, *shape, generator=draw, dtype=torch.float64)
    gradients = []
    for function in (unit_rows, lambda x: F.normalize(x, dim=-1)):
        given = x.clone().requires_grad_()
        rows = function(given)
        assert torch.allclose(rows.norm(dim=-1), torch.ones(shape[:-1], dtype=torch.float64))
        (rows * weights).exp().sum().backward()
        gradients.append(given.grad)
    assert torch.allclose(*gradients, atol=1e-12)


def test_the_gradient_is_that_of_finite_differences():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(unit_rows, x.requires_grad_())


def test_a_row_of_zeros_stays_and_its_gradient_is_finite():
    x = torch.zeros(2, 4, requires_grad=True)
    rows = unit_rows(x)
    assert torch.equal(rows, torch.zeros(2, 4))
    rows.sum().backward()
    assert x.grad.isfinite().all()


def test_what_needs_no_gradient_gets_none():
    assert not unit_rows(torch.ones(2, 2)).requires_grad
