"""SimCLR's loss is the equation of the paper; its other losses are those that were asked for."""

import math

import pytest
import torch
from method_steps import batch_of, build

from raysl.methods.parts.contrast import cosines, nt_xent, top1
from raysl.methods.parts.unit import unit_rows
from raysl.methods.simclr import FIELDS, SimCLRConfig, contrastive_loss


def naive_nt_xent(z1, z2, temperature):
    """Equation 1 of the paper, term by term in float64."""
    z = [v / v.norm() for v in torch.cat([z1, z2]).double()]
    n = len(z1)
    total = 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        denominator = sum(
            math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * n) if k != i
        )
        total -= math.log(math.exp(float(z[i] @ z[j]) / temperature) / denominator)
    return total / (2 * n)


def cosines_of(z1, z2):
    return cosines(unit_rows(torch.cat([z1, z2])))


def loss_of(z1, z2, **fields):
    return float(contrastive_loss(*cosines_of(z1, z2), SimCLRConfig(**fields)))


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("size", [2, 7])
def test_nt_xent_equals_the_equation(temperature, size):
    draw = torch.Generator().manual_seed(size)
    z1, z2 = torch.randn(2, size, 5, generator=draw, dtype=torch.float64)
    expected = naive_nt_xent(z1, z2, temperature)
    assert loss_of(z1, z2, temperature=temperature) == pytest.approx(expected, abs=1e-6)


def test_nt_xent_of_identical_projections_is_the_log_of_the_number_of_others():
    z = torch.ones(6, 4)
    assert loss_of(z, z) == pytest.approx(math.log(11))


def test_nt_xent_of_orthogonal_pairs_has_its_known_value_and_full_accuracy():
    z = torch.eye(4)
    assert loss_of(z, z) == pytest.approx(-2 + math.log(math.exp(2) + 6))
    assert float(top1(*cosines_of(z, z))) == 100.0


def test_accuracy_is_zero_where_all_projections_are_one():
    assert float(top1(*cosines_of(torch.ones(3, 2), torch.ones(3, 2)))) == 0.0


def test_the_negatives_are_both_views_of_all_other_images():
    z1, z2 = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(torch.cat([z1, z2]), dim=1)
    positive, negatives = cosines_of(z1, z2)
    for row in range(8):
        others = [k for k in range(8) if k % 4 != row % 4]
        assert torch.allclose(negatives[row], unit[others] @ unit[row])
        assert positive[row] == pytest.approx(float(unit[row] @ unit[(row + 4) % 8]), abs=1e-6)


def test_autocast_does_not_round_the_logits():
    z1, z2 = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0))
    expected = cosines_of(z1, z2)
    with torch.autocast("cpu", torch.bfloat16):
        found = cosines_of(z1, z2)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    losses = nt_xent(expected[0] / 0.1, expected[1] / 0.1)
    assert losses.dtype == torch.float32


def test_every_loss_is_one_of_its_own():
    z1, z2 = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(1))
    losses = {loss_of(z1, z2, loss=loss) for loss in FIELDS}
    assert len(losses) == len(FIELDS)


@pytest.mark.parametrize(
    ("loss", "field", "value"),
    [
        ("nt_xent", "sigma", 0.1),
        ("dcl", "sigma", 0.1),
        ("dclw", "tau_plus", 0.2),
        ("debiased", "beta", 2.0),
        ("hard", "sigma", 0.1),
    ],
)
def test_a_field_that_means_nothing_to_the_loss_is_refused(loss, field, value):
    with pytest.raises(ValueError, match=f"method.{field} must stay .* it belongs to"):
        SimCLRConfig(loss=loss, **{field: value})


@pytest.mark.parametrize(
    "fields",
    [
        {"loss": "infonce"},
        {"temperature": 0.0},
        {"projector": ()},
        {"loss": "dclw", "sigma": 0.0},
        {"loss": "debiased", "tau_plus": 1.0},
        {"loss": "hard", "beta": -1.0},
    ],
)
def test_impossible_values_are_refused(fields):
    with pytest.raises(ValueError, match=r"method\."):
        SimCLRConfig(**fields)


def test_a_batch_of_one_image_has_no_negatives():
    method = build("simclr")
    with pytest.raises(ValueError, match="at least 2"):
        type(method)(
            method.config, method.encoder, num_examples=9, num_classes=0, batch_size=1, num_steps=9
        )


@pytest.mark.parametrize("loss", FIELDS)
def test_a_low_temperature_gives_finite_losses_and_gradients(loss):
    method = build("simclr", loss=loss, temperature=0.01)
    method(batch_of("simclr", 4))["loss"].backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters())
