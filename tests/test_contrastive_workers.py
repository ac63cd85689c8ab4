"""Every contrastive loss of k workers has the gradient of one with the joined batch."""

import pytest
import torch
from gloo import work_together

from raysl.methods.parts.bank import FeatureBank, FeatureQueue
from raysl.methods.parts.contrast import cosines
from raysl.methods.parts.instances import InstanceBank
from raysl.methods.parts.unit import unit_rows
from raysl.methods.parts.workers import worker_rank
from raysl.methods.simclr import FIELDS, SimCLRConfig, contrastive_loss

WORLD = 2
SIZE = 6  # images of the joined batch
LOSSES = [*FIELDS, "instances", "nce"]


def gradient(loss, part):
    """Of this part of the joined batch's projections, [2, B, D]."""
    torch.manual_seed(0)
    z = torch.randn(2, SIZE, 4, dtype=torch.float64)[:, part].clone().requires_grad_()
    if loss in FIELDS:
        contrastive_loss(*cosines(unit_rows(z).flatten(0, 1)), SimCLRConfig(loss=loss)).backward()
    else:
        num_negatives = 7 if loss == "nce" else None
        made = InstanceBank(9, 4, temperature=0.2, num_negatives=num_negatives).double()
        negatives = made.negatives(torch.Generator().manual_seed(0))
        v = unit_rows(z)
        made(v, torch.arange(SIZE)[part] + 2, negatives).sum().backward()
    return z.grad


def kept(part):
    """Rows of a bank and of two queues after the joined batch."""
    torch.manual_seed(0)
    features = torch.randn(SIZE, 3)[part]
    bank, queue, small = FeatureBank(9, 3), FeatureQueue(8, 3), FeatureQueue(4, 3)
    bank.mix(torch.arange(SIZE)[part] + 2, features, 0.3)
    for kind in (queue, small):
        kind.push(features)
        kind.push(features + 1)
    return [bank.rows, queue.rows, queue.num_stored, small.rows, small.num_stored]


def of_own_part():
    rank = worker_rank()
    part = slice(rank * SIZE // WORLD, (rank + 1) * SIZE // WORLD)
    return {loss: gradient(loss, part) for loss in LOSSES} | {"kept": kept(part)}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    return work_together(of_own_part, WORLD, tmp_path_factory.mktemp("workers"))


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_two_workers_have_the_gradient_of_one(together, loss):
    found = torch.cat([results[loss] for results in together], dim=1) / WORLD  # DDP's mean
    alone = gradient(loss, slice(None))
    assert alone.abs().sum() > 0
    assert torch.allclose(found, alone, atol=1e-10, rtol=0)


@pytest.mark.slow
def test_bank_and_queue_of_two_workers_are_those_of_one(together):
    for results in together:
        for found, alone in zip(results["kept"], kept(slice(None)), strict=True):
            assert torch.allclose(found, alone)
