"""Collectives with gradient: two workers with half a batch each equal one with the whole."""

import pytest
import torch
import torch.distributed as dist
from gloo import work_together

from raysl.methods.barlow_twins import draw_mixture, mix
from raysl.methods.parts.workers import (
    averaged,
    common_generator,
    draw,
    gather,
    num_workers,
    summed,
    worker_rank,
)

pytestmark = pytest.mark.slow  # two processes start

WORLD = 2
ROWS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LOSSES = {
    # Each worker's own loss against everyone's rows, as contrastive losses have it.
    "gather": lambda x: (x @ gather(x).T).exp().sum() / len(x),
    # The same loss on every worker, of statistics of all rows.
    "summed": lambda x: (summed(x.T @ x) / 6).square().sum(),
    "averaged": lambda x: averaged(x.mean(dim=0)).exp().prod(),
}


def own(rows):
    size = len(rows) // num_workers()
    return rows[worker_rank() * size : (worker_rank() + 1) * size]


def loss_and_gradient(name):
    """Means over workers of the loss and, as DDP makes it, of a shared weight's gradient."""
    weight = torch.eye(3, dtype=torch.float64, requires_grad=True)
    loss = LOSSES[name](own(ROWS) @ weight)
    loss.backward()
    found = torch.cat([loss.detach()[None], weight.grad.flatten()])
    if num_workers() > 1:
        dist.all_reduce(found)
    return found / num_workers()


def gradient_beside_a_gather():
    """Of what is added to gathered rows: autograd hands one tensor to both of them."""
    beside = torch.zeros(6, 3, dtype=torch.float64, requires_grad=True)
    doubled = 2 * beside
    x = own(ROWS).clone().requires_grad_()
    ((gather(x) + doubled) * ROWS).sum().backward()
    return beside.grad


def seen():
    """All that one worker sees of the others."""
    found = {name: loss_and_gradient(name) for name in LOSSES}
    found["gathered"] = gather(own(ROWS))
    found["gathered numbers"] = gather(own(torch.arange(6)))
    found["gathered columns"] = gather(own(ROWS.T.contiguous().T))
    found["gathered truths"] = gather(own(ROWS > 0))
    found["beside a gather"] = gradient_beside_a_gather()
    found["drawn"] = gather(draw(torch.Generator().manual_seed(1), 6 // num_workers(), 2))
    found["common"] = torch.rand(3, generator=common_generator(torch.tensor(5), 2))
    unequal = torch.Generator().manual_seed(worker_rank())
    share, order = draw_mixture(unequal, 6 // num_workers(), 1.0)
    found["share"], found["order"] = share, order
    found["mixed"] = gather(mix(own(ROWS), own(-ROWS), share, order))
    return found


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What each of two workers saw."""
    return work_together(seen, WORLD, tmp_path_factory.mktemp("workers"))


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_of_two_workers_are_those_of_one(together, name):
    alone = loss_and_gradient(name)
    assert alone[1:].abs().max() > 0.01
    for found in together:
        assert torch.allclose(found[name], alone, rtol=1e-12)


def test_gathered_rows_are_all_rows_in_order_of_any_kind_of_tensor(together):
    for found in together:
        assert torch.equal(found["gathered"], ROWS)
        assert torch.equal(found["gathered numbers"], torch.arange(6))
        assert torch.equal(found["gathered columns"], ROWS)
        assert torch.equal(found["gathered truths"], ROWS > 0)


def test_the_backward_pass_of_a_gather_leaves_other_gradients_alone(together):
    for found in together:
        assert torch.equal(found["beside a gather"], 2 * ROWS)


def test_two_workers_draw_together_what_one_draws(together):
    alone = draw(torch.Generator().manual_seed(1), 6, 2)
    assert len(alone.unique()) == 12
    assert all(torch.equal(found["drawn"], alone) for found in together)


def test_a_common_generator_depends_on_seed_and_number_alone(together):
    alone = torch.rand(3, generator=common_generator(torch.tensor(5), 2))
    assert all(torch.equal(found["common"], alone) for found in together)
    for seed, number in ((5, 3), (6, 2)):
        other = torch.rand(3, generator=common_generator(torch.tensor(seed), number))
        assert not torch.equal(other, alone)


def test_workers_whose_generators_differ_still_mix_the_same_pairs(together):
    first, second = together
    assert torch.equal(first["share"], second["share"])
    assert torch.equal(first["order"], second["order"])
    expected = mix(ROWS, -ROWS, first["share"], first["order"])
    assert all(torch.allclose(found["mixed"], expected) for found in together)


def test_alone_everything_is_the_identity():
    assert (num_workers(), worker_rank()) == (1, 0)
    assert gather(ROWS) is ROWS
    assert summed(ROWS) is ROWS
    assert torch.equal(averaged(ROWS), ROWS)
