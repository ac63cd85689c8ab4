"""BYOL and SimSiam collapse without what the papers say keeps them from it, and it is flagged."""

import math

import pytest
import torch

from raysl.data.store import load_splits
from raysl.methods.collapse import collapse_signs
from raysl.methods.parts.signs import embedding_signs
from raysl.methods.parts.unit import unit_rows
from raysl.recipe import Recipe
from raysl.train import train

QUICK = {  # a small encoder at a high learning rate, so that a collapse takes seconds
    "byol": {"duration": "100 steps", "optim.lr": 1e-2},
    "simsiam": {"duration": "150 steps", "optim.lr": 0.8},
}


def signs_of(name, **fields):
    """What the last report of a short training on UCI digits says of the projections."""
    images = load_splits("sklearn:digits").train
    recipe = Recipe.create(
        name, dataset=images.digest, pool_size=len(images), label_size=100, batch_size=64
    )
    changes = {f"method.{key}": value for key, value in fields.items()}
    recipe = recipe.with_overrides({"encoder.width": 8, **QUICK[name], **changes})
    last = {}
    train(recipe, images, report=lambda state, metrics: last.update(metrics))
    return collapse_signs({name.removeprefix("train/"): value for name, value in last.items()})


def rank_of(z):
    return float(embedding_signs(unit_rows(z))["embedding_rank"])


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_healthy_settings_are_not_flagged(name):
    assert signs_of(name) == ()


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["predictor", "stop_gradient"])
def test_byol_without_predictor_or_stop_gradient_ends_in_a_point(missing):
    signs = signs_of("byol", **{missing: False})
    assert "one point" in signs[0]


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["predictor", "stop_gradient"])
def test_simsiam_without_predictor_or_stop_gradient_ends_on_a_line(missing):
    """Its projector's last batch norm keeps the projections from being one point."""
    (sign,) = signs_of("simsiam", **{missing: False})
    assert "on a line" in sign


@pytest.mark.parametrize(("rank", "width"), [(1, 5), (3, 3), (4, 32), (10, 16)])
def test_the_embedding_rank_counts_equally_used_directions(rank, width):
    """Pairs of opposite points on so many axes."""
    axes = torch.eye(width)[:rank]
    z = 3 * torch.cat([axes, -axes]).repeat(4, 1)
    assert rank_of(z) == pytest.approx(rank, rel=1e-5)


def test_the_embedding_rank_is_the_larger_participation_ratio_whatever_the_width():
    draw = torch.Generator().manual_seed(0)
    for offset in (0.0, 1.0, 20.0):  # of the rows' common part, from a ball to a narrow cone
        z = torch.randn(12, 6, generator=draw, dtype=torch.float64) + offset * torch.eye(6)[0]
        unit = z / z.norm(dim=1, keepdim=True)
        about_0 = torch.linalg.eigvalsh(unit.T @ unit)
        about_mean = torch.linalg.eigvalsh(torch.cov(unit.T))
        expected = max(float(e.sum() ** 2 / e.square().sum()) for e in (about_0, about_mean))
        padded = torch.cat([z, torch.zeros(12, 20)], dim=1)  # wider than the batch
        assert rank_of(z) == pytest.approx(expected, rel=1e-3)
        assert rank_of(padded) == pytest.approx(expected, rel=1e-3)


def test_one_point_and_two_opposite_ones_have_rank_1_and_a_narrow_cone_more():
    same = torch.ones(16, 4)
    sides = torch.ones(16, 1)
    sides[:3] = -1
    cone = torch.eye(4)[0] + 0.1 * torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    assert rank_of(same) == pytest.approx(1)
    assert rank_of(sides * same) == pytest.approx(1)
    assert rank_of(cone) > 2


def test_the_rank_of_a_handful_of_images_is_not_logged():
    assert set(embedding_signs(torch.randn(8, 4))) == {"embedding_std", "embedding_rank"}
    assert set(embedding_signs(torch.randn(7, 4))) == {"embedding_std"}


def test_what_is_not_logged_or_not_a_number_says_nothing():
    assert collapse_signs({}) == ()
    assert collapse_signs({"loss": 0.0, "embedding_std": math.nan}) == ()
    assert collapse_signs({"embedding_std": 0.5, "embedding_rank": 5.0}) == ()


def test_each_sign_is_a_sentence_with_its_value():
    both = collapse_signs({"embedding_std": 0.012, "embedding_rank": 1.07})
    assert len(both) == 2
    assert "0.012" in both[0]
    assert "1.07" in both[1]
