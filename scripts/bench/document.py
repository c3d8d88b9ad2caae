"""Text that scripts write between the markers of a document."""

from __future__ import annotations

from pathlib import Path


def markers(name: str) -> tuple[str, str]:
    """The lines before and after what goes by this name."""
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def replaced(page: str, name: str, text: str) -> str:
    """The page with `text`, which ends its last line, between its markers.

    Raises:
        ValueError: it has none of that name.
    """
    begin, end = markers(name)
    head, begun, rest = page.partition(begin)
    _, ended, tail = rest.partition(end)
    if not begun or not ended:
        raise ValueError(f"no markers {begin} ... {end}")
    return f"{head}{begin}\n{text}{end}{tail}"


def put_into(document: Path, name: str, text: str) -> None:
    """Replace what stands between a document's markers; a document that is not there is made."""
    if not document.exists():
        begin, end = markers(name)
        document.parent.mkdir(parents=True, exist_ok=True)
        document.write_text(f"{begin}\n{end}\n", "utf-8")
    try:
        page = replaced(document.read_text("utf-8"), name, text)
    except ValueError as error:
        raise SystemExit(f"{document}: {error}") from None
    document.write_text(page, "utf-8")
