"""BYOL's loss is equations 1 and 2 of the paper."""

import pytest
import torch
from method_steps import batch_of, build
from torch import nn

from raysl.methods import METHODS
from raysl.methods.byol import regression_loss


def naive_regression_loss(predictions, targets):
    """Squared distance of the normalised vectors, row by row in float64."""
    total = 0.0
    for p, t in zip(predictions.double(), targets.double(), strict=True):
        total += float((p / p.norm() - t / t.norm()).square().sum())
    return total / len(predictions)


@pytest.mark.parametrize(("size", "width"), [(1, 3), (4, 8), (9, 2)])
def test_the_regression_loss_equals_the_equation(size, width):
    draw = torch.Generator().manual_seed(size)
    p, t = torch.randn(2, size, width, generator=draw)
    assert float(regression_loss(p, t)) == pytest.approx(naive_regression_loss(p, t), abs=1e-6)


def test_the_regression_loss_is_0_for_one_direction_2_for_right_angles_and_4_for_opposites():
    one = torch.tensor([[1.0, 0.0]])
    for other, expected in (([5.0, 0.0], 0.0), ([0.0, 1.0], 2.0), ([-1.0, 0.0], 4.0)):
        assert float(regression_loss(one, torch.tensor([other]))) == pytest.approx(expected)


def test_the_loss_is_the_sum_over_both_orders_of_the_views():
    method = build("byol")
    batch = batch_of("byol", 6)
    for module in method.modules():  # so that a pass does not change the next
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        p = [method.predictor(method.projector(method.encoder(view))) for view in batch.views]
        t = [method.teacher(view) for view in batch.views]
        expected = naive_regression_loss(p[0], t[1]) + naive_regression_loss(p[1], t[0])
        assert float(method(batch)["loss"]) == pytest.approx(expected, abs=1e-5)


def test_the_teachers_momentum_rises_to_one():
    method = build("byol", momentum=0.5)
    start = [p.clone() for p in method.teacher.parameters()]
    with torch.no_grad():
        for parameter in method.encoder.parameters():
            parameter.add_(1.0)
    method.after_update(1.0)
    assert all(torch.equal(p, q) for p, q in zip(method.teacher.parameters(), start, strict=True))
    method.after_update(0.0)
    first = next(method.encoder.parameters())
    assert torch.allclose(next(method.teacher.parameters()), first - 0.5)


def test_the_students_encoder_is_evaluated():
    method = build("byol")
    assert method.evaluated is method.encoder


@pytest.mark.parametrize("wrong", [{"momentum": 1.5}, {"hidden": 0}, {"width": 0}])
def test_wrong_parameters_get_a_sentence(wrong):
    with pytest.raises(ValueError, match=f"method\\.{next(iter(wrong))} must"):
        METHODS["byol"].Config(**wrong)
