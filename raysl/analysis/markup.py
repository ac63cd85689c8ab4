"""HTML from plain values: whatever is not `Html` already is escaped."""

import html
from collections.abc import Iterable, Sequence

Cell = object  # text, a number, or Html


class Html(str):
    """Text that is markup, and safe to put into a page."""

    __slots__ = ()


def text(value: object) -> Html:
    """The value as text of a page."""
    return value if isinstance(value, Html) else Html(html.escape(str(value), quote=True))


def element(name: str, *content: object, **attributes: str) -> Html:
    """<name attributes>content</name>; class_ stands for class, aria_label for aria-label."""
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    written = "".join(f' {names[k]}="{text(v)}"' for k, v in attributes.items())
    return Html(f"<{name}{written}>{''.join(text(c) for c in content)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    return Html("\n".join(text(part) for part in parts if part))


def items(lines: Sequence[object], *, class_: str) -> Html:
    """A list; nothing at all for no lines."""
    if not lines:
        return Html("")
    return element("ul", join(element("li", line) for line in lines), class_=class_)


def table(
    caption: str, header: Sequence[str], rows: Sequence[Sequence[Cell]], *, numbers: Sequence[int]
) -> Html:
    """A table that scrolls sideways on a narrow screen; `numbers`: columns set to the right."""

    def cell(column: int, value: Cell) -> Html:
        if column == 0:
            return element("th", value, scope="row")
        return element("td", value, class_="number") if column in numbers else element("td", value)

    head = [
        element("th", name, scope="col", class_="number" if i in numbers else "text")
        for i, name in enumerate(header)
    ]
    body = [element("tr", *(cell(i, v) for i, v in enumerate(row))) for row in rows]
    inner = element(
        "table",
        element("thead", element("tr", *head)),
        element("tbody", join(body)),
        aria_label=caption,
    )
    # outside of what scrolls, so that it stays in sight; a caption element would scroll along
    return join(
        [
            element("p", caption, class_="caption"),
            element("div", inner, class_="scroll", tabindex="0", role="region", aria_label="table"),
        ]
    )


def section(title: str, *content: object) -> Html:
    """A titled section; nothing at all where there is nothing in it."""
    inner = join(content)
    return element("section", element("h2", title), "\n", inner) if inner else Html("")


def details(summary: object, *content: object) -> Html:
    return element("details", element("summary", summary), *content)
