"""Palettes solved ahead, in a process that loads no torch, while this one loads its libraries.

Which tensors of a file become weights of a network is not known before the network is built, so
all are solved that look like one; what the network does not ask for is dropped. The process knows
nothing but files, and gives back tables: a few hundred bytes for each tensor.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coreml_sd.compress.supported import PALETTE_BITS, PaletteSpec
from coreml_sd.errors import KilledError, UserError
from coreml_sd.models.weights.values import Place
from coreml_sd.processes.child import Child, Send, serve
from coreml_sd.processes.stopping import when_stopped

if TYPE_CHECKING:
    from coreml_sd.compress.palette import Palette


Lines = list[list[Any]]


class SolvedAhead:
    """Palettes by the place of their tensors, while they are being solved."""

    def __init__(
        self,
        files: Sequence[Path],
        spec: PaletteSpec,
        workers: int,
        keep: Callable[[Lines], None] = lambda lines: None,
    ) -> None:
        """
        Args:
            keep: called once with all that was solved, in a form for JSON.
        """
        self._lines: Lines = []
        self._count = 0
        self._keep = keep
        self._advance: Callable[[int, int], None] | None = None
        request = {
            "files": [str(file) for file in files],
            "spec": [spec.bits, spec.granularity, spec.group_size],
            "workers": workers,
        }
        self.child = Child("coreml_sd.compress.solve_ahead", request, self._answered)

    def finish(self, advance: Callable[[int, int], None]) -> dict[Place, Palette]:
        """Wait for the process; what it solved. Tensors that are damaged are not there.

        Raises:
            KilledError: the process was ended from outside.
        """
        self._advance = advance
        status = self.child.wait()
        if status:
            raise KilledError(f"the palettes' process ended (status {status}); try --jobs 1")
        return palettes_of(self._lines)

    def _answered(self, line: list[Any]) -> None:
        if line[0] == "count":
            self._count = line[1]
        elif line[0] == "end":
            self._keep(self._lines)
        else:
            self._lines.append(line)
            if self._advance:
                self._advance(len(self._lines), self._count)


class KeptPalettes:
    """Palettes that an earlier run solved."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def finish(self, advance: Callable[[int, int], None]) -> dict[Place, Palette]:
        """What it solved."""
        advance(len(self._lines), len(self._lines))
        return palettes_of(self._lines)


PalettesAhead = SolvedAhead | KeptPalettes  # whoever needs them asks for `finish`


@contextmanager
def solving_ahead(
    files: Sequence[Path],
    spec: PaletteSpec,
    workers: int,
    keep: Callable[[Lines], None] = lambda lines: None,
) -> Iterator[SolvedAhead]:
    """Begin to solve; no process is left when the block ends, however it ends."""
    ahead = SolvedAhead(files, spec, workers, keep)
    try:
        with when_stopped(ahead.child.kill):
            yield ahead
    finally:
        ahead.child.stop()


def _work(request: dict[str, Any], send: Send) -> None:
    from coreml_sd.compress.choose import affordable
    from coreml_sd.compress.solve import Solved, solve_palettes
    from coreml_sd.models.weights.tensor_file import TensorFile
    from coreml_sd.models.weights.values import FileWeights, is_layer

    bits, granularity, group_size = request["spec"]
    spec = PaletteSpec(bits, granularity, group_size)
    places, shapes = {}, {}
    for number, path in enumerate(request["files"]):
        file = TensorFile(Path(path))
        for key, entry in file.entries.items():
            worth = is_layer(key, entry.shape) and affordable(entry.shape, spec)[0] is not None
            if worth and entry.dtype in ("F16", "BF16", "F32"):
                places[f"{number}/{key}"] = (file, key)
                shapes[f"{number}/{key}"] = entry.shape
    send("count", len(shapes))

    def tell(name: str, solved: Solved) -> None:
        palette = solved[0]
        if palette is not None:
            file, key = places[name]
            table = base64.b64encode(palette.lut.tobytes()).decode()
            facts = [palette.bits, palette.group_size, palette.squared_error, palette.snr_db]
            send("palette", str(file.path), key, palette.shape, palette.groups, table, *facts)

    # A damaged tensor: perhaps no network uses it; if one does, it will say so.
    with suppress(UserError):
        solve_palettes(shapes, spec, FileWeights(places), tell, request["workers"])
        send("end")


def palettes_of(lines: Lines) -> dict[Place, Palette]:
    """The palettes that lines of the process tell of.

    Raises:
        ValueError: a line that the process would not send.
    """
    return dict(map(_from_line, lines))


def _from_line(line: list[Any]) -> tuple[Place, Palette]:
    from coreml_sd.compress.palette import Palette

    if not isinstance(line, list) or len(line) != 10:
        raise ValueError("a palette's line has ten entries")
    _, path, key, shape, groups, table, bits, group_size, squared_error, snr_db = line
    sizes = [bits, groups, group_size or 1, *(shape if isinstance(shape, list) else [None])]
    if not all(type(size) is int and size >= 1 for size in sizes) or bits not in PALETTE_BITS:
        raise ValueError(f"{key}: a palette of other sizes")
    if group_size is not None and shape[0] != groups * group_size:
        raise ValueError(f"{key}: {groups} groups of {group_size}")
    if not all(isinstance(text, str) for text in (path, key, table)):
        raise ValueError("a palette's names and table are texts")
    if not all(isinstance(number, (int, float)) for number in (squared_error, snr_db)):
        raise ValueError(f"{key}: a palette without its error")
    lut = np.frombuffer(base64.b64decode(table), np.float16).reshape(groups, 1 << bits)
    palette = Palette(bits, lut, tuple(shape), group_size, squared_error, snr_db)
    return (Path(path), key), palette


if __name__ == "__main__":
    sys.exit(serve(_work))
