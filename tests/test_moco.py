"""MoCo's loss is the equation of the paper; its queue holds the teacher's last keys."""

import math

import pytest
import torch
import torch.nn.functional as F
from method_steps import batch_of, build

from raysl.methods import METHODS
from raysl.methods.moco import info_nce
from raysl.methods.parts.queue_size import default_queue_size


def naive_info_nce(queries, keys, negatives, temperature):
    """Equation 1 of arXiv 1911.05722, term by term in float64."""
    total = 0.0
    for q, k in zip(queries.double(), keys.double(), strict=True):
        q = q / q.norm()
        positive = math.exp(float(q @ k) / temperature)
        others = sum(math.exp(float(q @ n) / temperature) for n in negatives.double())
        total -= math.log(positive / (positive + others))
    return total / len(queries)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
@pytest.mark.parametrize(("size", "length"), [(1, 1), (5, 12)])
def test_info_nce_equals_the_equation(temperature, size, length):
    draw = torch.Generator().manual_seed(size)
    q, k = torch.randn(2, size, 6, generator=draw, dtype=torch.float64)
    negatives = F.normalize(torch.randn(length, 6, generator=draw, dtype=torch.float64), dim=1)
    q, k = F.normalize(q, dim=1), F.normalize(k, dim=1)
    loss, _ = info_nce(q, k, negatives, temperature)
    assert float(loss) == pytest.approx(naive_info_nce(q, k, negatives, temperature), abs=1e-6)


def test_info_nce_of_equal_keys_is_the_log_of_their_number():
    same = F.normalize(torch.ones(3, 4), dim=1)
    loss, _ = info_nce(same, same, same[:1].expand(7, -1), 0.2)
    assert float(loss) == pytest.approx(math.log(8), abs=1e-6)


def test_info_nce_of_found_keys_among_orthogonal_ones_has_its_known_value():
    loss, accuracy = info_nce(torch.eye(4)[:2], torch.eye(4)[:2], torch.eye(4)[2:], 0.5)
    assert float(loss) == pytest.approx(-2 + math.log(math.exp(2) + 2), abs=1e-6)
    assert float(accuracy) == 100.0


def test_the_keys_of_a_step_are_the_teachers_and_the_next_steps_negatives():
    method = build("moco", queue_size=12)
    batch = batch_of("moco", 8)
    with torch.no_grad():
        keys = F.normalize(method.teacher(batch.views[1]), dim=1)
    before = method.queue.rows.clone()
    method(batch)
    assert torch.allclose(method.queue.rows[:8], keys, atol=1e-6)
    assert torch.equal(method.queue.rows[8:], before[8:])


def test_a_look_at_validation_images_leaves_the_queue_alone():
    method = build("moco").eval()
    before = method.queue.rows.clone()
    method(batch_of("moco", 8))
    assert torch.equal(method.queue.rows, before)


def test_the_queue_follows_the_pool_within_its_bounds():
    assert default_queue_size(1_280_000, 256, share=1 / 20) == 64_000  # the paper's, up to rounding
    assert default_queue_size(50_000, 256, share=1 / 10) == 5_000
    assert default_queue_size(5_000, 256, share=1 / 20) == 4 * 256
    assert default_queue_size(1_000, 256, share=1 / 20) == 500
    assert default_queue_size(1, 256, share=1 / 20) == 1


def test_the_default_queue_is_the_rules():
    assert len(build("moco", queue_size=None).queue.rows) == 8  # half of the 16 images


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": 0.0}, {"momentum": 1.1}, {"queue_size": 0}, {"hidden": 0}, {"width": 0}],
)
def test_wrong_parameters_get_a_sentence(wrong):
    with pytest.raises(ValueError, match=f"method\\.{next(iter(wrong))} must"):
        METHODS["moco"].Config(**wrong)
