"""Reading ahead: the same training, the same errors, nothing left behind."""

import threading
from pathlib import Path

import pytest
import torch
from pictures import SIZE, class_files, write_images
from PIL import UnidentifiedImageError

from raysl.data.images import Resized, Subset, TensorImages, all_pixels
from raysl.data.importer import import_images
from raysl.data.prefetch import reading_ahead, worth_reading_ahead
from raysl.data.store import load_splits
from raysl.data.subset import batch_indices
from raysl.evaluation.features import extract
from raysl.recipe import Recipe
from raysl.signals import StopTrial
from raysl.state import World, initial_state, read_checkpoint
from raysl.train import train


@pytest.fixture(scope="module")
def jpeg_splits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jpeg")
    source = write_images(folder / "in", class_files("", 30))
    import_images(source, folder / "store", size=SIZE, encoding="jpeg", shard_bytes=2000)
    return load_splits(folder / "store")


@pytest.fixture
def always(monkeypatch):
    """Read ahead on a processor too: what is read, raised and left behind is the same there."""
    monkeypatch.setattr("raysl.data.prefetch.worth_reading_ahead", lambda images, device: True)


def threads_left() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("raysl reads ahead")]


def recipe_of(splits, method="simclr", **changes):
    size = {"pool_size": 32} if method == "simclr" else {}
    recipe = Recipe.create(method, dataset=splits.digest, label_size=16, batch_size=8, **size)
    small = {"encoder.width": 8, "duration": "10 steps", "views.size": SIZE}
    return recipe.with_overrides(small | changes)


def weights(state):
    return {name: value.clone() for name, value in state.method.state_dict().items()}


def assert_same(one, two):
    assert all(torch.equal(value, weights(two)[name]) for name, value in weights(one).items())


def break_image(splits, position: int) -> None:
    """Overwrite the first bytes of one stored training image, in its file."""
    shards = splits.train._shards
    number = next(i for i, end in enumerate(splits.train._ends) if position < end)
    shard = shards[number]
    inside = position - (splits.train._ends[number] - len(shard.labels))
    start, end = shard.offsets[inside : inside + 2]
    content = shard.data[start:end].tobytes()
    for path in Path(splits.train.store).glob("*.arrow"):
        path.write_bytes(path.read_bytes().replace(content, bytes(len(content))))


# The rule


def test_images_of_a_store_are_read_ahead_where_a_gpu_trains(store, splits):
    pool = load_splits(store).pool
    assert worth_reading_ahead(pool, "cuda")
    assert worth_reading_ahead(Resized(Subset(pool, torch.arange(4)), 4), torch.device("cuda", 1))
    assert not worth_reading_ahead(pool, "cpu")
    assert not worth_reading_ahead(splits.train, "cuda")  # in memory


def test_where_it_is_not_worth_it_the_images_are_themselves(store):
    pool = load_splits(store).pool
    with reading_ahead(pool, [torch.arange(2)], device="cpu") as ready:
        assert ready is pool
        assert not threads_left()


# What is read


def test_batches_come_in_their_order_and_once(jpeg_splits, always):
    images = jpeg_splits.train
    batches = [torch.from_numpy(batch_indices(step, len(images), 8, 0)) for step in range(5)]
    with reading_ahead(images, batches, device="cpu") as ready:
        assert (len(ready), ready.shape, ready.digest) == (len(images), images.shape, images.digest)
        for batch in batches:
            assert torch.equal(ready.read(batch), images.read(batch))
        with pytest.raises(AssertionError, match="no more than the batches given"):
            ready.read(batches[0])
    with (
        reading_ahead(images, batches, device="cpu") as ready,
        pytest.raises(AssertionError, match="in the order given"),
    ):
        ready.read(batches[1])
    assert not threads_left()


