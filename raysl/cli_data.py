"""The command line of image stores: parsing only, as in `cli`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

data_app = typer.Typer(help="Make and look at image stores.", no_args_is_help=True)
console = Console()


@data_app.command("import")
def data_import(
    source: Annotated[str, typer.Argument(help="Folder, Parquet, IDX, torchvision:NAME, ...")],
    destination: Annotated[Path, typer.Argument(help="The store to make.")],
    size: Annotated[int, typer.Option(help="Side of the stored square images, in pixels.")],
    encoding: Annotated[str, typer.Option(help="raw, png or jpeg.")] = "raw",
    colour: Annotated[str | None, typer.Option(help="grey or rgb; default as the images.")] = None,
    val_fraction: Annotated[float, typer.Option(help="Carved from train where not given.")] = 0.1,
    test_fraction: Annotated[float, typer.Option(help="Likewise.")] = 0.2,
    seed: Annotated[int, typer.Option(help="Of the splits that are made.")] = 0,
    split: Annotated[str, typer.Option(help="given: keep the source's splits; random.")] = "given",
    class_names: Annotated[
        str | None, typer.Option(help="Names of the classes in order, with commas between them.")
    ] = None,
    label_column: Annotated[str | None, typer.Option(help="Of Parquet files.")] = None,
    downloads: Annotated[
        Path | None, typer.Option(help="Where torchvision looks for files and keeps them.")
    ] = None,
    max_rejected: Annotated[
        float, typer.Option(help="Share of unreadable images above which the import fails.")
    ] = 0.01,
    keep_duplicates: Annotated[
        bool, typer.Option(help="Keep images of train that are in val or test too.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Of the data; default DESTINATION's.")] = None,
    licence: Annotated[Path | None, typer.Option(help="A file with the licence's text.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing store.")] = False,
) -> None:
    """Turn images into a store: decoded and resized once, split, checked."""
    from raysl.commands import import_store

    import_store(
        source,
        destination,
        console=console,
        size=size,
        encoding=encoding,
        colour=colour,
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        seed=seed,
        split=split,
        class_names=[n.strip() for n in class_names.split(",")] if class_names else None,
        label_column=label_column,
        downloads=downloads,
        max_rejected=max_rejected,
        keep_duplicates=keep_duplicates,
        name=name,
        licence=licence,
        overwrite=overwrite,
    )


@data_app.command("info")
def data_info(
    store: Annotated[Path, typer.Argument(help="A store.")],
    verify: Annotated[bool, typer.Option(help="Also read and check every shard.")] = False,
    contact_sheet: Annotated[
        Path | None, typer.Option(help="Where to; default STORE/contact_sheet.png.")
    ] = None,
) -> None:
    """Show counts, classes, sizes, channel statistics and digest; draw a contact sheet."""
    from raysl.commands import show_store

    show_store(store, verify=verify, sheet=contact_sheet, console=console)
