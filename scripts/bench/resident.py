"""Memory of the process that asks (Linux)."""

from pathlib import Path


def resident(figure: str) -> float:
    """A line of /proc/self/status in GB; `VmHWM` is the most that was resident, mapped files
    included."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{figure}:"):
            return int(line.split()[1]) * 1024 / 1e9
    raise SystemExit(f"this system does not say {figure}")
