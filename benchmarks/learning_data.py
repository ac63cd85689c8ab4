"""The two data sets of `methods.py`: grey clothes, and colour crops of blood cells."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from PIL import Image

from raysl.data.images import Splits
from raysl.data.importer import import_images
from raysl.data.store import load_splits

SIZE = 28  # pixels
MARGIN = 1.2  # of a cell's box


def clothes(data: Path, work: Path) -> Splits:
    """Fashion-MNIST from the IDX files in `data`/fashion-mnist, 28 px, grey."""
    return _store(data / "fashion-mnist", work / "clothes", size=SIZE)


def cells(data: Path, work: Path) -> Splits:
    """Cells cut out of the images of `data`/bccd by their boxes, 28 px, colour, three kinds."""
    folder = work / "cell-images"
    if not folder.exists():
        for annotation in sorted((data / "bccd").rglob("*.xml")):
            _cut(annotation, folder)
    return _store(folder, work / "cells", size=SIZE, split="random", colour="rgb")


def _cut(annotation: Path, folder: Path) -> None:
    """Write the square crop of every box of one annotated image to its class's folder."""
    root = ElementTree.parse(annotation).getroot()
    file = annotation.parent.parent / "JPEGImages" / f"{annotation.stem}.jpg"
    image = Image.open(file).convert("RGB")
    for number, thing in enumerate(root.iter("object")):
        box = [int(thing.findtext(f"bndbox/{side}") or 0) for side in ("xmin", "ymin")]
        box += [int(thing.findtext(f"bndbox/{side}") or 0) for side in ("xmax", "ymax")]
        half = max(box[2] - box[0], box[3] - box[1]) * MARGIN / 2
        if half < 4:
            continue
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        crop = image.crop(tuple(round(v) for v in (x - half, y - half, x + half, y + half)))
        place = folder / (thing.findtext("name") or "unknown")
        place.mkdir(parents=True, exist_ok=True)
        crop.resize((2 * SIZE, 2 * SIZE), Image.Resampling.BICUBIC).save(
            place / f"{annotation.stem}-{number}.png"
        )


def _store(source: Path, store: Path, **options: Any) -> Splits:
    if not store.exists():
        import_images(source, store, **options)
    return load_splits(store)
