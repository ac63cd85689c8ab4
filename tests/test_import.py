"""What an import leaves out and reports, and what a failed one leaves behind: nothing."""

import csv
import os

import numpy as np
import pytest
from pictures import SIZE, chw, class_files, contents, png, sizes, write_images
from PIL import Image

from raysl.data.importer import import_images
from raysl.data.store import load_splits


def test_unreadable_images_are_skipped_counted_and_listed(tmp_path):
    source = write_images(tmp_path / "in", class_files("", 20))
    (source / "ant" / "000.png").write_bytes(b"")
    (source / "bee" / "000.png").write_bytes(png(5)[:-60])
    (source / "cow" / "000.png").write_bytes(b"<html>not found</html>")
    manifest = import_images(source, tmp_path / "out", size=SIZE, max_rejected=0.05)
    assert manifest["rejected"] == 3
    assert sum(sizes(tmp_path / "out")[1:]) == 57
    with (tmp_path / "out" / "rejected.csv").open() as file:
        rows = {row["image"]: row["reason"] for row in csv.DictReader(file)}
    assert rows["ant/000.png"] == "empty file"
    assert "truncated" in rows["bee/000.png"]
    assert rows["cow/000.png"] == "not an image that Pillow can read"


def test_a_file_whose_name_is_no_text_is_listed_too(tmp_path):
    source = write_images(tmp_path / "in", {"a.png": 1})
    (source / os.fsdecode(b"\xff.png")).write_bytes(b"")
    import_images(source, tmp_path / "out", size=SIZE, max_rejected=0.5)
    rows = (tmp_path / "out" / "rejected.csv").read_text().splitlines()
    assert rows[1] == r"unlabelled,\udcff.png,empty file"


def test_too_many_unreadable_images_fail_with_the_number_and_leave_nothing(tmp_path):
    source = write_images(tmp_path / "in", class_files("", 20))
    for i in range(2):
        (source / "ant" / f"{i:03d}.png").write_bytes(b"")
    sentence = (
        r"2 of the 60 images of .* more than the 1 % allowed \(.*ant/00.*empty file.*"
        r"raise --max-rejected to 0\.0334"
    )
    with pytest.raises(ValueError, match=sentence):
        import_images(source, tmp_path / "new" / "out", size=SIZE)
    assert os.listdir(tmp_path) == ["in"]
    import_images(source, tmp_path / "out", size=SIZE, max_rejected=0.0334)


def test_a_source_with_no_readable_image_says_so(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.jpg").write_bytes(b"nothing")
    with pytest.raises(
        ValueError, match=r"None of the 1 images of .* can be read \(a\.jpg: not an"
    ):
        import_images(source, tmp_path / "out", size=SIZE, max_rejected=1.0)
    assert os.listdir(tmp_path) == ["in"]


def test_duplicates_across_splits_leave_the_training_side(tmp_path):
    # picture 0 is in train, val and test, picture 1 in train and val, picture 2 twice in train
    files = class_files("train/", 5) | class_files("val/", 2, start=50)
    files |= class_files("test/", 2, start=70) | {"train/cow/again.png": 2, "unlabelled/x.png": 0}
    files |= {"val/ant/a.png": 0, "val/ant/b.png": 1, "test/ant/a.png": 0}
    source = write_images(tmp_path / "in", files)
    manifest = import_images(source, tmp_path / "out", size=SIZE)
    splits = load_splits(tmp_path / "out")
    assert chw(0) in contents(splits.test)
    assert chw(0) not in contents(splits.val) | contents(splits.train) | contents(splits.pool)
    assert chw(1) in contents(splits.val) - contents(splits.train)
    assert sizes(tmp_path / "out") == (14, 14, 7, 7)
    assert manifest["duplicates"] == {"within_splits": 1, "across_splits": 4, "removed": 4}
    with (tmp_path / "out" / "duplicates.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert rows["val/ant/a.png"]["same_as_image"] == "test/ant/a.png"
    assert rows["train/ant/001.png"]["same_as_image"] == "val/ant/b.png"
    assert {rows["train/cow/again.png"]["action"], rows["val/ant/a.png"]["action"]} == {
        "kept",
        "removed",
    }


def test_duplicates_stay_when_told_so(tmp_path):
    files = class_files("train/", 5) | {"val/ant/a.png": 0, "test/ant/a.png": 0}
    source = write_images(tmp_path / "in", files)
    manifest = import_images(source, tmp_path / "out", size=SIZE, keep_duplicates=True)
    assert sizes(tmp_path / "out") == (15, 15, 1, 1)
    assert manifest["duplicates"] == {"within_splits": 0, "across_splits": 2, "removed": 0}


def test_images_that_differ_in_size_only_are_found_as_duplicates_once_resized(tmp_path):
    flat = np.full((20, 20, 3), 77, np.uint8)
    for name, side in (("train/a/1", 20), ("train/b/1", 12), ("test/a/1", 16)):
        path = tmp_path / "in" / f"{name}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(flat[:side, :side]).save(path)
    write_images(tmp_path / "in", {"train/b/2.png": 1})
    import_images(tmp_path / "in", tmp_path / "out", size=SIZE, val_fraction=0)
    assert sizes(tmp_path / "out") == (1, 1, 0, 1)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"encoding": "jpg"}, "encoding 'jpg'; did you mean 'jpeg'"),
        ({"split": "gven"}, "split 'gven'; did you mean 'given'"),
        ({"colour": "gray"}, "colour 'gray'; did you mean 'grey'"),
        ({"size": 0}, "size is 0"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "must leave something to train on"),
        ({"max_rejected": 1.5}, "share from 0 to 1"),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path, arguments, sentence):
    source = write_images(tmp_path / "in", {"a.png": 1})
    with pytest.raises(ValueError, match=sentence):
        import_images(source, tmp_path / "out", **({"size": SIZE} | arguments))
    assert os.listdir(tmp_path) == ["in"]


