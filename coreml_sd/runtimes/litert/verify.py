"""Whether all that a .tflite's tables point at lies in the file, looked at before LiteRT reads it.

LiteRT follows offsets, lengths and indices without asking: a flipped bit ends the process. The
format is FlatBuffers' (tables of optional fields behind a vtable); the fields are those of
`schema.fbs` of TFLite, version 3.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TEXT = "text"
_WIDTHS = {"bool": 1, "byte": 1, "short": 2, "int": 4, "float": 4, "long": 8}
_HELPERS = ("AsNumpy", "Length", "IsNone", "HasIdentifier")


@dataclass(frozen=True)
class Table:
    """Fields by their number: a name of `_WIDTHS`, `text`, a table, or ("list", one of these)."""

    fields: Mapping[int, Any]


def _list(of: Any) -> tuple[str, Any]:
    return ("list", of)


_QUANTIZATION = Table(
    {0: _list("float"), 1: _list("float"), 2: _list("float"), 3: _list("long"), 4: "byte", 6: "int"}
)
_TENSOR = Table(
    {0: _list("int"), 1: "byte", 2: "int", 3: "text", 4: _QUANTIZATION, 5: "bool", 7: _list("int"),
     8: "bool"}
)  # fmt: skip
_OPERATOR = Table(
    {0: "int", 1: _list("int"), 2: _list("int"), 3: "byte", 5: _list("byte"), 6: "byte",
     7: _list("bool"), 8: _list("int"), 9: "long", 10: "long", 11: "byte"}
)  # fmt: skip
_SUBGRAPH = Table(
    {0: _list(_TENSOR), 1: _list("int"), 2: _list("int"), 3: _list(_OPERATOR), 4: "text"}
)
_CODE = Table({0: "byte", 1: "text", 2: "int", 3: "int"})
_BUFFER = Table({0: _list("byte"), 1: "long", 2: "long"})
_METADATA = Table({0: "text", 1: "int"})
_TENSOR_MAP = Table({0: "text", 1: "int"})
_SIGNATURE = Table({0: _list(_TENSOR_MAP), 1: _list(_TENSOR_MAP), 2: "text", 4: "int"})
_MODEL = Table(
    {0: "int", 1: _list(_CODE), 2: _list(_SUBGRAPH), 3: "text", 4: _list(_BUFFER), 5: _list("int"),
     6: _list(_METADATA), 7: _list(_SIGNATURE)}
)  # fmt: skip
# An op's options lie in fields 4 and 12 of it, of a kind that 3 and 11 tell.
_OPTIONS = {4: 3, 12: 11}
_COMPOSITE = (12, 21)  # the only options that have a text


def require_whole(data: Any) -> None:
    """Follow every offset of a file's tables.

    Args:
        data: the whole file as a buffer.

    Raises:
        ValueError: one leads out of the file, or an index out of its list.
    """
    try:
        _Walk(data).model()
    except struct.error as error:
        raise ValueError(f"an offset leads out of the file ({error})") from None


class _Walk:
    def __init__(self, data: Any) -> None:
        self.data, self.size = data, len(data)

    def model(self) -> None:
        """Offsets first, then what the numbers say."""
        root = self._unsigned(0)
        self._table(root, _MODEL)
        codes, graphs, buffers = (len(self._entries(root, field)) for field in (1, 2, 4))
        if not graphs or not buffers:
            raise ValueError("no graph or no buffers")
        for buffer in self._entries(root, 4):
            begin, size = self._number(buffer, 1, "Q"), self._number(buffer, 2, "Q")
            if begin > 1 and begin + size > self.size:
                raise ValueError("a buffer ends outside the file")
        for metadata in self._entries(root, 6):
            _require_index(self._number(metadata, 1, "I"), buffers, "metadata")
        tensors = [self._graph(graph, codes, graphs, buffers) for graph in self._entries(root, 2)]
        for signature in self._entries(root, 7):
            graph = _require_index(self._number(signature, 4, "I"), graphs, "a signature")
            for field in (0, 1):
                for entry in self._entries(signature, field):
                    _require_index(self._number(entry, 1, "I"), tensors[graph], "a signature")
            if not self._place(signature, 2):
                raise ValueError("a signature without a name")

    def _graph(self, graph: int, codes: int, graphs: int, buffers: int) -> int:
        tensors = self._entries(graph, 0)
        for tensor in tensors:
            _require_index(self._number(tensor, 2, "I"), buffers, "a tensor")
            self._require_scales(tensor)
        for field in (1, 2):
            for index in self._numbers(graph, field):
                _require_index(index, len(tensors), "a graph's ends")
        for op in self._entries(graph, 3):
            _require_index(self._number(op, 0, "I"), codes, "an op")
            for index in self._numbers(op, 1):
                _require_index(0 if index == -1 else index, len(tensors), "an op")
            for field in (2, 8):
                for index in self._numbers(op, field):
                    _require_index(index, len(tensors), "an op")
            self._require_options(op, graphs)
        return len(tensors)

    def _require_scales(self, tensor: int) -> None:
        """As many scales as there are channels along their axis."""
        place = self._place(tensor, 4)
        if not place:
            return
        held = place + self._unsigned(place)
        scales, zeros = (self._length(held, field) for field in (2, 3))
        shape, axis = self._numbers(tensor, 0), self._number(held, 6, "i")
        if zeros not in (0, scales):
            raise ValueError(f"{scales} scales and {zeros} zero points")
        if scales > 1 and not (0 <= axis < len(shape) and shape[axis] == scales):
            raise ValueError(f"{scales} scales on axis {axis} of {shape}")

    def _require_options(self, op: int, graphs: int) -> None:
        from ai_edge_litert import schema_py_generated as schema

        for field, kind_field in _OPTIONS.items():
            place = self._place(op, field)
            kind = self._number(op, kind_field, "B")
            if not place or not kind:
                continue
            options = place + self._unsigned(place)
            self._require_table(options)
            if (field, kind) == _COMPOSITE and (name := self._place(options, 0)):
                self._field(name, _TEXT)
            known = schema.BuiltinOptions if field == 4 else schema.BuiltinOptions2
            names = [name for name, value in vars(known).items() if value == kind]
            if not names:
                raise ValueError(f"options of an unknown kind {kind}")
            _read_all(getattr(schema, names[0]), self.data, options, graphs)

    def _table(self, at: int, table: Table) -> None:
        self._require_table(at)
        for number, kind in table.fields.items():
            place = self._place(at, number)
            if place:
                self._field(place, kind)

    def _field(self, place: int, kind: Any) -> None:
        if isinstance(kind, str) and kind != _TEXT:
            self._require(place, _WIDTHS[kind])
            return
        target = place + self._unsigned(place)
        if isinstance(kind, Table):
            self._table(target, kind)
        elif kind == _TEXT:
            self._require(target, 4 + self._unsigned(target) + 1)
        else:
            self._list(target, kind[1])

    def _list(self, at: int, kind: Any) -> None:
        count = self._unsigned(at)
        is_plain = isinstance(kind, str) and kind != _TEXT
        self._require(at + 4, count * (_WIDTHS[kind] if is_plain else 4))
        for index in range(0 if is_plain else count):
            self._field(at + 4 + 4 * index, kind)

    def _require_table(self, at: int) -> None:
        vtable = at - self._signed(at)
        self._require(vtable, 4)
        length, inline = struct.unpack_from("<HH", self.data, vtable)
        if length < 4 or length % 2 or inline < 4:
            raise ValueError("a table without its list of fields")
        self._require(vtable, length)
        self._require(at, inline)
        offsets = struct.unpack_from(f"<{length // 2 - 2}H", self.data, vtable + 4)
        if any(offset >= inline for offset in offsets):
            raise ValueError("a field outside its table")

    def _place(self, table: int, number: int) -> int:
        """Where a field of a table lies; 0 where it is left out."""
        vtable = table - self._signed(table)
        length = struct.unpack_from("<H", self.data, vtable)[0]
        entry = 4 + 2 * number
        if entry >= length:
            return 0
        offset = struct.unpack_from("<H", self.data, vtable + entry)[0]
        return table + offset if offset else 0

    def _number(self, table: int, field: int, code: str) -> int:
        place = self._place(table, field)
        return int(struct.unpack_from(f"<{code}", self.data, place)[0]) if place else 0

    def _length(self, table: int, field: int) -> int:
        place = self._place(table, field)
        return self._unsigned(place + self._unsigned(place)) if place else 0

    def _numbers(self, table: int, field: int) -> Sequence[int]:
        place = self._place(table, field)
        if not place:
            return ()
        target = place + self._unsigned(place)
        return struct.unpack_from(f"<{self._unsigned(target)}i", self.data, target + 4)

    def _entries(self, table: int, field: int) -> list[int]:
        place = self._place(table, field)
        if not place:
            return []
        target = place + self._unsigned(place)
        places = range(target + 4, target + 4 + 4 * self._unsigned(target), 4)
        return [place + self._unsigned(place) for place in places]

    def _require(self, begin: int, size: int) -> None:
        if begin < 0 or begin + size > self.size:
            raise ValueError("an offset leads out of the file")

    def _unsigned(self, at: int) -> int:
        self._require(at, 4)
        return int(struct.unpack_from("<I", self.data, at)[0])

    def _signed(self, at: int) -> int:
        self._require(at, 4)
        return int(struct.unpack_from("<i", self.data, at)[0])


def _read_all(kind: Any, data: Any, at: int, graphs: int) -> None:
    """Read every field of an op's options, which the schema's own class knows."""
    options = kind()
    options.Init(data, at)
    for name in _getters(kind):
        value = getattr(options, name)()
        if name.endswith("SubgraphIndex"):
            _require_index(value, graphs, "an op's options")


@functools.cache
def _getters(kind: Any) -> tuple[str, ...]:
    """Methods of one of the schema's classes that read one field whole."""
    known = vars(kind)
    fields = [
        name
        for name in known
        if name[:1].isupper()
        and name != "Init"
        and not name.startswith("GetRoot")
        and not name.endswith(_HELPERS)
    ]
    lists = [name for name in fields if f"{name}Length" in known]
    whole = [f"{name}AsNumpy" for name in lists if f"{name}AsNumpy" in known]
    return (*whole, *(name for name in fields if name not in lists))


def _require_index(index: int, count: int, what: str) -> int:
    if not 0 <= index < count:
        raise ValueError(f"{what} has the index {index} of {count}")
    return index
