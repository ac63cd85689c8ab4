"""Rotation prediction sees all four turns of an image, and learns nothing where none is upright."""

import math

import pytest
import torch
from method_steps import batch_of, build

from raysl.methods.parts.rotations import rotate, rotation_labels


def batch_with(images):
    batch = batch_of("rotation", len(images))
    batch.views[:] = [images]
    return batch


def train(method, images, num_steps):
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    for _ in range(num_steps):
        outputs = method(batch_with(images))
        optimizer.zero_grad()
        outputs["loss"].backward()
        optimizer.step()
    return outputs


def test_every_image_comes_in_all_four_turns_with_its_label():
    images = torch.arange(2 * 9.0).reshape(2, 1, 3, 3)
    copies, labels = rotate(images), rotation_labels(2, like=images)
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert copies[::2, 0].flatten(1).int().tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7, 8],
        [2, 5, 8, 1, 4, 7, 0, 3, 6],
        [8, 7, 6, 5, 4, 3, 2, 1, 0],
        [6, 3, 0, 7, 4, 1, 8, 5, 2],
    ]
    assert torch.equal(copies[1::2] - 9, copies[::2])


def test_turning_once_more_moves_every_copy_on_by_one():
    images = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rotate(images.rot90(1, (2, 3))), rotate(images).roll(-3, 0))


def test_the_memory_format_of_the_images_is_kept():
    images = torch.randn(3, 3, 4, 4)
    assert rotate(images).is_contiguous()
    last = rotate(images.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, rotate(images))


def test_the_loss_is_the_mean_over_images_and_turns():
    method, batch = build("rotation").eval(), batch_of("rotation", 5)
    total = 0.0
    for image in batch.views[0]:
        for turns in range(4):
            turned = torch.rot90(image, turns, (1, 2))[None]
            logits = method.classifier(method.encoder(turned))[0].double().tolist()
            total -= math.log(math.exp(logits[turns]) / sum(map(math.exp, logits)))
    assert method(batch)["loss"].item() == pytest.approx(total / 20, abs=1e-6)


def test_upright_images_are_learnt_and_images_without_upright_cannot_be():
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(16, 3, 16, 16, generator=draw) * 0.3
    sky = torch.linspace(1, -1, 16)[:, None].expand(16, 16)
    assert float(train(build("rotation"), noise + sky, 40)["rotation_top1"]) > 95
    symmetric = sum(rotate(noise).chunk(4))
    outputs = train(build("rotation"), symmetric, 40)
    assert outputs["loss"].item() > math.log(4) - 1e-4
