"""Captions of a picture: what is drawn and on which background, in several wordings."""

import random

NAMED = (
    "{a} on {b} background",
    "{name} on {b} background",
    "{name}, {colour} background",
    "{a} on {colour}",
    "{name} on {colour}",
    "an emoji of {a} on {b} background",
    "a picture of {a} on {b} background",
    "{b} background with {a}",
)
UNNAMED = ("{name}", "{a}", "an emoji of {a}", "a picture of {a}")


def with_article(name: str) -> str:
    """`a zebra`, `an owl`; plurals and names with an article of their own stay as they are."""
    last = name.split()[-1]
    if name.split()[0] in ("a", "an", "the") or (last.endswith("s") and not last.endswith("ss")):
        return name
    return f"an {name}" if name[0] in "aeio" and not name.startswith("one") else f"a {name}"


def caption(name: str, background: str | None, wording: str) -> str:
    """Fill one wording; `background` is None for wordings that name none."""
    colour = background or ""
    b = f"an {colour}" if colour.startswith("o") else f"a {colour}"
    return wording.format(a=with_article(name), name=name, colour=colour, b=b)


def draw_caption(name: str, background: str, generator: random.Random) -> str:
    """A random caption: half the plainest wording, one in eight without the background."""
    chance = generator.random()
    if chance < 0.125:
        return caption(name, None, generator.choice(UNNAMED))
    wording = NAMED[0] if chance < 0.5 else generator.choice(NAMED)
    return caption(name, background, wording)


def all_captions(names: list[str], backgrounds: list[str]) -> list[str]:
    """Every caption there is: the text that the tokenizer learns from."""
    captions = [caption(name, None, wording) for name in names for wording in UNNAMED]
    captions += [
        caption(name, background, wording)
        for name in names
        for background in backgrounds
        for wording in NAMED
    ]
    return captions
