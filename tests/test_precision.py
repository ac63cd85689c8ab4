"""Matrix products are fast in a GPU's updates, and in full where a loss or a view needs them."""

import importlib
from types import SimpleNamespace

import pytest
import torch

from raysl.methods.simclr import SimCLR
from raysl.precision import fast_products, full_precision
from raysl.recipe import Recipe
from raysl.train import train

precision_now = torch.get_float32_matmul_precision
GPU = torch.device("cuda")


def recipe_of(splits):
    return Recipe.create(
        "simclr", dataset=splits.digest, pool_size=32, label_size=32, batch_size=8
    ).with_overrides({"duration": "2 steps"})


def test_a_loss_computes_in_full_within_fast_updates_and_all_is_put_back():
    assert precision_now() == "highest"
    with fast_products(GPU):
        assert precision_now() == "high"
        with full_precision(SimpleNamespace(device=GPU)):
            assert precision_now() == "highest"
        assert precision_now() == "high"
        with pytest.raises(FloatingPointError), full_precision(SimpleNamespace(device=GPU)):
            raise FloatingPointError
        assert precision_now() == "high"
    assert precision_now() == "highest"


def test_a_processor_multiplies_as_before():
    with fast_products("cpu"):
        assert precision_now() == "highest"
        with torch.autocast("cpu", dtype=torch.bfloat16), full_precision(torch.zeros(1)):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize(
    ("seen_by", "during"),
    [
        ("raysl.methods.simclr.embedding_signs", "high"),  # of the forward pass, outside a loss
        ("raysl.views.make._views", "highest"),
    ],
)
def test_the_loop_is_fast_and_its_views_exact(seen_by, during, splits, monkeypatch):
    """As on a GPU, whose flags can be set anywhere."""
    module, name = seen_by.rsplit(".", 1)
    original = getattr(importlib.import_module(module), name)
    seen = set()

    def spied(*arguments, **options):
        seen.add(precision_now())
        return original(*arguments, **options)

    monkeypatch.setattr(seen_by, spied)
    monkeypatch.setattr("raysl.train.fast_products", lambda device: fast_products(GPU))
    monkeypatch.setattr(
        "raysl.views.make.full_precision", lambda z: full_precision(SimpleNamespace(device=GPU))
    )
    train(recipe_of(splits), splits.pool)
    assert seen == {during}
    assert precision_now() == "highest"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu_updates_are_fast_and_what_follows_is_exact(splits, monkeypatch):
    seen = []
    forward = SimCLR.forward
    monkeypatch.setattr(
        SimCLR, "forward", lambda self, batch: seen.append(precision_now()) or forward(self, batch)
    )
    train(recipe_of(splits), splits.pool, device="cuda")
    assert set(seen) == {"high"}
    assert precision_now() == "highest"
