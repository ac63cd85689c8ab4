"""The protocols agree with scikit-learn, and the diagnostics tell a collapsed encoder."""

import dataclasses
import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from raysl.data.images import UNLABELLED, Subset, tensor_images
from raysl.encoder import Encoder, EncoderConfig, build_encoder
from raysl.evaluation import PROTOCOLS, EvaluationConfig, evaluate, linear
from raysl.evaluation.diagnostics import (
    collapsed,
    diagnose,
    effective_rank,
    feature_std,
    squared_distances,
    uniformity,
)
from raysl.evaluation.features import Labelled, evaluating, extract, top_accuracy
from raysl.evaluation.knn import votes
from raysl.evaluation.linear import fit_path
from raysl.views import VIEWS, make_views

PENALTIES = (1e3, 1e2, 1.0, 0.1)


@pytest.fixture(scope="module")
def digits():
    """The pixels of the UCI digits as features, in two halves: train and the rest."""
    pixels, labels = load_digits(return_X_y=True)
    features = torch.from_numpy(pixels).float()
    labels = torch.from_numpy(labels).long()
    return Labelled(features[:900], labels[:900]), Labelled(features[900:], labels[900:])


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return build_encoder(EncoderConfig(width=8), channels=3, image_size=16)


def standardised(train, features):
    """What scikit-learn gets, in float64, computed apart from the code under test."""
    train, features = train.double().numpy(), features.double().numpy()
    deviation = train.std(axis=0)
    return (features - train.mean(axis=0)) / np.where(deviation > 0, deviation, np.inf)


def reference_probe(train, features, penalty):
    """scikit-learn's probabilities for `features`, converged."""
    model = LogisticRegression(C=1 / penalty, tol=1e-9, max_iter=10_000)
    model.fit(standardised(train.features, train.features), train.labels.numpy())
    return model.predict_proba(standardised(train.features, features)), model.classes_


def diagnosis(encoder, images, **changes):
    arguments = {"device": "cpu", "seed": 0, "num_examples": 64, "batch_size": 32} | changes
    return diagnose(encoder, images, VIEWS["simclr_small"], **arguments)


def run(encoder, splits, *, test=None, views=VIEWS["none"], **config):
    return evaluate(
        encoder,
        train=splits.train,
        val=splits.val,
        test=test,
        views=views,
        config=EvaluationConfig(**config),
        device="cpu",
    )


class Through(Encoder):
    """An encoder that is one function of the images [B, C, S, S]."""

    def __init__(self, function, num_features):
        sizes = {"num_features": num_features, "channels": 3, "image_size": 16}
        super().__init__(nn.Identity(), name="through", **sizes)
        self.function = function

    def forward(self, images):
        return self.function(images)


# The linear probe.


def test_the_probe_equals_scikit_learns_logistic_regression_on_the_digits(digits):
    train, rest = digits
    for fit in fit_path(train, PENALTIES):
        expected, _ = reference_probe(train, rest.features, fit.penalty)
        ours = fit.log_probabilities(rest.features, 10)
        assert fit.converged
        assert np.abs(ours.exp().numpy() - expected).max() < 1e-3
        assert (ours.argmax(dim=1).numpy() == expected.argmax(axis=1)).all()
        hits = (expected.argmax(axis=1) == rest.labels.numpy()).mean() * 100
        assert top_accuracy(ours, rest.labels, 1) == pytest.approx(hits)


def test_a_probe_with_more_features_than_images_equals_scikit_learns(digits):
    train, rest = digits
    few = Labelled(train.features[:40], train.labels[:40])
    for fit in fit_path(few, PENALTIES):
        expected, _ = reference_probe(few, rest.features, fit.penalty)
        assert (
            np.abs(fit.log_probabilities(rest.features, 10).exp().numpy() - expected).max() < 1e-3
        )


def test_two_classes_equal_scikit_learns_at_twice_c(digits):
    train, _ = digits
    pair = train.labels < 2
    two = Labelled(train.features[pair], train.labels[pair])
    (fit,) = fit_path(two, [10.0])
    expected, _ = reference_probe(two, two.features, 10.0 / 2)
    assert np.abs(fit.log_probabilities(two.features, 2).exp().numpy() - expected).max() < 1e-3


