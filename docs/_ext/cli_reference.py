"""The command line's reference as Markdown, from the typer app itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import typer

from wanasync.cli.app import app

__all__ = ["commands", "reference"]


def commands() -> Iterator[tuple[str, Any]]:
    """Each command by its whole name, such as `wanasync run`; groups come before their commands."""
    yield from _walk("wanasync", typer.main.get_command(app))


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from _walk(f"{name} {word}", below)


def reference() -> str:
    """A section for each command: what it does, how it is called, its arguments and flags."""
    return "\n\n".join(_section(name, command) for name, command in commands())


def _section(name: str, command: Any) -> str:
    shown = [parameter for parameter in command.params if not parameter.hidden]
    arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
    panels: dict[str, list[Any]] = defaultdict(list)
    for parameter in shown:
        if parameter not in arguments:
            panels[parameter.rich_help_panel or "Options"].append(parameter)
    usage = " ".join([name, *map(_placeholder, arguments), *(["[OPTIONS]"] if panels else []), *_subcommand(command)])
    parts = [f"({name.replace(' ', '-')})=\n## `{name}`", _prose(command.help), f"```text\n{usage}\n```"]
    if any(argument.help for argument in arguments):
        parts.append(_table("Arguments", [(_placeholder(argument), argument.help) for argument in arguments]))
    parts += [_table(panel, [_option(option) for option in options]) for panel, options in panels.items()]
    return "\n\n".join(parts)


def _subcommand(command: Any) -> list[str]:
    return ["COMMAND …"] if hasattr(command, "commands") else []


def _placeholder(argument: Any) -> str:
    word = argument.metavar or argument.name.upper()
    return word if argument.required else f"[{word}]"


def _prose(text: str | None) -> str:
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


def _option(option: Any) -> tuple[str, str]:
    flags = ", ".join([*option.opts, *option.secondary_opts])
    takes_value = not (option.is_flag or option.count)
    value = option.metavar or option.name.upper()
    return (f"{flags} {value}" if takes_value else flags), _told(option, takes_value)


def _told(option: Any, takes_value: bool) -> str:
    default = option.default
    if not takes_value or default in (None, ()) or "efault" in (option.help or ""):
        return option.help or ""
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return f"{option.help or ''} Default `{shown}`."


def _table(title: str, rows: list[tuple[str, str | None]]) -> str:
    lines = [f"| {title} | |", "|---|---|"]
    lines += [f"| `{_cell(name)}` | {_cell(text or '')} |" for name, text in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
