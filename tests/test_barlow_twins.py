"""Barlow Twins and its mixed samples are the papers' equations."""

import math

import pytest
import torch
from method_steps import batch_of, build
from torch import nn

from raysl.methods.barlow_twins import (
    BarlowTwinsConfig,
    correlation_errors,
    draw_mixture,
    mix,
    mixing_error,
    standardise,
)


def columns(z):
    """The columns of z as lists, each of mean 0 and variance 1 (and 1e-5 against division by 0)."""
    found = []
    for column in z.T.tolist():
        mean = sum(column) / len(column)
        variance = sum((x - mean) ** 2 for x in column) / len(column)
        found.append([(x - mean) / math.sqrt(variance + 1e-5) for x in column])
    return found


def naive_correlation(columns1, columns2):
    n = len(columns1[0])
    return [[sum(x * y for x, y in zip(a, b, strict=True)) / n for b in columns2] for a in columns1]


def naive_loss(z1, z2, redundancy):
    """Equations 1 and 2 of the paper, term by term."""
    c = naive_correlation(columns(z1), columns(z2))
    pairs = [(i, j) for i in range(len(c)) for j in range(len(c))]
    return sum((1 - c[i][j]) ** 2 if i == j else redundancy * c[i][j] ** 2 for i, j in pairs)


def naive_mixing_error(zm, z1, z2, share, order):
    """Correlations of the mixture next to the mixture of the correlations, one by one."""
    am, a1, a2 = columns(zm), columns(z1), columns(z2)
    other = [[column[i] for i in order] for column in a2]
    total = 0.0
    for view in (a1, a2):
        found, first, second = (naive_correlation(z, view) for z in (am, a1, other))
        for i in range(len(found)):
            for j in range(len(found)):
                wanted = share * first[i][j] + (1 - share) * second[i][j]
                total += (found[i][j] - wanted) ** 2
    return total


def projections(views, size, width):
    draw = torch.Generator().manual_seed(size * width)
    return torch.randn(views, size, width, generator=draw, dtype=torch.float64) * 3 + 1


@pytest.mark.parametrize(("size", "width"), [(4, 3), (9, 5), (3, 6)])
@pytest.mark.parametrize("redundancy", [0.0, 0.0051, 1.0])
def test_the_loss_equals_the_equation(size, width, redundancy):
    z1, z2 = projections(2, size, width)
    diagonal, others = correlation_errors(standardise(z1), standardise(z2))
    expected = naive_loss(z1, z2, redundancy)
    assert float(diagonal + redundancy * others) == pytest.approx(expected, abs=1e-6)


def test_the_gradients_are_those_of_finite_differences():
    z = projections(2, 5, 3).requires_grad_()
    assert torch.autograd.gradcheck(standardise, z)
    assert torch.autograd.gradcheck(lambda z: correlation_errors(*standardise(z)), z)


@pytest.mark.parametrize(("size", "width"), [(4, 3), (9, 5)])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_mixing_error_equals_the_equation(size, width, share):
    zm, z1, z2 = projections(3, size, width)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(1))
    found = mixing_error(
        standardise(zm), standardise(z1), standardise(z2), torch.tensor(share), order
    )
    expected = naive_mixing_error(zm, z1, z2, share, order.tolist())
    assert float(found) == pytest.approx(expected, abs=1e-6)


def test_equal_and_uncorrelated_features_have_no_loss_and_opposite_ones_four_each():
    z = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    z1, z2 = standardise(z), standardise(-z)
    assert float(sum(correlation_errors(z1, z1))) == pytest.approx(0, abs=1e-6)
    assert float(sum(correlation_errors(z1, z2))) == pytest.approx(12, rel=1e-4)


def test_features_that_all_repeat_one_pay_only_beside_the_diagonal():
    z = standardise(torch.randn(64, 1, generator=torch.Generator().manual_seed(0)).repeat(1, 5))
    diagonal, others = correlation_errors(z, z)
    assert float(diagonal) == pytest.approx(0, abs=1e-6)
    assert float(others) == pytest.approx(20, rel=1e-3)


def test_scale_and_shift_of_a_feature_do_not_matter():
    z = projections(1, 8, 3)[0]
    moved = z * torch.tensor([2.0, 10.0, 5.0]) - 7
    assert torch.allclose(standardise(z), standardise(moved), atol=1e-4)


def test_a_network_that_mixes_as_its_inputs_do_has_no_mixing_error():
    z1, z2 = projections(2, 8, 3)
    share, order = torch.tensor(0.3), torch.arange(8).flip(0)
    assert float(mixing_error(mix(z1, z2, share, order), z1, z2, share, order)) == 0
    assert torch.equal(mix(z1, z2, torch.tensor(1.0), order), z1)
    assert torch.equal(mix(z1, z2, torch.tensor(0.0), order), z2.flip(0))


@pytest.mark.parametrize("beta", [0.2, 1.0, 8.0])
def test_the_share_is_beta_distributed_and_the_order_a_permutation(beta):
    draws = [draw_mixture(torch.Generator().manual_seed(i), 6, beta) for i in range(2000)]
    shares = torch.stack([share for share, _ in draws])
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * beta + 1)), rel=0.1)
    assert all(order.sort().values.tolist() == list(range(6)) for _, order in draws[:20])
    firsts = torch.stack([order[0] for _, order in draws]).bincount(minlength=6)
    assert float(firsts.min()) > 2000 / 6 * 0.8


def test_the_terms_that_are_logged_make_the_loss():
    config = {"redundancy": 0.05, "mixup_weight": 3.0, "loss_scale": 0.5}
    logged = build("barlow_twins", **config)(batch_of("barlow_twins", 8))
    terms = logged["invariance"] + 0.05 * logged["redundancy"] + 3 * 0.05 * logged["mixup"]
    assert logged["loss"].item() == pytest.approx(0.5 * terms.item(), rel=1e-5)


def test_without_mixing_nothing_is_drawn_and_two_views_are_all_it_costs():
    images = []
    for weight in (0.0, 1.0):
        method, batch = build("barlow_twins", mixup_weight=weight), batch_of("barlow_twins", 8)
        seen = []
        method.encoder.register_forward_hook(
            lambda _, args, __, seen=seen: seen.append(len(args[0]))
        )
        before = batch.generator.get_state()
        assert ("mixup" in method(batch)) == (weight > 0)
        assert torch.equal(before, batch.generator.get_state()) == (weight == 0)
        images.append(sum(seen))
    assert images == [16, 24]


def test_by_default_three_layers_are_four_times_as_wide_as_the_encoder():
    for name in ("barlow_twins", "vicreg"):
        method = build(name, projector=None)
        widths = [m.out_features for m in method.projector if isinstance(m, nn.Linear)]
        assert widths == [4 * method.encoder.num_features] * 3


def test_wrong_parameters_get_a_sentence():
    wrong = ({"redundancy": -1.0}, {"loss_scale": 0.0}, {"mixup_weight": -1.0}, {"mixup_beta": 0.0})
    for fields in (*wrong, {"projector": ()}):
        with pytest.raises(ValueError, match=rf"method\.{next(iter(fields))}"):
            BarlowTwinsConfig(**fields)