def test_the_gradient_at_the_solution_is_zero_and_no_other_weights_are_better(digits):
    train, _ = digits
    (fit,) = fit_path(train, [3.0], tolerance=1e-10)
    features = torch.from_numpy(standardised(train.features, train.features))
    weight, bias = fit.weight.clone().requires_grad_(), fit.bias.clone().requires_grad_()
    loss = nn.functional.cross_entropy(features @ weight.T + bias, train.labels, reduction="sum")
    (loss + 3.0 / 2 * weight.square().sum()).backward()
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-3 * len(train.labels) * 1e-3


def test_a_class_absent_from_training_is_never_predicted(digits):
    train, rest = digits
    known = train.labels % 3 > 0  # 1, 2, 4, 5, 7, 8
    (fit,) = fit_path(Labelled(train.features[known], train.labels[known]), [1.0])
    scores = fit.log_probabilities(rest.features, 10)
    assert set(scores.argmax(dim=1).tolist()) == {1, 2, 4, 5, 7, 8}
    absent = rest.labels % 3 == 0
    assert top_accuracy(scores[absent], rest.labels[absent], 10) == 0
    neighbours = votes(
        Labelled(train.features[known], train.labels[known]),
        rest.features[absent],
        num_classes=10,
        k=20,
        temperature=0.07,
    )
    assert top_accuracy(neighbours, rest.labels[absent], 10) == 0


def test_one_class_alone_is_always_predicted():
    (fit,) = fit_path(Labelled(torch.randn(5, 3), torch.full((5,), 2)), [1.0])
    assert (fit.log_probabilities(torch.randn(4, 3), 4).argmax(dim=1) == 2).all()


def test_separable_features_give_100_percent_also_without_a_strong_penalty():
    labels = torch.arange(60) % 6
    features = 5 * torch.eye(6)[labels] + 0.1 * torch.randn(60, 6)
    train = Labelled(features, labels)
    for fit in fit_path(train, [1.0, 1e-4, 1e-8]):
        assert fit.converged
        assert top_accuracy(fit.log_probabilities(features, 6), labels, 1) == 100


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4])
def test_constant_features_change_nothing_and_alone_predict_the_most_frequent_class(digits, value):
    train, rest = digits
    constant = torch.full((len(train.labels), 1), value)
    both = Labelled(torch.cat([train.features, constant], dim=1), train.labels)
    (expected,), (fit,) = fit_path(train, [1.0]), fit_path(both, [1.0])
    held_out = torch.cat([rest.features, constant[: len(rest.labels)] + 1], dim=1)
    difference = fit.log_probabilities(held_out, 10) - expected.log_probabilities(rest.features, 10)
    assert difference.abs().max() < 1e-3

    labels = torch.tensor([0, 1, 1])
    (alone,) = fit_path(Labelled(torch.full((3, 2), value), labels), [1.0])
    probabilities = alone.log_probabilities(torch.full((1, 2), value), 2).exp()
    torch.testing.assert_close(probabilities, torch.tensor([[1 / 3, 2 / 3]]).double())


def test_the_path_in_any_order_goes_from_strong_to_weak_and_gives_what_each_penalty_gives_alone(
    digits,
):
    train, rest = digits
    path = fit_path(train, [1.0, 1e4, 30.0, 30.0])
    assert [fit.penalty for fit in path] == [1e4, 30.0, 1.0]
    for fit in path:
        (alone,) = fit_path(train, [fit.penalty])
        ours, other = (f.log_probabilities(rest.features, 10).exp() for f in (fit, alone))
        assert (ours - other).abs().max() < 1e-3


def test_the_probe_gives_the_same_bits_twice(digits):
    first, second = (fit_path(digits[0], PENALTIES) for _ in range(2))
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(first, second, strict=True))


