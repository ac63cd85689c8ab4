"""Where images come from: what a user names, recognised and opened."""

from pathlib import Path
from typing import Literal

from raysl.config import unknown_name
from raysl.data.digits import DIGITS, digits_source
from raysl.data.folder import folder_source
from raysl.data.idx import idx_images_files, idx_source
from raysl.data.parquet import parquet_files, parquet_source
from raysl.data.records import Source
from raysl.data.torchvision_sets import torchvision_source

TORCHVISION = "torchvision:"
LICENCE_FILES = ("LICENSE", "LICENCE", "COPYING")


def open_source(
    source: str | Path,
    *,
    downloads: Path,
    split: Literal["given", "random"] = "given",
    label_column: str | None = None,
) -> Source:
    """The parts of a folder, IDX or Parquet files, `torchvision:NAME` or `sklearn:digits`.

    downloads: the folder where torchvision keeps what it fetches.
    """
    name = str(source)
    if name.startswith("sklearn:"):
        check_built_in(name)
        return digits_source()
    if name.startswith(TORCHVISION):
        return torchvision_source(name.removeprefix(TORCHVISION), downloads=downloads)
    place = Path(source).expanduser()
    if not place.exists():
        raise FileNotFoundError(
            f"There is no {place}; name a folder of images, IDX or Parquet files, "
            f"torchvision:NAME or {DIGITS}."
        )
    if place.is_dir() and not any(place.iterdir()):
        raise ValueError(f"The folder {place} is empty; name the folder that holds the images.")
    idx_files = idx_images_files(place)
    if idx_files:
        return idx_source(idx_files)
    if parquet_files(place):
        return parquet_source(place, label_column=label_column)
    if not place.is_dir():
        raise ValueError(
            f"{place} is neither an IDX image file nor a Parquet file; name the folder that holds "
            "the images, or one of these."
        )
    return folder_source(place, split=split)


def licence_text(source: str | Path, licence: str | Path | None) -> str | None:
    """The licence as given, from the file given, or from a LICENSE file of the source folder."""
    if isinstance(licence, Path):
        if not licence.is_file():
            raise FileNotFoundError(f"There is no licence file {licence}; name one or its text.")
        return licence.read_text(errors="replace")
    place = Path(source).expanduser()
    if licence is not None or not place.is_dir():
        return licence
    for path in sorted(place.iterdir()):
        if path.is_file() and path.stem.upper() in LICENCE_FILES:
            return path.read_text(errors="replace")
    return None


def check_built_in(name: str) -> None:
    """Raise unless `name` is a data set that needs no import."""
    if name != DIGITS:
        raise ValueError(unknown_name("built-in data set", name, [DIGITS]))
