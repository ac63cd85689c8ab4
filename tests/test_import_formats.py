"""Parquet, IDX, torchvision and scikit-learn as sources, and what is wrong with broken ones."""

import gzip
import json
import os
import struct
import urllib.request
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pictures import SIZE, chw, contents, picture, png, sizes

from raysl.data.importer import import_images
from raysl.data.store import load_splits


def hugging_face_table(numbers, labels, *, names=None, layout="struct") -> pa.Table:
    images = [png(number) for number in numbers]
    if layout == "struct":
        rows = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)]
        column = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    else:
        column = pa.array(images, pa.binary() if layout == "binary" else pa.large_binary())
    table = pa.table({"image": column, **({} if labels is None else {"label": labels})})
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        info = {"info": {"features": features}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    return table


@pytest.mark.parametrize("layout", ["struct", "binary", "large"])
def test_parquet_files_give_splits_by_name_and_classes_by_metadata(tmp_path, layout):
    names = ["cat", "dog"]
    folder = tmp_path / "in" / "data"
    folder.mkdir(parents=True)
    for name, numbers in (
        ("train-00000-of-00002", range(20)),
        ("train-00001-of-00002", range(20, 40)),
        ("test-00000-of-00001", range(40, 50)),
    ):
        table = hugging_face_table(numbers, [n % 2 for n in numbers], names=names, layout=layout)
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=7)
    import_images(tmp_path / "in", tmp_path / "out", size=SIZE)
    splits = load_splits(tmp_path / "out")
    assert splits.train.classes == ("cat", "dog")
    assert sizes(tmp_path / "out") == (36, 36, 4, 10)
    assert splits.test.labels.tolist() == [0, 1] * 5
    assert splits.test.read(torch.tensor([3]))[0].numpy().tobytes() == chw(43)
    both = contents(splits.train) | contents(splits.val)
    assert both == {chw(number) for number in range(40)}


def test_parquet_in_split_folders_and_with_text_labels(tmp_path):
    for split, numbers in (("train", range(20)), ("validation", range(20, 26))):
        (tmp_path / "in" / split).mkdir(parents=True)
        labels = ["dog" if n % 2 else "cat" for n in numbers]
        table = hugging_face_table(numbers, labels)
        pq.write_table(table, tmp_path / "in" / split / "0000.parquet")
    import_images(tmp_path / "in", tmp_path / "out", size=SIZE, test_fraction=0.2)
    assert load_splits(tmp_path / "out").val.classes == ("cat", "dog")
    assert sizes(tmp_path / "out") == (16, 16, 6, 4)


def test_one_parquet_file_with_gaps_in_its_labels(tmp_path):
    table = hugging_face_table(range(6), [7, None, 3, -1, 7, 3])
    pq.write_table(table, tmp_path / "in.parquet")
    import_images(
        tmp_path / "in.parquet", tmp_path / "out", size=SIZE, val_fraction=0, test_fraction=0
    )
    splits = load_splits(tmp_path / "out")
    assert splits.train.classes == ("3", "7")
    assert splits.train.labels.tolist() == [1, 0, 1, 0]
    assert len(splits.pool) == 6


def test_parquet_without_labels_is_a_pool_and_a_row_without_bytes_is_rejected(tmp_path):
    table = hugging_face_table(range(6), None)
    rows = table.column("image").to_pylist()
    rows[2]["bytes"] = None
    column = pa.array(rows, table.schema.field("image").type)
    pq.write_table(pa.table({"image": column}), tmp_path / "in.parquet")
    manifest = import_images(tmp_path / "in.parquet", tmp_path / "out", size=SIZE, max_rejected=0.5)
    assert sizes(tmp_path / "out") == (5, 0, 0, 0)
    assert manifest["rejected"] == 1
    assert "in.parquet row 2,no image bytes" in (tmp_path / "out" / "rejected.csv").read_text()


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (pa.table({"x": [1]}), r"needs one image column.*has none among x"),
        (
            pa.table({"a": [b"1"], "b": [b"2"]}),
            r"needs one image column.*has several \(a, b\)",
        ),
        (
            pa.table({"image": [b"1"], "label": [[1, 2]]}),
            r"'label' .* holds list<.*one whole number",
        ),
        (pa.table({"image": [b"1"], "label": [0.5]}), r"'label' .* holds double"),
    ],
)
def test_parquet_columns_that_cannot_be_used_are_named(tmp_path, table, sentence):
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(ValueError, match=sentence):
        import_images(tmp_path / "in.parquet", tmp_path / "out", size=SIZE)


