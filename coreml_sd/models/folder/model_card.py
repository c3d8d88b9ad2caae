"""The header of a model card (README.md): the texts between two lines of dashes."""

from __future__ import annotations

import re
from pathlib import Path

from coreml_sd.errors import UserError
from coreml_sd.files.foreign import read_text

_HEADER = re.compile(r"\s*---[\r\n]+(.*?)[\r\n]+---(?:[\r\n]|$)", re.DOTALL)
_LONGEST = 1 << 18  # characters: a list of languages and tags is a hundredth of it
_EMPTY = ("", "~", "null", "Null", "NULL")


def card_texts(card: Path) -> dict[str, str]:
    """Key -> text of the header's top level; lists and tables are left out.

    Raises:
        UserError: the file is not a text, or its header is no YAML or has aliases in it.
    """
    found = _HEADER.match(read_text(card).removeprefix("\ufeff"))
    if found is None:
        return {}
    header = found.group(1)
    if len(header) > _LONGEST:
        raise UserError(f"{card}: a header of {len(header)} characters; make it shorter")
    import yaml  # type: ignore[import-untyped]

    try:
        # Every scalar stays a text. An alias would let a short file stand for a huge one.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(header)):
            raise UserError(f"{card}: its header has YAML aliases; write the values out")
        held = yaml.load(header, yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{card}: its header is not YAML ({reason}); correct it") from None
    if not isinstance(held, dict):
        return {}
    return {
        key: value
        for key, value in held.items()
        if isinstance(key, str) and isinstance(value, str) and value not in _EMPTY
    }