def test_the_penalty_is_chosen_on_val_and_of_equals_the_strongest(digits):
    train, rest = digits
    config = EvaluationConfig(linear_penalties=(1e-2, 1.0, 1e2, 1e4, 1e6))
    best = {}
    for seed, size in ((0, 200), (1, 200), (2, 3)):
        subset = torch.randperm(len(rest.labels), generator=torch.Generator().manual_seed(seed))
        val = Labelled(rest.features[subset[:size]], rest.labels[subset[:size]])
        found = linear.predict(train, {"val": val, "test": rest}, num_classes=10, config=config)
        path = found.details["path"]
        top = max(step["val_top1"] for step in path)
        best[size] = max(step["penalty"] for step in path if step["val_top1"] == top)
        assert found.chosen == {"penalty": best[size]}
        (fit,) = fit_path(train, [best[size]])
        accuracy = top_accuracy(found.scores["test"], rest.labels, 1)
        expected = top_accuracy(fit.log_probabilities(rest.features, 10), rest.labels, 1)
        assert accuracy == pytest.approx(expected, abs=0.12)  # one image of 897
    assert len(set(best.values())) == 2  # the choice follows val


# The nearest neighbours.


def reference_neighbours(train, features, k, temperature):
    model = KNeighborsClassifier(
        k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / temperature)
    )
    model.fit(train.features.double().numpy(), train.labels.numpy())
    return model.predict(features.double().numpy())


@pytest.mark.parametrize("k", [1, 5, 20])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_neighbours_vote_as_in_scikit_learn(digits, k, temperature):
    train, rest = digits
    ours = votes(train, rest.features, num_classes=10, k=k, temperature=temperature)
    expected = reference_neighbours(train, rest.features, k, temperature)
    assert (ours.argmax(dim=1).numpy() == expected).all()


def test_with_fewer_images_than_k_all_vote(digits):
    train, rest = digits
    few = Labelled(train.features[:15], train.labels[:15])
    ours = votes(few, rest.features, num_classes=10, k=20, temperature=0.07)
    expected = reference_neighbours(few, rest.features, 15, 0.07)
    assert (ours.argmax(dim=1).numpy() == expected).all()


def test_neighbours_do_not_depend_on_the_memory_budget_or_break_at_a_low_temperature(digits):
    train, rest = digits
    arguments = {"num_classes": 10, "k": 20, "temperature": 0.07}
    whole = votes(train, rest.features, **arguments)
    for memory_bytes in (1, 10_000, 1_000_000):
        some = votes(train, rest.features[:50], memory_bytes=memory_bytes, **arguments)
        torch.testing.assert_close(some, whole[:50], rtol=1e-4, atol=0)
    sharp = votes(train, rest.features, num_classes=10, k=20, temperature=1e-4)
    nearest = votes(train, rest.features, num_classes=10, k=1, temperature=0.07)
    assert (sharp.argmax(dim=1) == nearest.argmax(dim=1)).all()


def test_top_accuracy_counts_the_label_among_the_k_largest_and_breaks_ties_by_order():
    scores = torch.tensor([[0.1, 0.5, 0.4], [0.3, 0.3, 0.3], [-torch.inf, 0.0, -torch.inf]])
    assert top_accuracy(scores, torch.tensor([2, 0, 1]), 1) == pytest.approx(200 / 3)
    assert top_accuracy(scores, torch.tensor([2, 1, 0]), 2) == pytest.approx(200 / 3)
    assert top_accuracy(scores, torch.tensor([0, 2, 1]), 2) == pytest.approx(100 / 3)


# Extraction and the whole evaluation.


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_features_keep_the_order_and_do_not_depend_on_the_batch_size(splits, norm):
    torch.manual_seed(0)
    encoder = build_encoder(EncoderConfig(width=8, norm=norm), channels=3, image_size=16)
    arguments = {"device": "cpu", "views": VIEWS["none"]}
    whole = extract(encoder, splits.train, batch_size=100, **arguments)
    assert whole.shape == (64, encoder.num_features)
    assert whole.dtype == torch.float32
    for batch_size in (1, 5, 64):
        parts = extract(encoder, splits.train, batch_size=batch_size, **arguments)
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    one = extract(encoder, Subset(splits.train, torch.tensor([7])), batch_size=8, **arguments)
    torch.testing.assert_close(one, whole[7:8], rtol=1e-4, atol=1e-5)


def test_bfloat16_features_are_float32_tensors_near_the_exact_ones(encoder, splits):
    arguments = {"device": "cpu", "views": VIEWS["none"], "batch_size": 32}
    exact = extract(encoder, splits.train, **arguments)
    rough = extract(encoder, splits.train, precision="bfloat16", **arguments)
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).norm() < 0.05 * exact.norm()


