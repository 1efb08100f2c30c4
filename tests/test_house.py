"""The house holds: imports only go down, foreign libraries have one home, the public surface is what it says."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wanasync
from wanasync import errors, events

PACKAGE = Path(wanasync.__file__).parent

STOREYS = ("words", "rules", "edges", "engine", "doors")
WORDS = {"errors", "config", "jsonobject", "models", "events"}
DOORS = {"cli", "webhooks", "emulator", "gallery", "telemetry", "testing", "cluster", "__main__"}

HOMES = {
    # The receiver has a handler for aiohttp.web, imported when it is called; the gallery serves its page.
    "aiohttp": {"wanasync.edges.transport", "wanasync.emulator", "wanasync.gallery", "wanasync.webhooks.receiver"},
    "backoff": {"wanasync.edges.retrying"},
    "cattrs": {"wanasync.rules.wire"},
    "aiofiles": {"wanasync.edges.download"},
    # Beside the journal, a file of its own in which processes hand callbacks on.
    "sqlite3": {"wanasync.edges.journal", "wanasync.webhooks.mailbox"},
    "obstore": {"wanasync.edges.objects"},
    "pyarrow": {"wanasync.cli.table"},
    # The mailbox and the engine of the cluster have tables of their own, and listen.
    "psycopg": {"wanasync.edges.postgres", "wanasync.cluster"},
    "psycopg_pool": {"wanasync.edges.postgres"},
    "procrastinate": {"wanasync.cluster"},
    "typer": {"wanasync.cli"},
    "click": {"wanasync.cli"},
    "rich": {"wanasync.cli"},
    "av": {"wanasync.emulator"},
    "PIL": {"wanasync.emulator"},
    # The plugin and what only the plugin loads: who imports wanasync.testing by hand needs no pytest.
    "pytest": {
        "wanasync.testing.plugin",
        "wanasync.testing.runners",
        "wanasync.testing.stage",
        "wanasync.testing.on_asyncio",
    },
    # Each in rooms of its own, so that either can be had without the other.
    "opentelemetry": {"wanasync.telemetry.otel", "wanasync.telemetry.spans"},
    "prometheus_client": {"wanasync.telemetry.prometheus"},
    "pytest_asyncio": {"wanasync.testing.on_asyncio"},
}

# The one import that goes up: a request checks itself against its model's rules, so that one that exists is valid.
# catalog.py imports errors.py only, so no cycle comes of it.
ALLOWED_UP = {("wanasync.models", "wanasync.rules.catalog"), ("wanasync.models", "wanasync.rules")}


@functools.cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    return tuple((module_name(path), ast.parse(path.read_text("utf-8"))) for path in sorted(PACKAGE.rglob("*.py")))


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def runtime_imports(tree: ast.Module) -> tuple[tuple[str, bool], ...]:
    """(module, only for types) for each import, wherever in the file it stands."""
    return tuple(find_imports(tree))


def find_imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) in typing_only
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, id(node) in typing_only
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) in typing_only


def is_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def storey(module: str) -> str | None:
    parts = module.split(".")
    if parts[0] != "wanasync" or len(parts) == 1:
        return None
    if parts[1] in WORDS:
        return "words"
    if parts[1] in DOORS:
        return "doors"
    return parts[1] if parts[1] in STOREYS else None


def test_every_module_stands_on_a_storey() -> None:
    homeless = [name for name, _ in modules() if name != "wanasync" and storey(name) is None]
    assert homeless == []


def test_imports_only_go_down() -> None:
    climbing = []
    for name, tree in modules():
        here = storey(name)
        if here is None:
            continue
        for imported, for_types in runtime_imports(tree):
            there = storey(imported)
            if there is None or for_types or (name, imported) in ALLOWED_UP:
                continue
            if imported.startswith("wanasync.rules.catalog.") and name == "wanasync.models":
                continue
            if STOREYS.index(there) > STOREYS.index(here):
                climbing.append(f"{name} imports {imported}")
    assert climbing == []


def test_the_words_know_nothing_but_words() -> None:
    catalog = dict(modules())["wanasync.rules.catalog"]
    imported = {module for module, for_types in runtime_imports(catalog) if storey(module) and not for_types}
    assert [module for module in imported if module.split(".")[1] not in ("errors", "rules")] == []


def test_doors_use_the_public_api_only() -> None:
    inside = []
    for name, tree in modules():
        if storey(name) != "doors":
            continue
        door = ".".join(name.split(".")[:2])
        for imported, _ in runtime_imports(tree):
            if storey(imported) in {"rules", "edges", "engine"} and imported.split(".")[1] != door:
                inside.append(f"{name} imports {imported}")
    assert inside == []


@pytest.mark.parametrize("library", sorted(HOMES))
def test_each_foreign_library_has_one_home(library: str) -> None:
    strangers = []
    for name, tree in modules():
        at_home = any(name == home or name.startswith(home + ".") for home in HOMES[library])
        for imported, for_types in runtime_imports(tree):
            if imported.split(".")[0] == library and not at_home and not for_types:
                strangers.append(name)
    assert sorted(set(strangers)) == []


def test_all_names_can_be_imported() -> None:
    for name in wanasync.__all__:
        assert getattr(wanasync, name) is not None
    assert set(dir(wanasync)) == set(wanasync.__all__)


def test_public_names_have_docstrings() -> None:
    bare = [name for name in wanasync.__all__ if name != "__version__" and not getattr(wanasync, name).__doc__]
    assert bare == []


@pytest.mark.parametrize("door", ["cluster", "emulator", "telemetry", "testing"])
def test_the_doors_offer_what_they_say(door: str) -> None:
    module = importlib.import_module(f"wanasync.{door}")
    assert sorted(module.__all__, key=str.lower) == sorted(set(module.__all__), key=str.lower)
    bare = [name for name in module.__all__ if not (isinstance(value := getattr(module, name), float) or value.__doc__)]
    assert bare == []
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = module.nonsense


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'WanSesion'"):
        _ = wanasync.WanSesion


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert wanasync.__version__ == version("wanasync")


def test_importing_the_package_loads_no_http_client() -> None:
    code = "import wanasync, sys; print('aiohttp' in sys.modules, 'wanasync.engine' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]


def test_each_event_is_told_by_the_engine() -> None:
    called = {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for name, tree in modules()
        if storey(name) == "engine"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    }
    kinds = {name for name in events.__all__ if isinstance(getattr(events, name), type)} - {"Event"}
    assert kinds - called == set()


SAMPLES: dict[str, tuple[object, ...]] = {
    "ConfigError": ("no key", "api_key"),
    "RequestValidationError": ("quality", "4k", "not offered", ("480p", "720p")),
    "SubmissionUnknownError": ("reset", "key-1", None, ""),
    "ResponseFormatError": ("$.id: missing", 200, "{}"),
    "BudgetExceededError": (10.0, 8.0, 5.0),
    "DownloadError": ("cut", "task-1", "https://v/x", "x.mp4"),
    "JournalError": ("locked", "videos"),
}


def sample(error: type[errors.WanError]) -> errors.WanError:
    if error.__name__ in SAMPLES:
        return error(*SAMPLES[error.__name__])
    if issubclass(error, errors.APIError):
        return error("no", 418, "teapot", "t", "p", "s", "r-1", 2.5, "{}")
    if issubclass(error, errors.TaskError):
        return error("gone", "task-unified-1-abc")
    return error("words") if error is not errors.WanError else error()


@pytest.mark.parametrize("name", sorted(errors.__all__))
def test_every_error_pickles_and_reads_as_a_sentence(name: str) -> None:
    original = sample(getattr(errors, name))
    copy = pickle.loads(pickle.dumps(original))  # noqa: S301 — our own bytes
    assert type(copy) is type(original)
    assert copy.args == original.args
    assert str(copy) == str(original)


def test_every_error_is_in_one_tree_and_public() -> None:
    tree = {
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.WanError)
    }
    assert tree == set(errors.__all__)
    assert tree <= set(wanasync.__all__)
    drawn = errors.__doc__ or ""
    assert [name for name in tree if name not in drawn] == []


def test_no_import_goes_in_a_circle() -> None:
    known = {name: ast.Module([node for node in tree.body if is_import(node)], []) for name, tree in modules()}
    graph = {
        name: {
            module
            for module, for_types in runtime_imports(tree)
            if module in known and module != name and not for_types
        }
        for name, tree in known.items()
    }
    # The package itself imports its public names when they are asked for.
    graph["wanasync"] = set()
    graphlib.TopologicalSorter(graph).prepare()
