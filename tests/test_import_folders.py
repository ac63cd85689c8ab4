"""Folders of image files become the splits, classes and pixels that they show."""

import pytest
import torch
from pictures import SIZE, chw, class_files, contents, picture, sizes, write_images
from PIL import Image

from raysl.data.importer import import_images
from raysl.data.store import load_splits


def test_class_folders_become_stratified_splits_that_share_nothing(tmp_path):
    source = write_images(tmp_path / "in", class_files("", 20))
    manifest = import_images(source, tmp_path / "out", size=SIZE)
    splits = load_splits(tmp_path / "out")
    assert splits.train.classes == ("ant", "bee", "cow")
    assert sizes(tmp_path / "out") == (42, 42, 6, 12)
    for images, per_class in ((splits.train, 14), (splits.val, 2), (splits.test, 4)):
        assert images.labels.bincount().tolist() == [per_class] * 3
    parts = [contents(images) for images in (splits.train, splits.val, splits.test)]
    assert len(set.union(*parts)) == 60
    assert set.union(*parts) == {chw(number) for number in range(60)}
    assert manifest["split"]["made"] == ["test", "val"]


def test_labels_follow_their_images(tmp_path):
    source = write_images(tmp_path / "in", class_files("", 20))
    import_images(source, tmp_path / "out", size=SIZE)
    splits = load_splits(tmp_path / "out")
    for images in (splits.train, splits.val, splits.test):
        for image, label in zip(images.read(torch.arange(len(images))), images.labels, strict=True):
            numbers = range(20 * int(label), 20 * int(label) + 20)
            assert image.numpy().tobytes() in {chw(number) for number in numbers}