def test_the_next_batch_is_read_before_it_is_asked_for(jpeg_splits, always):
    class Noted(Subset):
        def read(self, indices):
            begun.append(threading.current_thread().name)
            second_began.set() if len(begun) == 2 else None
            return super().read(indices)

    begun, second_began = [], threading.Event()
    images = Noted(jpeg_splits.train, torch.arange(16))
    with reading_ahead(images, [torch.arange(8), torch.arange(8, 16)], device="cpu") as ready:
        ready.read(torch.arange(8))
        assert second_began.wait(30)
    assert all(name.startswith("raysl reads ahead") for name in begun)


@pytest.mark.parametrize("method", ["simclr", "scratch"])
def test_training_is_the_same_bit_for_bit(jpeg_splits, monkeypatch, method):
    recipe = recipe_of(jpeg_splits, method)
    plain = train(recipe, jpeg_splits.train)
    monkeypatch.setattr("raysl.data.prefetch.worth_reading_ahead", lambda images, device: True)
    assert_same(plain, train(recipe, jpeg_splits.train))
    assert not threads_left()


def test_a_stop_and_a_resume_are_the_same_bit_for_bit(jpeg_splits, always, tmp_path):
    recipe = recipe_of(jpeg_splits)
    whole = train(recipe, jpeg_splits.train)

    def stop_at_five(state, metrics):
        assert threads_left()
        if state.step == 5:
            state.save(tmp_path / "checkpoint.pt")
            raise StopTrial

    with pytest.raises(StopTrial):
        train(recipe, jpeg_splits.train, report=stop_at_five)
    assert not threads_left()
    state = initial_state(recipe, jpeg_splits.train)
    state.restore(read_checkpoint(tmp_path / "checkpoint.pt", world=World()))
    assert_same(whole, train(recipe, jpeg_splits.train, state=state))
    assert train(recipe, jpeg_splits.train, state=state).step == 10  # at its end: nothing to read
    assert not threads_left()


def test_features_are_the_same_bit_for_bit(jpeg_splits, monkeypatch):
    recipe = recipe_of(jpeg_splits)
    encoder = initial_state(recipe, jpeg_splits.train).method.encoder
    options = {"views": recipe.views, "device": "cpu", "batch_size": 7}
    plain = extract(encoder, jpeg_splits.train, **options)
    monkeypatch.setattr("raysl.data.prefetch.worth_reading_ahead", lambda images, device: True)
    assert torch.equal(plain, extract(encoder, jpeg_splits.train, **options))
    assert not threads_left()


# What goes wrong


@pytest.mark.parametrize("ahead", [False, True])
def test_an_image_that_cannot_be_read_is_raised_in_the_loop(tmp_path, monkeypatch, ahead):
    source = write_images(tmp_path / "in", class_files("", 30))
    import_images(source, tmp_path / "out", size=SIZE, encoding="jpeg")
    splits = load_splits(tmp_path / "out")
    recipe = recipe_of(splits)
    third = batch_indices(2, len(splits.train), 8, recipe.seed)
    break_image(splits, int(third[5]))
    splits = load_splits(tmp_path / "out")
    monkeypatch.setattr("raysl.data.prefetch.worth_reading_ahead", lambda images, device: ahead)
    done = []
    with pytest.raises(UnidentifiedImageError, match="cannot identify image file"):
        train(recipe, splits.train, interrupted=lambda: bool(done.append(1)))
    assert len(done) == 2  # the updates before it were made
    assert not threads_left()


def test_a_failing_update_leaves_no_thread(jpeg_splits, always):
    changes = {"optim.name": "sgd", "optim.lr": 1e30}
    with pytest.raises(FloatingPointError):
        train(recipe_of(jpeg_splits, "scratch", **changes), jpeg_splits.train)
    assert not threads_left()


# All at once


def test_all_images_in_one_tensor_are_those_read(jpeg_splits, monkeypatch):
    monkeypatch.setattr("raysl.data.images.READ_AT_ONCE", 8)
    images = jpeg_splits.train
    assert len(images) % 8
    pixels = all_pixels(images, "cpu")
    assert torch.equal(pixels, images.read(torch.arange(len(images))))
    assert TensorImages(pixels, images.labels, images.classes, "x", "0").shape == images.shape
