"""A small disk that can be filled up."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


class Disk:
    """A small tmpfs; mounting one takes the rights of root."""

    def __init__(self, mount: Path, size: int) -> None:
        self.mount, self.size = mount, size

    def __enter__(self) -> None:
        self.mount.mkdir(parents=True, exist_ok=True)
        options = ["-t", "tmpfs", "-o", f"size={self.size}"]
        subprocess.run(["mount", *options, "tmpfs", str(self.mount)], check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self.mount)], check=True)

    def fill(self, room: int) -> None:
        """Leave that many bytes."""
        free = os.statvfs(self.mount)
        with (self.mount / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, free.f_bavail * free.f_frsize - room))

    def empty(self) -> None:
        """Make room again."""
        (self.mount / "ballast").unlink()
