"""What the site says by itself: the command line, the settings, the states of an item, and docstrings."""

from __future__ import annotations

import enum
import re
from pathlib import Path
from typing import Any, ClassVar

import attrs
import cli_reference
import lifecycle
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective

from wanasync import Config
from wanasync.emulator import FAULTS
from wanasync.telemetry import measures


class CliReference(SphinxDirective):
    """Each command with its arguments and flags."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(cli_reference.reference(), allow_section_headings=True)


class Settings(SphinxDirective):
    """The fields of `Config`: where they can be set, their defaults, and what is written below them in the source."""

    def run(self) -> list[nodes.Node]:
        told = ModuleAnalyzer.for_module("wanasync.config").find_attr_docs()
        lines = ["| setting | default | |", "|---|---|---|"]
        lines += [_setting(field, " ".join(told["Config", field.name])) for field in attrs.fields(Config)]
        return self.parse_text_to_nodes("\n".join(lines))


def _setting(field: Any, told: str) -> str:
    default = "" if field.default is None else f"`{field.default}`"
    return f"| `{field.name}` | {default} | {told.strip()} |"


class Lifecycle(SphinxDirective):
    """The states of an item: drawn, or with the option `table` as a table."""

    option_spec: ClassVar[dict[str, Any]] = {"table": lambda _: True}

    def run(self) -> list[nodes.Node]:
        if "table" in self.options:
            return self.parse_text_to_nodes(lifecycle.table())
        figure = f'<div class="lifecycle-frame">{lifecycle.drawing()}</div>'
        return [nodes.raw("", figure, format="html")]


class Measures(SphinxDirective):
    """What `wanasync.telemetry` measures, under the names of both doors."""

    def run(self) -> list[nodes.Node]:
        lines = ["| name | kind | unit | labels | |", "|---|---|---|---|---|"]
        kinds = (("counter", measures.COUNTERS), ("histogram", measures.HISTOGRAMS), ("gauge", measures.GAUGES))
        lines += [_measure(kind, instrument) for kind, instruments in kinds for instrument in instruments]
        return self.parse_text_to_nodes("\n".join(lines))


def _measure(kind: str, instrument: measures.Instrument) -> str:
    labels = ", ".join(f"`{label}`" for label in instrument.labels)
    return f"| `wanasync.{instrument.name}` | {kind} | {instrument.unit} | {labels} | {instrument.description} |"


class Faults(SphinxDirective):
    """What can go wrong in each lane of the emulator."""

    def run(self) -> list[nodes.Node]:
        lanes: dict[str, list[str]] = {}
        for lane, faults in FAULTS.items():
            lanes.setdefault("; ".join(map(_fault, faults.items())), []).append(lane)
        lines = ["| lane | faults, and what their values mean |", "|---|---|"]
        lines += [f"| {', '.join(names)} | {faults} |" for faults, names in lanes.items()]
        return self.parse_text_to_nodes("\n".join(lines))


def _fault(fault: tuple[str, str]) -> str:
    name, value = fault
    return f"`{name}` ({value})" if value else f"`{name}`"


def read_project_page(app: Sphinx, docname: str, content: list[str]) -> None:
    """The pages below project/ are the documents beside README, which link to each other there."""
    if docname.startswith("project/") and (name := docname.removeprefix("project/").upper()) != "INDEX":
        path = Path(app.srcdir).parent / f"{name}.md"
        app.env.note_dependency(str(path))
        content[0] = re.sub(r"\]\(([A-Z]+)\.md\)", lambda link: f"]({link[1].lower()}.md)", path.read_text("utf-8"))


def unskip_members(_app: Sphinx, _what: str, _name: str, member: object, _skip: bool, _options: object) -> bool | None:
    """The values of an enumeration speak for themselves."""
    return False if isinstance(member, enum.Enum) else None


def as_restructured(_app: Sphinx, _what: str, _name: str, _obj: object, _options: object, lines: list[str]) -> None:
    """Docstrings are plain text: what is indented below a paragraph is shown as it stands."""
    made: list[str] = []
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("    ") and not before.strip() and not _is_within(made):
            made += ["::", ""]
        made.append(line)
    lines[:] = made


def _is_within(lines: list[str]) -> bool:
    """Whether the last line that says anything is indented, or begins a block itself."""
    said = next((line for line in reversed(lines) if line.strip()), "")
    return said.startswith(" ") or said.rstrip().endswith("::")


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("cli-reference", CliReference)
    app.add_directive("settings-table", Settings)
    app.add_directive("lifecycle", Lifecycle)
    app.add_directive("measures", Measures)
    app.add_directive("faults", Faults)
    app.connect("source-read", read_project_page)
    app.connect("autodoc-skip-member", unskip_members)
    app.connect("autodoc-process-docstring", as_restructured)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