def test_another_label_column_can_be_named_and_a_wrong_one_has_a_near_miss(tmp_path):
    table = hugging_face_table(range(4), [0, 1, 0, 1]).append_column(
        "species", [["a", "b", "c", "c"]]
    )
    pq.write_table(table, tmp_path / "in.parquet")
    arguments = {"size": SIZE, "val_fraction": 0.0, "test_fraction": 0.0}
    named = import_images(
        tmp_path / "in.parquet", tmp_path / "out", label_column="species", **arguments
    )
    assert named["classes"] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="did you mean 'species'"):
        import_images(tmp_path / "in.parquet", tmp_path / "x", label_column="specie", **arguments)


def test_a_label_beyond_the_named_classes_is_an_error(tmp_path):
    table = hugging_face_table(range(3), [0, 1, 2], names=["cat", "dog"])
    pq.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(ValueError, match=r"label 2 has no name.*the 2 classes cat, dog"):
        import_images(tmp_path / "in.parquet", tmp_path / "out", size=SIZE)


def test_a_broken_parquet_file_is_named(tmp_path):
    (tmp_path / "in.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match=r"in\.parquet is no readable Parquet file"):
        import_images(tmp_path / "in.parquet", tmp_path / "out", size=SIZE)


def idx_bytes(numbers: range) -> tuple[bytes, bytes]:
    images = b"".join(picture(number, channels=1).tobytes() for number in numbers)
    labels = bytes(number % 3 for number in numbers)
    head = struct.pack(">iiii", 2051, len(numbers), SIZE, SIZE)
    return head + images, struct.pack(">ii", 2049, len(numbers)) + labels


def write_idx(folder: Path, *, zipped: bool) -> Path:
    folder.mkdir(parents=True)
    for split, numbers in (("train", range(60)), ("t10k", range(60, 75))):
        for kind, content in zip(("images-idx3", "labels-idx1"), idx_bytes(numbers), strict=True):
            path = folder / f"{split}-{kind}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(content) if zipped else content)
    return folder


@pytest.mark.parametrize("zipped", [True, False])
def test_idx_files_give_train_and_test(tmp_path, zipped):
    import_images(write_idx(tmp_path / "in", zipped=zipped), tmp_path / "out", size=SIZE)
    splits = load_splits(tmp_path / "out")
    assert sizes(tmp_path / "out") == (54, 54, 6, 15)
    assert splits.train.classes == ("0", "1", "2")
    test = splits.test
    assert test.labels.tolist() == [n % 3 for n in range(60, 75)]
    assert test.read(torch.tensor([4]))[0, 0].numpy().tobytes() == picture(64, channels=1).tobytes()


def test_one_idx_file_without_labels_is_a_pool(tmp_path):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(range(10))[0])
    import_images(tmp_path / "train-images-idx3-ubyte", tmp_path / "out", size=SIZE)
    assert sizes(tmp_path / "out") == (10, 0, 0, 0)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("train-images-idx3-ubyte", lambda b: b[:-10], "ends too early"),
        ("train-images-idx3-ubyte", lambda b: b"\0" + b"\1" + b[2:], "no IDX file of 8-bit grey"),
        ("train-labels-idx1-ubyte", lambda b: b[:4] + b"\0\0\0\5" + b[8:], "5 labels for the 60"),
        ("train-labels-idx1-ubyte", lambda b: b[:20], "ends too early"),
    ],
)
def test_broken_idx_files_are_named_and_leave_nothing(tmp_path, name, change, sentence):
    folder = write_idx(tmp_path / "in", zipped=False)
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    with pytest.raises(ValueError, match=sentence):
        import_images(folder, tmp_path / "out", size=SIZE)
    assert os.listdir(tmp_path) == ["in"]