def test_the_splits_of_a_seed_are_the_same_again_and_others_differ(tmp_path):
    source = write_images(tmp_path / "in", class_files("", 20))
    digests = [
        import_images(source, tmp_path / f"out{i}", size=SIZE, seed=seed)["digest"]
        for i, seed in enumerate((5, 5, 6))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_split_folders_are_kept_and_a_missing_val_is_made_from_train(tmp_path):
    files = class_files("train/", 10) | class_files("TEST/", 4, start=100)
    source = write_images(tmp_path / "in", files)
    manifest = import_images(source, tmp_path / "out", size=SIZE, val_fraction=0.2)
    assert sizes(tmp_path / "out") == (24, 24, 6, 12)
    assert contents(load_splits(tmp_path / "out").test) == {chw(n) for n in range(100, 112)}
    assert manifest["split"]["made"] == ["val"]


def test_unlabelled_images_join_the_pool_and_a_given_pool_is_the_pool(tmp_path):
    labelled = (
        class_files("train/", 4)
        | class_files("val/", 2, start=50)
        | class_files("test/", 2, start=60)
    )
    extra = {f"{i}.png": 200 + i for i in range(5)}
    unlabelled = write_images(
        tmp_path / "a", labelled | {f"unlabeled/{k}": v for k, v in extra.items()}
    )
    import_images(unlabelled, tmp_path / "out-a", size=SIZE)
    assert sizes(tmp_path / "out-a") == (17, 12, 6, 6)
    pool = load_splits(tmp_path / "out-a").pool
    assert sorted(pool.labels.tolist()) == [-1] * 5 + [0] * 4 + [1] * 4 + [2] * 4
    given = write_images(tmp_path / "b", labelled | {f"pool/{k}": v for k, v in extra.items()})
    import_images(given, tmp_path / "out-b", size=SIZE)
    assert sizes(tmp_path / "out-b") == (5, 12, 6, 6)


def test_the_pool_does_not_store_the_training_images_twice(tmp_path):
    source = write_images(tmp_path / "in", class_files("", 10))
    manifest = import_images(source, tmp_path / "out", size=SIZE)
    assert sum(group["images"] for group in manifest["groups"].values()) == 30


def test_a_flat_folder_is_a_pool_without_labels(tmp_path):
    source = write_images(tmp_path / "in", {f"{i}.png": i for i in range(9)})
    (source / "notes.txt").write_text("no image")
    manifest = import_images(source, tmp_path / "out", size=SIZE)
    splits = load_splits(tmp_path / "out")
    assert sizes(tmp_path / "out") == (9, 0, 0, 0)
    assert (splits.pool.labels == -1).all()
    assert splits.test.read(torch.arange(0)).shape == (0, 3, SIZE, SIZE)
    assert manifest["ignored_files"] == 1


def test_a_wrapping_folder_is_no_class(tmp_path):
    source = write_images(tmp_path / "in", {f"data/images/{i}.png": i for i in range(9)})
    import_images(source, tmp_path / "out", size=SIZE)
    assert sizes(tmp_path / "out") == (9, 0, 0, 0)


def test_hidden_files_and_folders_are_not_imported(tmp_path):
    files = {"a/1.png": 1, "b/2.png": 2, ".cache/3.png": 3, "a/._1.png": 4, "__MACOSX/a/1.png": 5}
    source = write_images(tmp_path / "in", files)
    manifest = import_images(source, tmp_path / "out", size=SIZE, val_fraction=0, test_fraction=0)
    assert sizes(tmp_path / "out") == (2, 2, 0, 0)
    assert manifest["classes"] == ["a", "b"]


def test_a_class_named_like_a_split_has_to_be_told_apart(tmp_path):
    files = {
        f"{kind}/{i}.png": 10 * k + i for k, kind in enumerate(("bus", "train")) for i in range(10)
    }
    source = write_images(tmp_path / "in", files)
    with pytest.raises(
        ValueError, match=r"folders named like splits \(train\) beside others \(bus"
    ):
        import_images(source, tmp_path / "out", size=SIZE)
    manifest = import_images(source, tmp_path / "out", size=SIZE, split="random")
    assert manifest["classes"] == ["bus", "train"]
    assert sizes(tmp_path / "out") == (14, 14, 2, 4)


def test_random_splits_mix_what_was_given(tmp_path):
    files = class_files("train/", 10) | class_files("test/", 10, start=100)
    source = write_images(tmp_path / "in", files)
    import_images(source, tmp_path / "out", size=SIZE, split="random", test_fraction=0.5)
    test = contents(load_splits(tmp_path / "out").test)
    assert len(test) == 30
    assert 0 < len(test & {chw(n) for n in range(30)}) < 30


def test_grey_stays_grey_if_all_images_are_grey(tmp_path):
    source = write_images(tmp_path / "in", {f"{i}.png": i for i in range(4)}, channels=1)
    assert import_images(source, tmp_path / "grey", size=SIZE)["shape"] == [1, SIZE, SIZE]
    write_images(source, {"5.png": 5})
    assert import_images(source, tmp_path / "mixed", size=SIZE)["shape"] == [3, SIZE, SIZE]
    forced = import_images(source, tmp_path / "forced", size=SIZE, colour="grey")
    assert forced["shape"] == [1, SIZE, SIZE]


def test_colour_files_without_colour_are_noted(tmp_path):
    for i in range(4):
        image = Image.fromarray(picture(i, channels=1)).convert("RGB")
        (tmp_path / "in").mkdir(exist_ok=True)
        image.save(tmp_path / "in" / f"{i}.png")
    manifest = import_images(tmp_path / "in", tmp_path / "out", size=SIZE)
    assert manifest["shape"] == [3, SIZE, SIZE]
    assert "colour='grey'" in manifest["notes"][0]


def test_mean_and_std_are_those_of_the_pool(tmp_path):
    source = write_images(tmp_path / "in", class_files("", 10))
    manifest = import_images(source, tmp_path / "out", size=SIZE)
    pool = load_splits(tmp_path / "out").pool
    pixels = pool.read(torch.arange(len(pool))).double() / 255
    assert manifest["mean"] == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-12)
    expected = pixels.std((0, 2, 3), correction=0).tolist()
    assert manifest["std"] == pytest.approx(expected, abs=1e-9)


def test_raw_and_png_hold_the_same_pixels_and_digest_and_jpeg_does_not(tmp_path):
    source = write_images(tmp_path / "in", class_files("", 10))
    manifests = {
        encoding: import_images(source, tmp_path / encoding, size=SIZE, encoding=encoding)
        for encoding in ("raw", "png", "jpeg")
    }
    raw, png_, jpeg = (load_splits(tmp_path / e).train for e in ("raw", "png", "jpeg"))
    everything = torch.arange(len(raw))
    assert torch.equal(raw.read(everything), png_.read(everything))
    assert manifests["raw"]["digest"] == manifests["png"]["digest"] != manifests["jpeg"]["digest"]
    difference = raw.read(everything).float() - jpeg.read(everything).float()
    assert 0 < difference.abs().mean() < 16  # of noise, the worst case
