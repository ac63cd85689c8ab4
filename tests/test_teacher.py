"""A teacher starts as its student and follows it as a moving average."""

import pytest
import torch
from torch import nn

from raysl.methods.parts.teacher import follow, teacher_of


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def moved(module, by=1.0):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return module


def test_a_teacher_starts_equal_shares_nothing_and_gets_no_gradient():
    student = network()
    teacher = teacher_of(student)
    x = torch.randn(5, 3)
    assert torch.equal(teacher(x), student(x))
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())
    moved(student)
    assert not torch.equal(teacher(x), student(x))


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.99, 1.0])
def test_following_is_the_moving_average_of_every_parameter(momentum):
    student = network()
    teacher = teacher_of(student)
    moved(student)
    before = [p.detach().double() for p in teacher.parameters()]
    target = [p.detach().clone() for p in student.parameters()]
    follow(teacher, student, momentum)
    for old, new, follower, leader in zip(
        before, target, teacher.parameters(), student.parameters(), strict=True
    ):
        expected = momentum * old + (1 - momentum) * new.double()
        assert torch.allclose(follower.double(), expected, atol=1e-7)
        assert torch.equal(leader, new)


def test_two_steps_forget_by_the_square_of_the_momentum():
    student = nn.Linear(1, 1, bias=False)
    teacher = teacher_of(student)
    nn.init.constant_(student.weight, 1.0)
    nn.init.constant_(teacher.weight, 0.0)
    for _ in range(2):
        follow(teacher, student, 0.9)
    assert teacher.weight.item() == pytest.approx(1 - 0.9**2)


def test_batch_statistics_stay_the_teachers_own():
    student = network()
    teacher = teacher_of(student)
    student(torch.randn(8, 3) + 5)
    before = teacher[1].running_mean.clone()
    follow(teacher, student, 0.0)
    assert torch.equal(teacher[1].running_mean, before)
    assert not torch.equal(student[1].running_mean, before)


def test_a_teacher_of_another_shape_is_refused():
    with pytest.raises(RuntimeError):
        follow(teacher_of(nn.Linear(2, 3)), network(), 0.5)