def test_evaluation_leaves_modes_weights_statistics_gradients_and_randomness_alone(encoder, splits):
    encoder.train()
    frozen = next(m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d))
    frozen.eval()
    modes = [module.training for module in encoder.modules()]
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    torch.manual_seed(3)
    random_state = torch.get_rng_state()
    run(encoder, splits, test=splits.test)
    diagnosis(encoder, splits.val)
    assert modes == [module.training for module in encoder.modules()]
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in encoder.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    encoder(torch.randn(4, 3, 16, 16)).sum().backward()  # and it can be trained on


def test_features_can_be_trained_on(encoder, splits):
    features = extract(encoder, splits.val, VIEWS["none"], device="cpu", batch_size=8)
    head = nn.Linear(features.shape[1], 2)
    head(features).sum().backward()
    assert head.weight.grad is not None


def test_modes_come_back_when_the_encoder_fails(splits):
    def fail(images):
        raise RuntimeError("broken")

    encoder = Through(fail, 3).train()
    with pytest.raises(RuntimeError, match="broken"):
        extract(encoder, splits.val, VIEWS["none"], device="cpu", batch_size=8)
    assert encoder.training


def test_modules_are_told_when_training_goes_on(splits):
    """Some of timm's then drop what they computed from the weights (LeViT's attention biases)."""

    class Remembering(nn.Linear):
        told: ClassVar[list[bool]] = []

        def train(self, mode=True):
            self.told.append(mode)
            return super().train(mode)

    module = nn.Sequential(nn.Linear(2, 2).eval(), Remembering(2, 2))
    module[0].eval()
    Remembering.told.clear()
    with evaluating(module):
        assert not module[1].training
    assert Remembering.told[-1]
    assert [m.training for m in module] == [False, True]


def test_a_diverged_encoder_is_named_in_a_sentence(splits):
    encoder = Through(lambda images: images.mean(dim=(2, 3)) * float("nan"), 3)
    with pytest.raises(ValueError, match=r"32 of the 32 images of patterns/val.*diverged"):
        extract(encoder, splits.val, VIEWS["none"], device="cpu", batch_size=8)


def test_the_metrics_are_those_of_the_splits_that_were_given(encoder, splits):
    without = run(encoder, splits)
    assert set(without.metrics) == {"val/linear_top1", "val/knn_top1", "linear_penalty"}
    assert without.protocols == {name: module.VERSION for name, module in PROTOCOLS.items()}
    both = run(encoder, splits, test=splits.test)
    assert set(both.metrics) == set(without.metrics) | {"test/linear_top1", "test/knn_top1"}
    assert all(both.metrics[name] == without.metrics[name] for name in without.metrics)
    only = run(encoder, splits, protocols=("knn",))
    assert set(only.metrics) == {"val/knn_top1"}
    assert set(only.protocols) == set(only.details) == {"knn"}
    assert run(encoder, splits, protocols=()).metrics == {}


def test_top5_is_given_with_more_than_five_classes(encoder, splits):
    names = tuple("abcdef")
    six = [
        tensor_images(images.pixels, torch.arange(len(images)) % 6, classes=names, name="six")
        for images in (splits.train, splits.val)
    ]
    metrics = run(encoder, dataclasses.replace(splits, train=six[0], val=six[1])).metrics
    for name in ("linear", "knn"):
        assert 0 <= metrics[f"val/{name}_top1"] <= metrics[f"val/{name}_top5"] <= 100


def test_each_split_is_read_once_and_test_not_at_all_unless_given(encoder, splits):
    class Counted(type(splits.train)):
        def read(self, indices):
            seen.append((self.name, len(indices)))
            return super().read(indices)

    def counted(images):
        fields = {f.name: getattr(images, f.name) for f in dataclasses.fields(images)}
        return Counted(**fields)

    watched = dataclasses.replace(
        splits, **{name: counted(getattr(splits, name)) for name in ("train", "val", "test")}
    )
    seen: list[tuple[str, int]] = []
    run(encoder, watched)
    assert seen == [("patterns/train", 64), ("patterns/val", 32)]
    run(encoder, watched, test=watched.test)
    assert seen[2:] == [("patterns/train", 64), ("patterns/val", 32), ("patterns/test", 32)]


