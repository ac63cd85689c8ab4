"""k workers give the gradient of one on the joined batch; what they keep agrees on all of them."""

import traceback

import pytest
import torch
from gloo import work_together
from method_cases import CASES
from method_steps import batch_of, build
from torch import nn

from raysl.methods import METHODS, Batch
from raysl.methods.parts.workers import num_workers, worker_rank
from raysl.train import distributed

pytestmark = pytest.mark.slow

TRAINED = [name for name, method in METHODS.items() if method.trains_on != "nothing"]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def without_batch_statistics(name):
    encoder = CASES[name].encoders[0]
    if encoder.name == "convnet":
        encoder = type(encoder)(width=8, norm="group")
    method = build(name, encoder=encoder).double()
    for module in method.modules():  # the heads' own batch norms are each worker's own
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
            module.train = lambda mode=True, module=module: module
    return method


def part_of(batch, part):
    labels = None if batch.labels is None else batch.labels[part]
    views = [view[part].double() for view in batch.views]
    return Batch(views, batch.index[part], labels, batch.progress, batch.generator)


def gradients(name, part=slice(None), wrap=lambda method: method):
    """Of the second of two steps in float64 on a part of the same six images and views."""
    method = without_batch_statistics(name)
    model = wrap(method)  # DDP averages only as long as it is alive
    for step in range(2):
        method.zero_grad()
        batch = batch_of(name, 6, seed=step, progress=step / 2)
        method.before_forward(step)
        model(part_of(batch, part))["loss"].backward()
        if step == 0:
            method.after_update(0.5)
    return [None if p.grad is None else p.grad.clone() for p in method.parameters()]


def kept(name, part, wrap):
    """All parameters and buffers but batch statistics after 5 steps."""
    method = build(name)
    model = wrap(method)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=0.05)
    for step in range(5):
        batch = batch_of(name, 12, seed=step, progress=step / 5)
        views = [view[part] for view in batch.views]
        labels = None if batch.labels is None else batch.labels[part]
        batch = Batch(views, batch.index[part], labels, step / 5, batch.generator)
        method.before_forward(step // 2)
        model(batch)["loss"].backward()
        method.before_update(step / 5)
        optimizer.step()
        optimizer.zero_grad()
        method.after_update((step + 1) / 5)
    return {k: v for k, v in method.state_dict().items() if not k.endswith(STATISTICS)}


def share(rank, world, total):
    return slice(rank * total // world, (rank + 1) * total // world)


def of_own_share():
    """By method: the gradients and what is kept, or why there are none."""
    rank, world = worker_rank(), num_workers()
    found = {}
    for name in TRAINED:
        try:
            found[name] = (
                gradients(name, share(rank, world, 6), lambda m: distributed(m, "cpu")),
                kept(name, share(rank, world, 12), lambda m: distributed(m, "cpu")),
            )
        except Exception:
            found[name] = traceback.format_exc()
    return found


@pytest.fixture(scope="module", params=[2, 3])
def together(request, tmp_path_factory):
    """What each rank of 2 or of 3 workers found, by method."""
    found = work_together(of_own_share, request.param, tmp_path_factory.mktemp("workers"))
    return {name: [each[name] for each in found] for name in TRAINED}


@pytest.mark.parametrize("name", TRAINED)
def test_the_gradient_of_k_workers_is_that_of_one_with_the_joined_batch(together, name):
    alone = gradients(name)
    assert sum(g.abs().sum() for g in alone if g is not None) > 0
    for found in together[name]:
        assert not isinstance(found, str), found
        for one, many in zip(alone, found[0], strict=True):
            assert (one is None) == (many is None)
            if one is not None:
                assert torch.allclose(one, many, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", TRAINED)
def test_all_that_is_kept_agrees_on_all_workers_after_five_steps(together, name):
    first, *others = together[name]
    assert not isinstance(first, str), first
    for other in others:
        assert not isinstance(other, str), other
        assert other[1].keys() == first[1].keys()
        for key, value in first[1].items():
            assert torch.allclose(value.double(), other[1][key].double(), atol=1e-6), key
