"""Every link and every file that a document names is there."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
# A word in backticks is a file of ours where it begins in one of these; what a command makes, and
# paths with a blank to fill in, are none.
_FOLDERS = ("coreml_sd", "docs", "examples", "scripts", "swift", "tests", "training", ".github")
_PATH = re.compile(rf"^(?:{'|'.join(map(re.escape, _FOLDERS))})/[\w./+-]*$")


def documents() -> list[Path]:
    """Those in git, and new ones that are not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = listed.stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def anchors(page: Path) -> set[str]:
    """What a link may name behind #, as GitHub spells headings."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in kept}


def dead_link(page: Path, link: str) -> bool:
    """Whether a link within the repository leads nowhere."""
    target, _, anchor = link.partition("#")
    if re.match(r"[a-z]+:", link):
        return False
    file = page.parent / target if target else page
    if not file.exists():
        return True
    return bool(anchor) and file.suffix == ".md" and anchor not in anchors(file)


def missing(page: Path) -> list[str]:
    """Links that lead nowhere and paths in backticks that are not there."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    links = [link for link in _LINK.findall(text) if dead_link(page, link)]
    words = [word for code in _CODE.findall(text) for word in code.split()[:1]]
    paths = [word for word in words if _PATH.match(word) and not (ROOT / word).exists()]
    return links + paths


@pytest.mark.parametrize("page", documents(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_paths_are_there(page: Path) -> None:
    assert missing(page) == []


def test_the_documents_are_found() -> None:
    names = {str(page.relative_to(ROOT)) for page in documents()}
    assert {"README.md", "CONTRIBUTING.md", "docs/parity.md"} <= names


def test_what_is_not_there_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A heading\n[here](#a-heading) [gone](#b-heading) [no](no.md) [far](https://x.y/z)\n"
        "`scripts/test` `scripts/tset --only x` `coreml_sd/bundle.py` `coreml_sd/bundel.py`\n"
        "```\n[in code](no-such.md)\n```\n",
        encoding="utf-8",
    )
    assert missing(page) == ["#b-heading", "no.md", "scripts/tset", "coreml_sd/bundel.py"]
