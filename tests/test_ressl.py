"""ReSSL's loss is the equation of the paper; its queue holds the teacher's last projections."""

import math

import pytest
import torch
import torch.nn.functional as F
from method_steps import batch_of, build

from raysl.methods import METHODS
from raysl.methods.ressl import relation_loss


def naive_relation_loss(z, k, earlier, student_temperature, teacher_temperature):
    """Cross-entropy between the two relations, term by term in float64."""

    def relation(row, temperature):
        terms = [math.exp(float(row @ n) / temperature) for n in earlier.double()]
        return [term / sum(terms) for term in terms]

    total = 0.0
    for student, teacher in zip(z.double(), k.double(), strict=True):
        p = relation(teacher, teacher_temperature)
        q = relation(student / student.norm(), student_temperature)
        total -= sum(a * math.log(b) for a, b in zip(p, q, strict=True))
    return total / len(z)


@pytest.mark.parametrize(("student", "teacher"), [(0.1, 0.04), (0.1, 0.1), (1.0, 0.5)])
@pytest.mark.parametrize(("size", "length"), [(1, 2), (5, 11)])
def test_the_loss_equals_the_equation(student, teacher, size, length):
    draw = torch.Generator().manual_seed(size)
    z, k = torch.randn(2, size, 6, generator=draw, dtype=torch.float64)
    z, k = F.normalize(z, dim=1), F.normalize(k, dim=1)
    earlier = F.normalize(torch.randn(length, 6, generator=draw, dtype=torch.float64), dim=1)
    loss, targets = relation_loss(
        z, k, earlier, student_temperature=student, teacher_temperature=teacher
    )
    expected = naive_relation_loss(z, k, earlier, student, teacher)
    assert float(loss) == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(targets.sum(dim=1), torch.ones(size, dtype=torch.float64))


def test_equal_views_and_temperatures_leave_the_entropy_of_the_target():
    draw = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(4, 6, generator=draw), dim=1)
    earlier = F.normalize(torch.randn(9, 6, generator=draw), dim=1)
    loss, targets = relation_loss(z, z, earlier, student_temperature=0.1, teacher_temperature=0.1)
    assert float(loss) == pytest.approx(float(torch.special.entr(targets).sum() / 4), abs=1e-5)


def test_a_queue_of_equal_rows_tells_nothing():
    z = F.normalize(torch.randn(3, 4), dim=1)
    same = F.normalize(torch.ones(8, 4), dim=1)
    loss, _ = relation_loss(z, z, same, student_temperature=0.1, teacher_temperature=0.04)
    assert float(loss) == pytest.approx(math.log(8), abs=1e-5)


def test_the_lower_the_teachers_temperature_the_more_it_names_the_nearest():
    k = F.normalize(torch.tensor([[1.0, 0.2]]), dim=1)
    _, targets = relation_loss(
        k, k, torch.eye(2), student_temperature=0.1, teacher_temperature=0.001
    )
    assert torch.allclose(targets, torch.tensor([[1.0, 0.0]]))


def test_the_teacher_sees_the_second_view_and_its_projections_enter_the_queue():
    method = build("ressl", queue_size=12)
    batch = batch_of("ressl", 8)
    with torch.no_grad():
        seen = F.normalize(method.teacher(batch.views[1]), dim=1)
    before = method.queue.rows.clone()
    method.eval()(batch)
    assert torch.equal(method.queue.rows, before)
    method.train()(batch)
    assert torch.allclose(method.queue.rows[:8], seen, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"student_temperature": 0.0},
        {"teacher_temperature": -1.0},
        {"momentum": 2.0},
        {"queue_size": 0},
        {"hidden": 0},
        {"width": 0},
    ],
)
def test_wrong_parameters_get_a_sentence(wrong):
    with pytest.raises(ValueError, match=f"method\\.{next(iter(wrong))} must"):
        METHODS["ressl"].Config(**wrong)
