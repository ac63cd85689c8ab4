"""Every method keeps the contract, and k workers give the gradient of one on the joined batch."""

import math
from dataclasses import fields

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from raysl.encoder import EncoderConfig, build_encoder
from raysl.methods import METHODS, Batch, MethodConfig
from raysl.methods.simclr import nt_xent
from raysl.rng import generator

TRAINED = [name for name, method in METHODS.items() if method.trains_on != "nothing"]


def build(name, *, norm="batch", config=None, channels=3, num_classes=4):
    torch.manual_seed(0)
    method = METHODS[name]
    encoder = build_encoder(EncoderConfig(width=8, norm=norm), channels=channels, image_size=16)
    return method(config or method.Config(), encoder, num_examples=16, num_classes=num_classes)


def batch_of(name, size, *, channels=3, seed=0):
    draw = torch.Generator().manual_seed(seed)
    shape = (size, channels, 16, 16)
    views = [torch.randn(shape, generator=draw) for _ in range(METHODS[name].views.num_views)]
    labels = torch.arange(size) % 4 if METHODS[name].trains_on == "labels" else None
    return Batch(views, torch.arange(size), labels, 0.0, generator(0, "test"))


def test_every_config_belongs_to_one_method():
    kinds = [method.Config for method in METHODS.values()]
    assert len(set(kinds)) == len(kinds)
    assert all(issubclass(kind, MethodConfig) for kind in kinds)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_loss_is_finite_and_its_gradient_reaches_the_encoder(name, channels):
    method = build(name, channels=channels)
    outputs = method(batch_of(name, 8, channels=channels))
    outputs["loss"].backward()
    assert torch.isfinite(outputs["loss"])
    assert all(value.ndim == 0 for value in outputs.values())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.encoder.parameters())


@pytest.mark.parametrize("name", TRAINED)
def test_the_loss_falls_within_30_steps_on_16_images(name):
    method = build(name)
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = method(batch_of(name, 16))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_update(0.5)
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", TRAINED)
def test_a_batch_of_two_works(name):
    assert torch.isfinite(build(name)(batch_of(name, 2))["loss"])


@pytest.mark.parametrize("name", TRAINED)
def test_a_state_dict_round_trip_gives_the_same_next_loss(name):
    first, second = build(name), build(name)
    for parameter in second.parameters():
        parameter.data.add_(0.1)
    first(batch_of(name, 8))  # moves batch statistics and whatever state the method has
    first.after_update(0.1)
    second.load_state_dict(first.state_dict())
    assert first(batch_of(name, 8, seed=1))["loss"] == second(batch_of(name, 8, seed=1))["loss"]


def test_wrong_parameters_get_a_sentence():
    for name, changes in (("simclr", {"temperature": 0.0}), ("scratch", {"label_smoothing": 1.0})):
        with pytest.raises(ValueError, match="method\\."):
            METHODS[name].Config(**changes)


CHANGES = {
    "simclr": {"temperature": 0.1, "projector": (16,), "projector_norm": True},
    "scratch": {"label_smoothing": 0.2},
    "random": {},
}


@pytest.mark.parametrize("name", METHODS)
def test_every_field_of_a_config_changes_something(name):
    assert set(CHANGES[name]) == {field.name for field in fields(METHODS[name].Config)}
    for field, value in CHANGES[name].items():
        plain = build(name)(batch_of(name, 8))["loss"]
        config = METHODS[name].Config(**{field: value})
        assert build(name, config=config)(batch_of(name, 8))["loss"] != plain, field


# --- NT-Xent -----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
@pytest.mark.parametrize("size", [2, 7])
def test_nt_xent_equals_the_equation(temperature, size):
    draw = torch.Generator().manual_seed(size)
    z1, z2 = torch.randn(2, size, 5, generator=draw, dtype=torch.float64)
    loss, _ = nt_xent(z1, z2, temperature)
    assert float(loss) == pytest.approx(naive_nt_xent(z1, z2, temperature), abs=1e-6)


def test_nt_xent_of_identical_projections_is_the_log_of_the_number_of_others():
    z = torch.ones(6, 4)
    assert float(nt_xent(z, z, 0.5)[0]) == pytest.approx(math.log(11))


def test_nt_xent_of_orthogonal_pairs_has_its_known_value_and_full_accuracy():
    z = torch.eye(4)
    loss, accuracy = nt_xent(z, z, 0.5)
    assert float(loss) == pytest.approx(-2 + math.log(math.exp(2) + 6))
    assert float(accuracy) == 100.0


# --- several workers ---------------------------------------------------------------------------


def gradients(name, part=slice(None), wrap=lambda method: method):
    """Of one step in float64 on a part of the same six images and views."""
    method = build(name, norm="group").double()
    for module in method.modules():  # the head's own batch norm is each worker's own
        if isinstance(module, torch.nn.BatchNorm1d):
            module.eval()
    whole = batch_of(name, 6)
    views = [view[part].double() for view in whole.views]
    labels = None if whole.labels is None else whole.labels[part]
    batch = Batch(views, whole.index[part], labels, 0.0, whole.generator)
    model = wrap(method)  # DDP averages only as long as it is alive
    model(batch)["loss"].backward()
    return [p.grad.clone() for p in method.parameters() if p.grad is not None]


def _worker(rank, world, path, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    part = slice(rank * 6 // world, (rank + 1) * 6 // world)
    results[rank] = {name: gradients(name, part, DistributedDataParallel) for name in TRAINED}
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_the_gradient_of_k_workers_is_that_of_one_with_the_joined_batch(world, tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(_worker, args=(world, tmp_path / "rendezvous", results), nprocs=world)
        together = dict(results)
    assert len(together) == world
    for name in TRAINED:
        alone = gradients(name)
        assert sum(g.abs().sum() for g in alone) > 0
        for found in together.values():
            for one, many in zip(alone, found[name], strict=True):
                assert torch.allclose(one, many, atol=1e-5, rtol=0), name
