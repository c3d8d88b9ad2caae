"""Seeded changes: of bytes, of JSON values, of protobuf messages."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_NUMBERS = (0, 1, -1, 2, 3, 5, 7, 63, 64, 65, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 40)
_VALUES: tuple[Any, ...] = (
    None, True, False, *_NUMBERS, 10**12, (1 << 63) - 1, 10**30, 1.5, -0.0, 1e-300, 1e300,
    float("inf"), float("nan"), "", "x", "²", "../x", "/etc/passwd", "relu", "9" * 50, [], [1],
    [[1]], ["x"], {}, {"a": 1}, [0, 0], [10**7], [None, None],
)  # fmt: skip
_TEXTS = (b"", b"[", b"[]", b"null", b"1", b"\xff\xfe", b"[" * 20_000, b'{"a": 1, "a": 2}', b"\0")
_PIECES = (
    b"\xc2\xb2", b"[", b"]", b'"', b"'", b"=", b":", b",", b"{", b"}", b"1e999", b"nan", b"-1",
    b"9" * 30, b"\n", b"true", b"[[a]]", b"1979-05-27", b"#", b"\x00", b".", b"&a *a", b"</w>",
)  # fmt: skip


def changed_bytes(rng: random.Random, data: bytes) -> bytes:
    """Bytes, words and pieces of text replaced; sometimes cut off, or something else altogether."""
    if rng.random() < 0.04:
        return rng.choice(_TEXTS)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        if not out:
            break
        # What is read first, or last, as often as all the rest.
        end = rng.choice((len(out), min(len(out), 3000)))
        place = rng.randrange(end) if rng.random() < 0.7 else len(out) - 1 - rng.randrange(end)
        kind = rng.random()
        if kind < 0.4:
            out[place] = rng.randrange(256)
        elif kind < 0.7:
            place -= place % 4
            number = rng.choice((*_NUMBERS, rng.randrange(len(out)), 0xFFFFFFFF))
            out[place : place + 4] = (number & 0xFFFFFFFF).to_bytes(4, "little")
        else:
            out[place : place + rng.randrange(6)] = rng.choice(_PIECES)
    if rng.random() < 0.1:
        del out[rng.randrange(len(out) + 1) :]
    return bytes(out)


def changed_json(rng: random.Random, value: Any) -> Any:
    """A JSON value with some of its values replaced, removed, doubled or moved."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(value)
        if not places:
            return rng.choice(_VALUES)
        # Each level of a long list counts as much as one entry of a short one.
        holder, key = rng.choice(places if len(places) < 400 else rng.sample(places, 100))
        kind = rng.random()
        if kind < 0.6:
            holder[key] = copy.deepcopy(rng.choice(_VALUES))
        elif kind < 0.75:
            del holder[key]
        elif kind < 0.9:
            other, from_key = rng.choice(places)
            if from_key in other if isinstance(other, dict) else from_key < len(other):
                holder[key] = copy.deepcopy(other[from_key])
        elif isinstance(holder, dict):
            holder[rng.choice(("x", "²", "", "__proto__", str(key) + "_"))] = rng.choice(_VALUES)
        else:
            holder.append(copy.deepcopy(rng.choice(_VALUES)))
    return value


def json_text(value: Any) -> bytes:
    """With what JSON does not know too, as Python writes it."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *_places(value[key])]
    return found


def changed_message(rng: random.Random, message: Message) -> None:
    """Fields replaced, cleared, doubled or moved, in place."""
    nodes = _nodes(message)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        node = rng.choice(nodes)
        fields = node.ListFields()
        if fields:
            _change_field(rng, node, *rng.choice(fields))


def _nodes(message: Message) -> list[Message]:
    found = [message]
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            values = [value] if not field.is_repeated else value
            if _is_map(field):
                values = [value[key] for key in value]
            found += [
                inner for each in values if isinstance(each, Message) for inner in _nodes(each)
            ]
    return found


def _is_map(field: Any) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _change_field(rng: random.Random, node: Message, field: Any, value: Any) -> None:
    try:
        if _is_map(field):
            _change_map(rng, value)
        elif field.is_repeated:
            _change_list(rng, field, value)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            node.ClearField(field.name)
        else:
            setattr(node, field.name, _scalar(rng, field, value))
    except (ValueError, TypeError):
        pass  # a value that the field cannot hold


def _change_map(rng: random.Random, table: Any) -> None:
    keys = list(table)
    key, other = rng.choice(keys), rng.choice(keys)
    if rng.random() < 0.4:
        del table[key]
    elif isinstance(table[key], Message):
        table[rng.choice((key, "x", "axis", "val", "shape"))].CopyFrom(table[other])


def _change_list(rng: random.Random, field: Any, values: Any) -> None:
    place, kind = rng.randrange(len(values)), rng.randrange(4)
    is_message = field.type == FieldDescriptor.TYPE_MESSAGE
    if kind == 0:
        del values[place]
    elif not is_message:
        values[place] = _scalar(rng, field, values[place])
    elif kind == 1:
        values.add().CopyFrom(values[place])
    elif kind == 2:
        values[place].CopyFrom(values[rng.randrange(len(values))])
    else:
        values[place].Clear()


def _scalar(rng: random.Random, field: Any, old: Any) -> Any:
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return rng.choice((*_NUMBERS, (1 << 63) - 1, 999, old + 1))
    if isinstance(old, float):
        return rng.choice((0.0, -1.0, 1e9, 1e-9, float("nan"), float("inf")))
    if isinstance(old, bytes):
        return rng.randbytes(rng.randrange(9))
    return rng.choice(("", "x", "../x", "conv", "fill", "tile", "gather", "val", f"{old}_"))
