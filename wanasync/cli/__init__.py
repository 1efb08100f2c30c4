"""The command `wanasync`. Needs the extra `cli`; imports an HTTP client only where a command talks to the provider."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 all done, 1 some items failed, 2 bad usage or input, 3 the key was refused, 4 stopped early, 130 interrupted.
    """
    try:
        import rich  # noqa: F401 — needed by every command that says something

        from wanasync.cli.app import run_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("typer", "rich"):
            raise
        print("wanasync: the command line needs its extra: pip install 'wanasync[cli]'", file=sys.stderr)  # noqa: T201
        return 2
    return run_app(sys.argv[1:] if arguments is None else list(arguments))
