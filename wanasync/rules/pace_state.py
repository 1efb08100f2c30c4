"""Attrs objects as plain JSON values and back, exactly: a pacer that is restored goes on as if it had never been away.

An object is the list of its fields' values in their order, so that the text is short; what the fields are is told by
their annotations alone. A class that gains, loses or moves a field so changes the format: `shape` tells by how much,
and whoever keeps such texts keeps a version beside them. What was made by anybody else, or is damaged, is refused by a
`ValueError`: types are checked, meanings are not.
"""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs
from attrs import frozen

__all__ = ["Codec", "codec", "shape"]


@frozen
class Codec:
    """`dump` makes a JSON value of an object; `load` makes the object of it, or raises `ValueError`."""

    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


@functools.cache
def codec(kind: Any) -> Codec:
    """For an attrs class, or anything its fields may be annotated with."""
    if isinstance(kind, type) and attrs.has(kind):
        return _of_class(kind)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _of_enum(kind)
    if kind in _SCALARS:
        return Codec(_same, functools.partial(_scalar, _SCALARS[kind]))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional(codec(next(one for one in arguments if one is not type(None))))
    if origin is dict:
        return _of_dict(codec(arguments[0]), codec(arguments[1]))
    if origin is tuple and Ellipsis not in arguments:
        return _of_tuple([codec(one) for one in arguments])
    return _of_many(codec(arguments[0]), origin)


def shape(kind: Any) -> str:
    """The format that `codec(kind)` writes, in words: equal where one can read what the other wrote."""
    if isinstance(kind, type) and attrs.has(kind):
        return f"{kind.__name__}({', '.join(f'{name}: {shape(one)}' for name, one, _ in _fields(kind))})"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return f"{kind.__name__}[{', '.join(member.name for member in kind)}]"
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if not arguments:
        return str(getattr(kind, "__name__", kind))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(shape(one) for one in arguments)
    return f"{origin.__name__}[{', '.join(shape(one) for one in arguments)}]"


def _fields(kind: type) -> list[tuple[str, Any, int | None]]:
    """Name, type and, of a bounded deque, its length, of each field that is part of the state."""
    attrs.resolve_types(kind)
    return [(one.name, one.type, _bound(one)) for one in attrs.fields(kind) if one.metadata.get("state", True)]


def _bound(field: attrs.Attribute[Any]) -> int | None:
    factory = getattr(field.default, "factory", None)
    made = factory() if typing.get_origin(field.type) is deque and factory is not None else None
    return made.maxlen if isinstance(made, deque) else None


def _of_class(kind: type) -> Codec:
    fields = [(name, codec(one), bound) for name, one, bound in _fields(kind)]
    dumps = [(name, one.dump) for name, one, _ in fields]
    loads = [(name, _bounded(one.load, bound)) for name, one, bound in fields]

    def dump(value: Any) -> list[Any]:
        return [dump_field(getattr(value, name)) for name, dump_field in dumps]

    def load(values: Any) -> Any:
        # Not by its constructor: a state is more than what an object begins with.
        made: Any = object.__new__(kind)
        for (name, load_field), value in zip(loads, _list(values, len(loads)), strict=True):
            object.__setattr__(made, name, load_field(value))
        return made

    return Codec(dump, load)


def _bounded(load: Callable[[Any], Any], bound: int | None) -> Callable[[Any], Any]:
    return load if bound is None else lambda values: deque(load(values), maxlen=bound)


def _of_enum(kind: type[enum.Enum]) -> Codec:
    def load(name: Any) -> enum.Enum:
        try:
            return kind[name]
        except (KeyError, TypeError) as error:
            raise ValueError(f"no {kind.__name__}: {name!r}") from error

    return Codec(lambda member: member.name, load)


def _optional(one: Codec) -> Codec:
    return Codec(
        lambda value: None if value is None else one.dump(value),
        lambda value: None if value is None else one.load(value),
    )


def _of_dict(key: Codec, value: Codec) -> Codec:
    def dump(items: dict[Any, Any]) -> list[Any]:
        # In its order, which counts, and with keys that needn't be text.
        return [[key.dump(name), value.dump(one)] for name, one in items.items()]

    def load(pairs: Any) -> dict[Any, Any]:
        return {key.load(name): value.load(one) for name, one in (_list(pair, 2) for pair in _list(pairs))}

    return Codec(dump, load)


def _of_tuple(kinds: list[Codec]) -> Codec:
    return Codec(
        lambda values: [one.dump(value) for one, value in zip(kinds, values, strict=True)],
        lambda values: tuple(one.load(value) for one, value in zip(kinds, _list(values, len(kinds)), strict=True)),
    )


def _of_many(one: Codec, make: Any) -> Codec:
    if one.dump is _same:
        return Codec(list, lambda values: make(map(one.load, _list(values))))
    return Codec(
        lambda values: [one.dump(value) for value in values],
        lambda values: make(one.load(value) for value in _list(values)),
    )


def _same(value: Any) -> Any:
    return value


def _scalar(kinds: tuple[type, ...], value: Any) -> Any:
    if type(value) not in kinds or value != value:
        raise ValueError(f"{value!r:.80} is none of {', '.join(one.__name__ for one in kinds)}")
    return value


# Whole numbers in a float's place are as good: what was an int before it was written is one again.
_SCALARS: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int, bool),
    float: (float, int),
    str: (str,),
    None: (type(None),),
}


def _list(values: Any, length: int | None = None) -> list[Any]:
    if not isinstance(values, list) or (length is not None and len(values) != length):
        raise ValueError(f"expected {'a list' if length is None else f'{length} values'}, not {values!r:.80}")
    return values
