"""JSON that can't be changed, so that frozen records may hold it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NoReturn

__all__ = ["JSONObject"]

_SCALARS = frozenset({str, int, float, bool, type(None)})


class JSONObject(dict[str, Any]):
    """An immutable JSON object, nested ones included; arrays become tuples. `json.dumps` writes it as it was."""

    def __init__(self, content: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        items = content.items() if isinstance(content, dict) else dict(content).items()
        super().__init__({key: value if type(value) in _SCALARS else _frozen_json(value) for key, value in items})

    @classmethod
    def of_frozen(cls, content: dict[str, Any]) -> JSONObject:
        """One of values that nobody can change any more; they are not looked at again."""
        made = cls.__new__(cls)
        dict.update(made, content)
        return made

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a JSONObject can't be changed; make a new one")

    __setitem__: ClassVar[Callable[..., NoReturn]] = _refuse
    __delitem__: ClassVar[Callable[..., NoReturn]] = _refuse
    update: ClassVar[Callable[..., NoReturn]] = _refuse
    setdefault: ClassVar[Callable[..., NoReturn]] = _refuse
    pop: ClassVar[Callable[..., NoReturn]] = _refuse
    popitem: ClassVar[Callable[..., NoReturn]] = _refuse
    clear: ClassVar[Callable[..., NoReturn]] = _refuse
    __ior__: ClassVar[Callable[..., NoReturn]] = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(json.dumps(self, sort_keys=True))

    def __reduce__(self) -> tuple[type[JSONObject], tuple[dict[str, Any]]]:
        return JSONObject, (dict(self),)


def _frozen_json(value: Any) -> Any:
    if type(value) is JSONObject:
        return value
    if isinstance(value, Mapping):
        return JSONObject(value)
    if isinstance(value, list | tuple):
        return tuple([_frozen_json(item) for item in value])
    return value