def test_an_encoder_that_gives_the_class_away_scores_100(splits):
    def painted(images):  # each class a grey of its own
        levels = (60 * images.labels + 20).to(torch.uint8)[:, None, None, None]
        return tensor_images(
            levels.expand_as(images.pixels), images.labels, classes=images.classes, name="painted"
        )

    def level(images):
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([mean.cos(), mean.sin()], dim=1)  # [B, 2], four points on a circle

    clear = dataclasses.replace(
        splits, **{name: painted(getattr(splits, name)) for name in ("train", "val", "test")}
    )
    metrics = run(Through(level, 2), clear, test=clear.test).metrics
    assert metrics["val/linear_top1"] == metrics["test/linear_top1"] == 100
    assert metrics["val/knn_top1"] == metrics["test/knn_top1"] == 100


def test_two_training_images_one_val_image_and_one_test_image_work(encoder, splits):
    tiny = dataclasses.replace(
        splits,
        train=Subset(splits.train, torch.tensor([1, 2])),
        val=Subset(splits.val, torch.tensor([1])),
    )
    metrics = run(encoder, tiny, test=Subset(splits.test, torch.tensor([2]))).metrics
    assert all(metrics[f"{s}/{p}_top1"] in (0, 100) for s in ("val", "test") for p in PROTOCOLS)


def test_a_constant_encoder_scores_what_guessing_scores(splits):
    metrics = run(Through(lambda images: torch.ones(len(images), 8), 8), splits).metrics
    assert metrics["val/linear_top1"] == metrics["val/knn_top1"] == 25


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_unlabelled_images_are_named_in_a_sentence(encoder, splits, split):
    images = getattr(splits, split)
    labels = images.labels.clone()
    labels[3:5] = UNLABELLED
    broken = dataclasses.replace(splits, **{split: dataclasses.replace(images, labels=labels)})
    sentence = f"2 of the {len(images)} {split} images of patterns/{split} have no label"
    with pytest.raises(ValueError, match=sentence):
        run(encoder, broken, test=broken.test)


def test_an_empty_split_is_named_in_a_sentence(encoder, splits):
    empty = Subset(splits.val, torch.arange(0))
    with pytest.raises(ValueError, match="val split of patterns/val has no images"):
        run(encoder, dataclasses.replace(splits, val=empty))


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"protocols": ("liner",)}, "Unknown protocol 'liner'; did you mean 'linear'"),
        ({"linear_penalties": ()}, "linear_penalties must be one or more numbers above 0"),
        ({"linear_penalties": (1.0, 0.0)}, "linear_penalties must be one or more numbers above 0"),
        ({"knn_k": 0}, "knn_k must be at least 1, not 0"),
        ({"knn_temperature": 0.0}, "knn_temperature must be above 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"diagnostics_examples": 1}, "diagnostics_examples must be at least 2"),
    ],
)
def test_bad_configurations_are_refused_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        EvaluationConfig(**fields)


# The diagnostics.


def test_features_uniform_on_a_sphere_have_known_diagnostics():
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 32, generator=draw)
    assert feature_std(features) == pytest.approx(1, abs=0.02)
    assert 31 < effective_rank(features) <= 32
    # With cosine c ~ N(0, 1/D): log E exp(-4 + 4 c) = -4 + 8 / D, to first order in 1/D.
    assert uniformity(features) == pytest.approx(-4 + 8 / 32, abs=0.03)
    other = torch.randn(4000, 32, generator=draw)
    assert squared_distances(features, features).abs().max() < 1e-12
    assert float(squared_distances(features, other).mean()) == pytest.approx(2, abs=0.02)
    torch.testing.assert_close(
        squared_distances(features, -features), torch.full((4000,), 4.0).double()
    )


