"""The things the demo model can draw, and the colours it can draw them on."""

from dataclasses import dataclass
from pathlib import Path

SUBJECTS_FILE = Path(__file__).with_name("subjects.txt")


@dataclass(frozen=True)
class Subject:
    """One glyph of the font: its code point and the name used in captions."""

    codepoint: int
    name: str

    @property
    def text(self) -> str:
        """The character to draw."""
        return chr(self.codepoint)


# Chosen to be far apart from each other in RGB, so that "the background is right" is a clear
# question, and away from pure black and white except where the name says so.
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "red": (200, 50, 50),
    "blue": (65, 105, 215),
    "green": (60, 150, 90),
    "yellow": (245, 208, 80),
    "purple": (140, 80, 180),
    "black": (40, 40, 44),
    "pink": (242, 160, 190),
}


def load_subjects(path: Path = SUBJECTS_FILE) -> list[Subject]:
    """Read the subject list: `CODEPOINT name` lines, blank lines and `#` comments skipped."""
    subjects = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            codepoint, name = line.split(" ", 1)
            subjects.append(Subject(int(codepoint, 16), name.strip()))
    return subjects
