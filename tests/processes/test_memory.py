"""Memory that goes back: pages of files, and garbage that was left for later."""

import gc
import mmap
import re
import sys
import weakref
from pathlib import Path

import pytest

from coreml_sd.processes.memory import collect_garbage, leave_garbage, let_pages_go


def mapped(path: Path, access: int) -> mmap.mmap:
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0, access=access)


def resident(path: Path) -> int:
    """Bytes of a file's mappings that count as memory of this process."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    starts = [i for i, line in enumerate(lines) if line.endswith(str(path))]
    sizes = [next(line for line in lines[i:] if line.startswith("Rss:")) for i in starts]
    return sum(1024 * int(re.findall(r"\d+", line)[0]) for line in sizes)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts in /proc")
def test_pages_of_a_file_leave_and_come_back(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    files = [tmp_path / "read", tmp_path / "other"]
    for path in files:
        path.write_bytes(content)
    maps = [mapped(path, mmap.ACCESS_READ) for path in files]
    written = mapped(files[0], mmap.ACCESS_COPY)
    written[:4] = b"kept"
    assert all(bytes(each) == content for each in maps)
    let_pages_go(files[0])
    assert resident(files[1]) == len(content)
    assert written[:4] == b"kept"  # what nobody could read again
    assert resident(files[0]) < len(content) // 2
    assert bytes(maps[0]) == content
    assert resident(files[0]) >= len(content)


def test_pages_of_a_file_that_is_not_mapped(tmp_path: Path) -> None:
    let_pages_go(tmp_path / "none")


class Node:
    def __init__(self) -> None:
        self.itself = self


def test_garbage_that_was_left_is_found_when_it_is_collected() -> None:
    found = weakref.ref(Node())
    leave_garbage()
    gc.collect()
    assert found() is not None  # what was left costs later collections nothing
    collect_garbage()
    assert found() is None and gc.get_freeze_count() == 0


def test_nothing_is_collected_where_nothing_was_left() -> None:
    found = weakref.ref(Node())
    collect_garbage()
    assert found() is not None
