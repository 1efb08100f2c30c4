"""How a command ends: with an exit code, and one sentence for what went wrong."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

import wanasync
from wanasync.cli import exits

__all__ = ["guarded"]

P = ParamSpec("P")


def guarded(command: Callable[P, int]) -> Callable[P, None]:
    """A command that ends with the exit code it returns, or with one sentence on stderr for an error of wanasync."""

    @functools.wraps(command)
    def ending(*args: P.args, **kwargs: P.kwargs) -> None:
        raise typer.Exit(_code(functools.partial(command, *args, **kwargs)))

    return ending


def _code(command: Callable[[], int]) -> int:
    from wanasync.cli.screen import Screen

    try:
        return command()
    except wanasync.WanError as error:
        code = exits.of_error(error)
        Screen().complain(_sentence(error, code))
        return code
    except KeyboardInterrupt:
        Screen().complain("interrupted before anything was sent")
        return exits.INTERRUPTED
    except BrokenPipeError:
        # Whoever read stdout has gone. Python would complain of it once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.STOPPED
    except Exception:  # noqa: BLE001 — told whole, for whoever mends it
        traceback.print_exc()
        Screen().complain("this is a fault in wanasync. What was paid for is in the journal: the same command goes on")
        return exits.FAILED


def _sentence(error: wanasync.WanError, code: int) -> str:
    from wanasync.cli import words

    if code == exits.KEY_REFUSED:
        return f"the API key was refused: {error}"
    return f"{error}; {words.WRONG_ADDRESS}" if isinstance(error, wanasync.NotFoundError) else str(error)
