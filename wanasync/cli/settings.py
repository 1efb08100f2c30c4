"""`wanasync config`: the settings in force."""

from __future__ import annotations

import attrs
from rich.table import Table
from rich.text import Text

from wanasync import Config
from wanasync.cli import exits
from wanasync.cli.connection import Connection
from wanasync.cli.screen import Screen

__all__ = ["show_config"]

SECRETS = ("api_key", "proxy")


def show_config(connection: Connection, screen: Screen) -> int:
    config, origin = connection.config()
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("setting", "value", "from"):
        table.add_column(heading, overflow="fold")
    for name in (attribute.name for attribute in attrs.fields(Config)):
        value, source = _shown(name, getattr(config, name)), origin.get(name, "default")
        if screen.json:
            screen.record({"setting": name, "value": value, "from": source})
        else:
            table.add_row(
                Text(name),
                Text("not set" if value is None else str(value)),
                Text(source, "dim" if source == "default" else "green"),
            )
    if not screen.json:
        screen.print_result(table)
    return exits.DONE


def _shown(name: str, value: object) -> object:
    if name in SECRETS and value is not None:
        return "set, not shown"
    return value if isinstance(value, str | int | float | None) else str(value)
