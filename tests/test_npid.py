"""NPID's losses are the paper's equations, and its bank is the moving average of what was seen."""

import math

import pytest
import torch
import torch.nn.functional as F
from method_steps import NUM_EXAMPLES, batch_of, build

from raysl.methods.npid import NPIDConfig, default_negatives
from raysl.methods.parts.instances import InstanceBank, nce


def instances(num_examples=9, width=4, *, temperature=0.07, num_negatives=None):
    torch.manual_seed(0)
    made = InstanceBank(num_examples, width, temperature=temperature, num_negatives=num_negatives)
    return made.double()


def features(size, width=4):
    draw = torch.Generator().manual_seed(1)
    return F.normalize(torch.randn(size, width, generator=draw, dtype=torch.float64), dim=1)


def naive_softmax(v, index, rows, temperature):
    """The non-parametric softmax of section 3.1."""
    total = 0.0
    for feature, i in zip(v, index.tolist(), strict=True):
        exps = [math.exp(float(row @ feature) / temperature) for row in rows]
        total -= math.log(exps[i] / sum(exps))
    return total / len(v)


def naive_nce(v, index, negatives, rows, temperature, z):
    """The NCE of the paper's section 3.2 with P_n = 1 / n."""
    n, m = len(rows), len(negatives)
    total = 0.0
    for feature, i in zip(v, index.tolist(), strict=True):

        def h(j, feature=feature):
            p = math.exp(float(rows[j] @ feature) / temperature) / z
            return p / (p + m / n)

        total -= math.log(h(i)) + sum(math.log(1 - h(j)) for j in negatives.tolist())
    return total / len(v)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_the_softmax_equals_the_equation(temperature):
    made, v, index = instances(temperature=temperature), features(3), torch.tensor([4, 0, 8])
    expected = naive_softmax(v, index, made.bank.rows, temperature)
    assert float(made(v, index, None)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("num_negatives", [1, 20])
def test_nce_equals_the_equation(temperature, num_negatives):
    made = instances(temperature=temperature, num_negatives=num_negatives)
    v, index = features(3), torch.tensor([4, 0, 8])
    negatives = made.negatives(torch.Generator().manual_seed(0))
    rows = made.bank.rows
    z = 9 * float((v @ rows[negatives].T / temperature).exp().mean())  # its Monte Carlo estimate
    expected = naive_nce(v, index, negatives, rows, temperature, z)
    assert float(made(v, index, negatives)) == pytest.approx(expected, rel=1e-6)


def test_nce_has_its_known_value_where_all_logits_are_the_mean():
    """h is 1 / (m + 1) everywhere: log(m + 1) + m log((m + 1) / m)."""
    m = 7
    loss = nce(torch.zeros(2), torch.zeros(2, m), torch.tensor(math.log(m)))
    assert float(loss) == pytest.approx(math.log(m + 1) + m * math.log((m + 1) / m))


def test_nce_draws_all_images_alike():
    made = instances(num_negatives=9_000)
    counts = made.negatives(torch.Generator().manual_seed(0)).bincount(minlength=9)
    assert len(counts) == 9
    assert (counts - 1000).abs().max() < 150  # five standard deviations


@pytest.mark.parametrize("direction", [0, 1, 2])
def test_nce_is_that_of_guessing_where_all_rows_are_one_wherever_they_are(direction):
    """A constant Z of a random bank would give a loss that grows with the agreement."""
    made, v = instances(num_negatives=7), features(3)
    made.bank.rows.copy_(features(3)[direction].expand(9, -1))
    v = made.bank.rows[:3]
    loss = float(made(v, torch.arange(3), torch.arange(7)))
    assert loss == pytest.approx(math.log(8) + 7 * math.log(8 / 7))


@pytest.mark.parametrize(
    ("num_examples", "expected"), [(50, 50), (4096, 4096), (5000, 4096), (300_000, 4096)]
)
def test_a_small_pool_has_as_many_negatives_as_images(num_examples, expected):
    assert default_negatives(num_examples) == expected


def test_the_losses_take_the_negatives_they_are_given():
    assert build("npid").instances.num_negatives == NUM_EXAMPLES
    assert build("npid", num_negatives=8).instances.num_negatives == 8
    assert build("npid", loss="softmax").instances.num_negatives is None
    with pytest.raises(ValueError, match="num_negatives must stay none"):
        build("npid", num_negatives=8, loss="softmax")


def test_rows_move_towards_what_was_seen():
    method = build("npid", bank_momentum=0.5)
    before = method.instances.bank.rows.clone()
    batch = batch_of("npid", 6)
    method(batch)["loss"].backward()
    rows = method.instances.bank.rows
    v = F.normalize(method.projector(method.encoder(batch.views[0])), dim=1)  # batch statistics
    assert torch.allclose(rows[:6], F.normalize(before[:6] + v, dim=1), atol=1e-5)
    assert torch.equal(rows[6:], before[6:])


def test_the_bank_moves_in_training_only():
    method = build("npid").eval()
    before = method.instances.bank.rows.clone()
    method(batch_of("npid", 6))
    assert torch.equal(method.instances.bank.rows, before)
    assert not method.has_validation_loss


def test_the_proximal_term_is_the_squared_distance_to_the_own_row():
    plain, proximal = build("npid"), build("npid", proximal=3.0)
    rows = plain.instances.bank.rows[:6].clone()
    first, second = (method(batch_of("npid", 6)) for method in (plain, proximal))
    assert torch.allclose(second["loss"] - first["loss"], 3 * second["bank_distance"])
    assert "bank_distance" not in first
    batch = batch_of("npid", 6)
    v = F.normalize(plain.projector(plain.encoder(batch.views[0])), dim=1)
    distance = (v - rows).norm(dim=1).square().mean()
    assert torch.allclose(second["bank_distance"], distance, atol=1e-5)


def test_a_perfect_bank_gives_no_loss_and_a_random_one_that_of_guessing():
    made = instances(NUM_EXAMPLES, 64)
    made.bank.rows.copy_(torch.eye(64)[:NUM_EXAMPLES])
    index = torch.arange(NUM_EXAMPLES)
    assert float(made(made.bank.rows, index, None)) < 1e-4
    assert float(made(torch.zeros_like(made.bank.rows), index, None)) == pytest.approx(
        math.log(NUM_EXAMPLES)
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0.0},
        {"width": 0},
        {"bank_momentum": 1.0},
        {"num_negatives": 0},
        {"loss": "triplet"},
        {"proximal": -1.0},
    ],
)
def test_impossible_values_are_refused(fields):
    with pytest.raises(ValueError, match=r"method\."):
        NPIDConfig(**fields)