def test_identical_features_have_rank_one_and_no_spread_even_with_rounding_noise():
    features = torch.rand(1, 64).expand(100, 64) * (1 + 1e-7 * torch.randn(100, 64))
    assert effective_rank(features) == pytest.approx(1, abs=1e-6)
    assert feature_std(features) < 1e-5
    assert uniformity(features) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_equal_variance_along_some_directions_gives_their_number_as_rank(rank):
    directions = torch.linalg.qr(torch.randn(40, rank)).Q
    drawn = torch.randn(200, rank)
    positions = torch.linalg.qr(drawn - drawn.mean(dim=0)).Q  # centred, equal lengths
    features = 3 + positions @ directions.T
    assert effective_rank(features) == pytest.approx(rank, rel=0.02)


def test_uniformity_of_three_points_is_the_mean_over_their_pairs():
    points = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])  # squared distances 2, 4, 2
    expected = math.log((2 * math.exp(-4) + math.exp(-8)) / 3)
    assert uniformity(points) == pytest.approx(expected)


def constant(images):
    return torch.ones(len(images), 16)


def one_direction(images):
    return images.mean(dim=(1, 2, 3))[:, None] * torch.linspace(-1, 1, 16)


def one_direction_off_the_origin(images):
    return 5 + one_direction(images)


@pytest.mark.parametrize("function", [constant, one_direction, one_direction_off_the_origin])
def test_a_constant_and_a_one_direction_encoder_are_collapsed(splits, function):
    assert collapsed(diagnosis(Through(function, 16), splits.train))


@pytest.mark.parametrize("name", ["convnet", "resnet18"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_random_encoder_is_not_collapsed(splits, name, seed):
    torch.manual_seed(seed)
    encoder = build_encoder(EncoderConfig(name=name), channels=3, image_size=16)
    assert not collapsed(diagnosis(encoder, splits.train))


def test_pulling_all_views_together_collapses_and_pushing_images_apart_does_not(splits):
    def trained(num_steps, *, push):
        torch.manual_seed(0)
        encoder = build_encoder(EncoderConfig(width=8), channels=3, image_size=16)
        optimizer = torch.optim.AdamW(encoder.parameters(), 1e-2)
        draw = torch.Generator().manual_seed(0)
        for _ in range(num_steps):
            views = make_views(splits.train.pixels, VIEWS["simclr_small"], draw)
            first, second = (nn.functional.normalize(encoder(view)) for view in views)
            loss = -(first * second).sum(dim=1).mean()
            if push:
                loss = nn.functional.cross_entropy(first @ second.T / 0.2, torch.arange(64))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return diagnosis(encoder, splits.val)

    pulled, pushed = trained(100, push=False), trained(25, push=True)
    assert collapsed(pulled)
    assert not collapsed(pushed)
    assert pulled["uniformity"] > -0.01 > -1 > pushed["uniformity"]
    assert pulled["alignment"] < 0.01 < pushed["alignment"]


@pytest.mark.parametrize("size", [2, 3, 31, 32])
def test_diagnostics_work_from_two_images_on(encoder, splits, size):
    images = Subset(splits.train, torch.arange(size))
    found = diagnosis(encoder, images)
    assert all(math.isfinite(value) for value in found.values())
    assert found["examples"] == size
    assert 1 <= found["effective_rank"] <= size - 1
    assert not collapsed(found)
    assert collapsed(diagnosis(Through(constant, 16), images))


def test_one_image_cannot_be_diagnosed(encoder, splits):
    with pytest.raises(ValueError, match="need at least 2 images"):
        diagnosis(encoder, Subset(splits.val, torch.tensor([0])))


def test_diagnostics_repeat_with_the_seed_and_look_at_no_more_images_than_asked(encoder, splits):
    first = diagnosis(encoder, splits.train, num_examples=20)
    assert first["examples"] == 20
    assert diagnosis(encoder, splits.train, num_examples=20) == first
    assert diagnosis(encoder, splits.train, num_examples=20, seed=1) != first


def test_recipes_with_one_view_or_none_random_are_diagnosed_too(encoder, splits):
    arguments = {"device": "cpu", "seed": 0, "num_examples": 32, "batch_size": 32}
    for name in ("crop_flip", "dino_small"):
        assert diagnose(encoder, splits.train, VIEWS[name], **arguments)["alignment"] > 0
    still = diagnose(encoder, splits.train, VIEWS["none"], **arguments)["alignment"]
    assert still == pytest.approx(0, abs=1e-9)
