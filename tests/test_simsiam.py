"""SimSiam's loss is equations 1 to 4 of the paper, and its gradient stops where they say."""

import pytest
import torch
from method_steps import batch_of, build
from torch import nn

from raysl.methods import METHODS
from raysl.methods.parts.unit import unit_rows
from raysl.methods.simsiam import distance


def naive_distance(predictions, projections):
    """Equation 1, row by row in float64."""
    total = 0.0
    for p, z in zip(predictions.double(), projections.double(), strict=True):
        total -= float((p / p.norm()) @ (z / z.norm()))
    return total / len(predictions)


@pytest.mark.parametrize(("size", "width"), [(1, 3), (4, 8), (9, 2)])
def test_the_distance_equals_the_equation(size, width):
    draw = torch.Generator().manual_seed(size)
    p, z = torch.randn(2, size, width, generator=draw)
    assert float(distance(p, unit_rows(z))) == pytest.approx(naive_distance(p, z), abs=1e-6)


def test_the_distance_is_minus_1_for_one_direction_0_for_right_angles_and_1_for_opposites():
    one = torch.tensor([[1.0, 0.0]])
    for other, expected in (([5.0, 0.0], -1.0), ([0.0, 1.0], 0.0), ([-1.0, 0.0], 1.0)):
        assert float(distance(one, unit_rows(torch.tensor([other])))) == pytest.approx(expected)


def gradient(**fields):
    """Of the projector's first layer, with fixed batch statistics, and the loss."""
    method = build("simsiam", **fields)
    for module in method.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    loss = method(batch_of("simsiam", 6))["loss"]
    loss.backward()
    return method.projector[0].weight.grad, loss


def test_the_loss_is_the_mean_over_both_orders_of_the_views():
    method = build("simsiam")
    batch = batch_of("simsiam", 6)
    for module in method.modules():  # so that a pass does not change the next
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    with torch.no_grad():
        z = [method.projector(method.encoder(view)) for view in batch.views]
        p = [method.predictor(row) for row in z]
        expected = (naive_distance(p[0], z[1]) + naive_distance(p[1], z[0])) / 2
        assert float(method(batch)["loss"]) == pytest.approx(expected, abs=1e-5)


def test_the_stop_gradient_changes_the_gradient_and_not_the_loss():
    (stopped, one), (free, other) = gradient(), gradient(stop_gradient=False)
    assert one.item() == other.item()
    assert not torch.allclose(stopped, free, rtol=0.1)


def test_without_a_predictor_the_stop_gradient_only_halves_the_gradient():
    """Section 4.2: the symmetrised loss then pulls both projections together in any case."""
    stopped, _ = gradient(predictor=False)
    free, _ = gradient(predictor=False, stop_gradient=False)
    assert torch.allclose(2 * stopped, free, atol=1e-6)


def test_the_heads_widths_follow_the_encoder():
    method = build("simsiam")
    linear = [m for m in method.projector if isinstance(m, nn.Linear)]
    assert [m.out_features for m in linear] == [32] * 3
    assert method.predictor[0].out_features == 8


@pytest.mark.parametrize("wrong", [{"layers": 0}, {"width": 0}, {"bottleneck": 0}])
def test_wrong_parameters_get_a_sentence(wrong):
    with pytest.raises(ValueError, match=f"method\\.{next(iter(wrong))} must"):
        METHODS["simsiam"].Config(**wrong)