def test_a_truncated_gzip_file_is_named(tmp_path):
    folder = write_idx(tmp_path / "in", zipped=True)
    path = folder / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte\.gz is broken"):
        import_images(folder, tmp_path / "out", size=SIZE)


def test_class_names_can_be_given_for_files_that_have_none(tmp_path):
    folder = write_idx(tmp_path / "in", zipped=True)
    names = ["shirt", "shoe", "bag"]
    import_images(folder, tmp_path / "out", size=SIZE, class_names=names)
    assert load_splits(tmp_path / "out").test.classes == tuple(names)
    with pytest.raises(ValueError, match="2 class names were given for the 3 classes"):
        import_images(folder, tmp_path / "other", size=SIZE, class_names=names[:2])


def test_torchvision_sets_whose_files_are_there_need_no_network(tmp_path):
    write_idx(tmp_path / "files" / "FashionMNIST" / "raw", zipped=False)
    import_images(
        "torchvision:FashionMNIST", tmp_path / "out", size=SIZE, downloads=tmp_path / "files"
    )
    assert sizes(tmp_path / "out") == (54, 54, 6, 15)
    assert load_splits(tmp_path / "out").test.classes[:2] == ("T-shirt/top", "Trouser")


def test_an_unknown_torchvision_set_names_the_near_miss(tmp_path):
    with pytest.raises(ValueError, match="data set 'CIFAR11'; did you mean 'CIFAR10'"):
        import_images("torchvision:CIFAR11", tmp_path / "out", size=SIZE)
    with pytest.raises(ValueError, match=r"valid: .*SVHN"):
        import_images("torchvision:zzz", tmp_path / "out", size=SIZE)
    assert not os.listdir(tmp_path)


def test_a_failed_download_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # one made earlier knows other proxies
    sentence = r"torchvision:CIFAR10 could not be downloaded \(.*; connect to the network"
    with pytest.raises(ValueError, match=sentence):
        import_images("torchvision:CIFAR10", tmp_path / "out", size=SIZE)
    assert not os.listdir(tmp_path)


def test_digits_imported_as_they_are_equal_the_built_in_ones(tmp_path):
    import_images("sklearn:digits", tmp_path / "out", size=8)
    assert load_splits(tmp_path / "out").digest == load_splits("sklearn:digits").digest


def real(name: str) -> Path:
    folder = Path(__file__).parents[2] / "shared" / "data" / name
    if not folder.is_dir():
        pytest.skip(f"needs the real images of {name} beside the checkout")
    return folder


@pytest.mark.slow
def test_fashion_mnist_imports_whole_with_its_known_statistics(tmp_path):
    manifest = import_images(real("fashion-mnist"), tmp_path / "out", size=28)
    assert sizes(tmp_path / "out") == (54_000, 54_000, 6_000, 10_000)
    assert manifest["splits"]["val"]["class_counts"] == [600] * 10
    # 0.2860 and 0.3530 of all 60,000 are the usual published figures.
    assert manifest["mean"] == pytest.approx([0.2860], abs=5e-4)
    assert manifest["std"] == pytest.approx([0.3530], abs=5e-4)
    assert manifest["licence"].startswith("The MIT License")


def test_real_photographs_of_blood_import_as_a_pool(tmp_path):
    manifest = import_images(real("bccd"), tmp_path / "out", size=32)
    assert sizes(tmp_path / "out") == (364, 0, 0, 0)
    assert manifest["shape"] == [3, 32, 32]
    assert manifest["rejected"] == 0


def test_real_infrared_frames_stay_grey(tmp_path):
    manifest = import_images(real("hit-uav"), tmp_path / "out", size=32)
    assert sizes(tmp_path / "out") == (725, 0, 0, 0)
    assert manifest["shape"] == [1, 32, 32]