def test_a_missing_source_an_empty_folder_and_one_without_images_are_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no .*nowhere; name a folder of images"):
        import_images(tmp_path / "nowhere", tmp_path / "out", size=SIZE)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"The folder .*empty is empty"):
        import_images(empty, tmp_path / "out", size=SIZE)
    (empty / "notes.txt").write_text("words")
    with pytest.raises(ValueError, match=r"holds no image files \(\.avif"):
        import_images(empty, tmp_path / "out", size=SIZE)
    with pytest.raises(ValueError, match="neither an IDX image file nor a Parquet file"):
        import_images(empty / "notes.txt", tmp_path / "out", size=SIZE)
    assert os.listdir(tmp_path) == ["empty"]


def test_a_source_with_test_images_only_has_no_pool(tmp_path):
    source = write_images(tmp_path / "in", class_files("test/", 3))
    with pytest.raises(ValueError, match="No image is left for the pool"):
        import_images(source, tmp_path / "out", size=SIZE)
    assert os.listdir(tmp_path) == ["in"]


def test_an_existing_store_is_replaced_only_when_asked(tmp_path):
    first = write_images(tmp_path / "a", {f"{i}.png": i for i in range(5)})
    second = write_images(tmp_path / "b", {f"{i}.png": i for i in range(7)})
    import_images(first, tmp_path / "out", size=SIZE)
    with pytest.raises(ValueError, match=r"is an image store already; .* --overwrite"):
        import_images(second, tmp_path / "out", size=SIZE)
    assert sizes(tmp_path / "out")[0] == 5
    import_images(second, tmp_path / "out", size=SIZE, overwrite=True)
    assert sizes(tmp_path / "out")[0] == 7
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "out"]


def test_a_folder_that_is_no_store_is_never_replaced(tmp_path):
    source = write_images(tmp_path / "in", {"a.png": 1})
    with pytest.raises(ValueError, match="is no image store, so it will not be replaced"):
        import_images(source, source, size=SIZE, overwrite=True)
    assert os.listdir(source) == ["a.png"]


def test_an_empty_folder_may_become_the_store(tmp_path):
    source = write_images(tmp_path / "in", {"a.png": 1})
    (tmp_path / "out").mkdir()
    import_images(source, tmp_path / "out", size=SIZE)
    assert sizes(tmp_path / "out")[0] == 1


def test_a_store_is_no_source(tmp_path):
    source = write_images(tmp_path / "in", {"a.png": 1})
    import_images(source, tmp_path / "out", size=SIZE)
    with pytest.raises(ValueError, match="is an image store already"):
        import_images(tmp_path / "out", tmp_path / "again", size=SIZE)


def test_a_destination_below_a_file_cannot_be_made(tmp_path):
    source = write_images(tmp_path / "in", {"a.png": 1})
    with pytest.raises(ValueError, match=r"cannot be made \(.*\); choose another place"):
        import_images(source, source / "a.png" / "out", size=SIZE)


def test_an_interrupted_import_leaves_the_old_store_and_nothing_else(tmp_path):
    source = write_images(tmp_path / "in", {f"{i}.png": i for i in range(5)})
    import_images(source, tmp_path / "out", size=SIZE)
    before = load_splits(tmp_path / "out").digest

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for i in range(5, 9):
        write_images(source, {f"{i}.png": i})
    with pytest.raises(KeyboardInterrupt):
        import_images(source, tmp_path / "out", size=SIZE, overwrite=True, progress=interrupt)
    assert load_splits(tmp_path / "out").digest == before
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


def test_what_a_killed_import_left_is_removed_by_the_next_unless_it_runs(tmp_path):
    import fcntl

    source = write_images(tmp_path / "in", {"a.png": 1})
    abandoned, running = (tmp_path / f".out.importing-{c * 8}" for c in "ab")
    abandoned.mkdir()
    running.mkdir()
    (abandoned / "pool-00000.arrow").write_bytes(b"half")
    descriptor = os.open(running, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    import_images(source, tmp_path / "out", size=SIZE)
    os.close(descriptor)
    assert sorted(os.listdir(tmp_path)) == [running.name, "in", "out"]


def test_too_little_disk_is_found_before_anything_is_written(tmp_path):
    source = write_images(tmp_path / "in", {f"{i}.png": i for i in range(9)})
    with pytest.raises(ValueError, match=r"needs up to .* GB and .* free; free some space"):
        import_images(source, tmp_path / "out", size=2_000_000)
    assert os.listdir(tmp_path) == ["in"]


def test_progress_counts_up_to_the_total(tmp_path):
    source = write_images(tmp_path / "in", class_files("", 100))
    seen = []
    import_images(source, tmp_path / "out", size=SIZE, progress=lambda d, n: seen.append((d, n)))
    assert seen == [(256, 300), (300, 300)]


def test_the_licence_is_kept(tmp_path):
    source = write_images(tmp_path / "in", {"a.png": 1})
    (source / "LICENSE").write_text("Do as you like.")
    (tmp_path / "other.txt").write_text("Ask first.")
    found = import_images(source, tmp_path / "a", size=SIZE)
    from_file = import_images(source, tmp_path / "b", size=SIZE, licence=tmp_path / "other.txt")
    given = import_images(source, tmp_path / "c", size=SIZE, licence="CC BY 4.0")
    licences = [manifest["licence"] for manifest in (found, from_file, given)]
    assert licences == ["Do as you like.", "Ask first.", "CC BY 4.0"]
