"""The tables of docs/upstream.md: `python -m coreml_sd.upstream.page` prints them."""

from __future__ import annotations

from collections.abc import Iterable

from coreml_sd.upstream.table import INTERNALS, PATCHES

_BEGIN, _END = "<!-- {}: from coreml_sd/upstream/table.py -->", "<!-- /{} -->"


def tables() -> dict[str, str]:
    """Each table of the page by its name, between the comments that mark it there."""
    patches = [
        (
            f"`{patch.name}`",
            patch.kind,
            "<br>".join(f"`{each}`" for each in patch.attributes),
            patch.why,
            patch.versions,
            patch.gain or "-",
            f"`{patch.test}`",
        )
        for patch in PATCHES
    ]
    internals = [
        (
            "<br>".join(f"`{each}`" for each in internal.names),
            f"`{internal.used_in}`",
            internal.why,
            internal.versions,
            f"`{internal.test}`",
        )
        for internal in INTERNALS
    ]
    heads = ("name", "kind", "what is replaced", "why", "versions", "gain", "test")
    return {
        "patches": _marked("patches", heads, patches),
        "internals": _marked(
            "internals", ("what is used", "where", "why", "versions", "test"), internals
        ),
    }


def _marked(name: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [_row(head), _row(["---"] * len(head)), *map(_row, rows)]
    return "\n".join([_BEGIN.format(name), *lines, _END.format(name)])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print("\n\n".join(tables().values()))
