"""Label augmentation with self-distillation is the paper's loss."""

import math

import pytest
import torch
from method_steps import batch_of, build

from raysl.methods.label_augmentation import (
    LabelAugmentationConfig,
    aggregate,
    distil,
    joint_cross_entropy,
)
from raysl.methods.parts.rotations import rotate


def logits(*shape, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64) * 2


def softmax(values, temperature=1.0):
    scaled = [math.exp(float(v) / temperature) for v in values]
    return [s / sum(scaled) for s in scaled]


@pytest.mark.parametrize(("size", "num_classes"), [(1, 2), (3, 5)])
def test_the_joint_loss_is_the_mean_over_images_and_turns(size, num_classes):
    joint, labels = logits(4 * size, num_classes, 4), torch.arange(size) % num_classes
    total = 0.0
    for turns in range(4):
        for i in range(size):
            probabilities = softmax(joint[turns * size + i].flatten())
            total -= math.log(probabilities[int(labels[i]) * 4 + turns])
    found = joint_cross_entropy(joint, labels)
    assert float(found) == pytest.approx(total / (4 * size), abs=1e-6)


def test_aggregation_averages_each_turns_own_logits():
    joint = logits(4 * 3, 5, 4)
    expected = [
        [sum(float(joint[turns * 3 + i, y, turns]) for turns in range(4)) / 4 for y in range(5)]
        for i in range(3)
    ]
    assert torch.allclose(aggregate(joint), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_distillation_is_the_divergence_from_the_aggregated_prediction(temperature):
    single, aggregated = logits(3, 5, seed=1), logits(3, 5, seed=2)
    total = 0.0
    for s, a in zip(single, aggregated, strict=True):
        pairs = zip(softmax(a, temperature), softmax(s, temperature), strict=True)
        total += sum(p * math.log(p / q) for p, q in pairs)
    found = distil(single, aggregated, temperature)
    assert float(found) == pytest.approx(temperature**2 * total / 3, abs=1e-6)
    assert float(distil(single, single + 7, temperature)) == pytest.approx(0, abs=1e-9)


def test_the_loss_adds_the_three_terms_and_the_single_one_sees_no_rotation():
    method = build("label_augmentation", single_weight=0.3).eval()
    batch = batch_of("label_augmentation", 6)
    features = method.encoder(rotate(batch.views[0]))
    joint = method.joint(features).unflatten(1, (4, 4))
    single = method.head(method.encoder(batch.views[0]))
    expected = (
        joint_cross_entropy(joint, batch.labels)
        + 0.3 * torch.nn.functional.cross_entropy(single, batch.labels)
        + distil(single, aggregate(joint), 1.0)
    )
    assert method(batch)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_aggregated_prediction_gets_no_gradient_from_the_single_one():
    gradients = []
    for temperature in (1.0, 4.0):
        method = build("label_augmentation", temperature=temperature)
        method(batch_of("label_augmentation", 6))["loss"].backward()
        gradients.append(method.joint.weight.grad)
    assert torch.equal(*gradients)


def test_wrong_parameters_get_a_sentence():
    for fields in ({"temperature": 0.0}, {"single_weight": -0.1}):
        with pytest.raises(ValueError, match=rf"method\.{next(iter(fields))}"):
            LabelAugmentationConfig(**fields)
