"""`wanasync cluster …`: the commands for many machines and their flags."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wanasync.cli import options as opt
from wanasync.cli.guard import guarded

__all__ = ["cluster"]

cluster: typer.Typer = typer.Typer(
    help="Many machines, one key: lists handed in to a PostgreSQL, worked off by any number of workers.",
    no_args_is_help=True,
)

Batch = Annotated[
    str | None, typer.Option(metavar="NAME", help="What the batch is called; by default as its directory.")
]


@cluster.command()
@guarded
def init(
    database: opt.Database = None,
    role: Annotated[
        str | None, typer.Option(metavar="NAME", help="Grant this role what workers need, and no more.")
    ] = None,
    quiet: opt.Quiet = False,
) -> int:
    """Make the tables, or bring them up to date. Needs a user of the database who may do that."""
    from wanasync.cli.cluster import Place, init
    from wanasync.cli.interrupts import run_interruptible
    from wanasync.cli.screen import screen_for

    place = Place.of(database)
    return run_interruptible(lambda _: init(place, role, screen_for(quiet=quiet)))


@cluster.command()
@guarded
def submit(
    source: opt.ListSource,
    to: opt.ToPlace = "videos",
    batch: Batch = None,
    budget: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="CREDITS",
            help="Stop all workers before more than this can be spent on the batch; stays until it is changed, "
            "inf lifts it.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Submit at most this many until the next handing in, by all workers."),
    ] = None,
    form: opt.ListFormat = None,
    quality: opt.Quality = None,
    aspect_ratio: opt.AspectRatio = None,
    duration: opt.Duration = None,
    model: opt.Model = None,
    no_prompt_extend: opt.NoPromptExtend = False,
    database: opt.Database = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> int:
    """Hand a list in for the workers; DIR is where they find it. The same command again hands in what is new.

    A bad line is told before anything is written. A batch that has stopped at its budget or limit goes on when it is
    handed in again with another.
    """
    from wanasync import RequestList
    from wanasync.cli.cluster import Place, Terms, submit
    from wanasync.cli.interrupts import run_interruptible
    from wanasync.cli.run import checked_defaults
    from wanasync.cli.screen import screen_for

    place = Place.of(database, batch)
    fields = opt.request_fields(quality, aspect_ratio, duration, model, no_prompt_extend)
    requests = RequestList(source, format=form, defaults=checked_defaults(fields))
    screen = screen_for(json=json, quiet=quiet)
    return run_interruptible(lambda _: submit(place, requests, Terms(budget, limit), to, screen))


@cluster.command()
@guarded
def worker(
    only: Annotated[
        str | None,
        typer.Option(metavar="submit|save", help="Leave saving to others, or do nothing but save. Default: all."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", "-o", metavar="DIR", help="Where the videos go, if not where the batch was told."),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where videos pass through on their way to an object store (default .)."),
    ] = None,
    retry_failed: opt.RetryFailed = 0,
    rescue_after: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="Silent for so long, a worker counts as dead.")
    ] = 30.0,
    database: opt.Database = None,
    api_key: opt.ApiKey = None,
    base_url: opt.BaseUrl = None,
    on_unknown: opt.OnUnknown = None,
    max_rpm: opt.MaxRpm = None,
    max_concurrent: opt.MaxConcurrent = None,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
) -> int:
    """Work off what was handed in, until SIGTERM or Ctrl-C: then what is on the wire is finished, and the rest goes to
    other workers."""
    from wanasync.cli.cluster import Place, Work, work
    from wanasync.cli.connection import Connection
    from wanasync.cli.interrupts import run_interruptible
    from wanasync.cli.screen import screen_for

    place = Place.of(database)
    job = Work(only, to, state, rescue_after, retry_failed)
    connection = Connection(api_key, base_url, None, on_unknown, max_rpm, max_concurrent)
    screen = screen_for(quiet=quiet, verbose=verbose)
    return run_interruptible(lambda interrupts: work(place, job, connection, screen, interrupts))


@cluster.command()
@guarded
def status(
    batch: Annotated[str, typer.Argument(metavar="NAME", help="What the batch is called.")],
    database: opt.Database = None,
    json: opt.Json = False,
) -> int:
    """Tell where a batch stands, and who works on it."""
    from wanasync.cli.cluster import Place, status
    from wanasync.cli.interrupts import run_interruptible
    from wanasync.cli.screen import screen_for

    place = Place.of(database, batch)
    return run_interruptible(lambda _: status(place, screen_for(json=json)))


@cluster.command()
@guarded
def resolve(
    batch: Annotated[str, typer.Argument(metavar="NAME", help="What the batch is called.")],
    found: Annotated[
        list[str] | None, typer.Option(metavar="NUMBER=TASK", help="This item's task is that one; may be repeated.")
    ] = None,
    drop: Annotated[
        list[int] | None, typer.Option(metavar="NUMBER", help="Look for this item no longer; may be repeated.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", "-o", metavar="DIR|URL", help="Where the videos go, if not where it was told.")
    ] = None,
    on_unknown: opt.OnUnknown = None,
    database: opt.Database = None,
    api_key: opt.ApiKey = None,
    base_url: opt.BaseUrl = None,
    json: opt.Json = False,
) -> int:
    """Tell the items whose submission's reply was lost, and settle them: each may have been paid for.

    By hand, or with --on-unknown replay (the same key again, for hosts that honour it) or resubmit (may be paid twice).
    """
    from wanasync.cli.cluster import Place, resolve
    from wanasync.cli.connection import Connection
    from wanasync.cli.interrupts import run_interruptible
    from wanasync.cli.screen import screen_for

    place = Place.of(database, batch)
    connection = Connection(api_key, base_url, on_unknown=on_unknown)
    screen = screen_for(json=json)
    return run_interruptible(lambda _: resolve(place, found or [], drop or [], connection, screen, to=to))
