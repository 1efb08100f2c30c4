"""The commands and their flags. What they do stands in the modules beside this one, imported when a command runs."""

from __future__ import annotations

import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import wanasync
from wanasync.cli import exits
from wanasync.cli import options as opt
from wanasync.cli.cluster_app import cluster
from wanasync.cli.guard import guarded

__all__ = ["app", "run_app"]

_PACE = "Limits"

BatchName = Annotated[
    str, typer.Argument(metavar="DIR|NAME", help="A batch's directory, or with a database a shared batch's name.")
]

app: typer.Typer = typer.Typer(
    name="wanasync",
    help="Prompts go in, video files come out; neither a paid task nor a finished video is ever lost.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
"""The command line as a typer app."""


app.add_typer(cluster, name="cluster")


def run_app(arguments: Sequence[str]) -> int:
    """Run the app and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A sign that the terminal can't show must not end a paid batch.
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=list(arguments), prog_name="wanasync", obj=tuple(arguments))
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else exits.DONE
    return exits.DONE


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"wanasync {wanasync.__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", metavar=opt.FLAG, callback=_version, is_eager=True, help="Tell the version.")
    ] = False,
) -> None:
    pass


@app.command("run")
@guarded
def run_command(
    ctx: typer.Context,
    source: opt.ListSource,
    to: opt.ToPlace = "videos",
    state: opt.State = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="Names of the videos, e.g. '{index:06d}-{slug}.mp4'. Fields: index, number, id, slug, quality, "
            "aspect_ratio, duration, model, date.",
        ),
    ] = None,
    table: opt.Table = None,
    form: opt.ListFormat = None,
    budget: Annotated[
        float | None, typer.Option(min=0, metavar="CREDITS", help="Stop before more than this can be spent.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Submit at most this many in this run.")] = None,
    retry_failed: opt.RetryFailed = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", metavar=opt.FLAG, help="Check the list and say what would be sent.")
    ] = False,
    gallery: Annotated[
        bool, typer.Option("--gallery", metavar=opt.FLAG, help="Show it in the browser, and write a report.")
    ] = False,
    no_open: Annotated[
        bool, typer.Option("--no-open", metavar=opt.FLAG, help="With --gallery: only print the address.")
    ] = False,
    quality: opt.Quality = None,
    aspect_ratio: opt.AspectRatio = None,
    duration: opt.Duration = None,
    model: opt.Model = None,
    no_prompt_extend: opt.NoPromptExtend = False,
    emulator: opt.Emulated = False,
    api_key: opt.ApiKey = None,
    base_url: opt.BaseUrl = None,
    on_unknown: opt.OnUnknown = None,
    max_rpm: opt.MaxRpm = None,
    max_concurrent: opt.MaxConcurrent = None,
    json: opt.Json = False,
    plain: opt.Plain = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
) -> int:
    """Make the videos of a list. The same command again goes on where it was left.

    Flags for requests hold for lines that leave the field out. A bad line is told before anything is paid.
    """
    from wanasync.cli.connection import Connection
    from wanasync.cli.run import RunJob, checked_defaults, run

    job = RunJob(
        source,
        wanasync.Destination.of(to, state),
        Connection(api_key, base_url, emulator, on_unknown, max_rpm, max_concurrent),
        command=_command_line(ctx.obj),
        format=form,
        defaults=checked_defaults(opt.request_fields(quality, aspect_ratio, duration, model, no_prompt_extend)),
        budget=budget,
        limit=limit,
        retry_failed=retry_failed,
        gallery=gallery,
        open_gallery=gallery and not no_open,
        name=None if name is None else wanasync.NameTemplate(name),
        table=table,
    )
    return run(job, _screen(json, plain, quiet, verbose), dry=dry_run)


@app.command()
@guarded
def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to show.")],
    to: Annotated[
        str,
        typer.Option("--to", "-o", metavar="FILE|URL", help="A new file, or a directory to name one in; also s3://…."),
    ] = ".",
    state: opt.State = None,
    quality: opt.Quality = None,
    aspect_ratio: opt.AspectRatio = None,
    duration: opt.Duration = None,
    model: opt.Model = None,
    no_prompt_extend: opt.NoPromptExtend = False,
    timeout: Annotated[float | None, typer.Option(min=0, metavar="SECONDS", help="Wait no longer than this.")] = None,
    emulator: opt.Emulated = False,
    api_key: opt.ApiKey = None,
    base_url: opt.BaseUrl = None,
    on_unknown: opt.OnUnknown = None,
    json: opt.Json = False,
    plain: opt.Plain = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = 0,
) -> int:
    """Make one video of one prompt, and print its path."""
    from wanasync.cli.connection import Connection
    from wanasync.cli.interrupts import run_interruptible
    from wanasync.cli.tasks import generate

    request = _request(prompt, opt.request_fields(quality, aspect_ratio, duration, model, no_prompt_extend))
    connection = Connection(api_key, base_url, emulator, on_unknown)
    screen = _screen(json, plain, quiet, verbose)
    return run_interruptible(lambda _: generate(request, to, connection, screen, timeout, state))


@app.command()
@guarded
def submit(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to show; one task for each.")],
    quality: opt.Quality = None,
    aspect_ratio: opt.AspectRatio = None,
    duration: opt.Duration = None,
    model: opt.Model = None,
    no_prompt_extend: opt.NoPromptExtend = False,
    api_key: opt.ApiKey = None,
    base_url: opt.BaseUrl = None,
    on_unknown: opt.OnUnknown = None,
    json: opt.Json = False,
) -> int:
    """Submit prompts without waiting, and print the tasks' ids; `fetch` saves their videos."""
    from wanasync.cli.connection import Connection
    from wanasync.cli.interrupts import run_interruptible
    from wanasync.cli.tasks import submit

    fields = opt.request_fields(quality, aspect_ratio, duration, model, no_prompt_extend)
    requests = [_request(prompt, fields) for prompt in prompts]
    connection = Connection(api_key, base_url, on_unknown=on_unknown)
    return run_interruptible(lambda _: submit(requests, connection, _screen(json)))


@app.command()
@guarded
def fetch(
    task_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Tasks, of this or any other program; - reads stdin.")
    ] = None,
    ids: Annotated[Path | None, typer.Option(metavar="FILE", help="A file with a task id a line.")] = None,
    recent: Annotated[
        float | None,
        typer.Option(
            min=0, metavar="HOURS", help="Also the account's tasks of the last hours, where the host lists them."
        ),
    ] = None,
    to: opt.ToPlace = "videos",
    state: opt.State = None,
    api_key: opt.ApiKey = None,
    base_url: opt.BaseUrl = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> int:
    """Save the videos of tasks, waiting for those that are not finished."""
    from wanasync.cli.connection import Connection
    from wanasync.cli.interrupts import run_interruptible
    from wanasync.cli.tasks import fetch

    wanted = _task_ids(task_ids or [], ids) if task_ids or ids or recent is None else []
    connection = Connection(api_key, base_url)
    return run_interruptible(lambda _: fetch(wanted, to, connection, _screen(json, quiet=quiet), recent, state))


@app.command()
@guarded
def status(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="DIR|NAME|ID...", help="A batch's directory, a shared batch's name, or tasks."),
    ],
    table: opt.Table = None,
    database: opt.Database = None,
    api_key: opt.ApiKey = None,
    base_url: opt.BaseUrl = None,
    json: opt.Json = False,
) -> int:
    """Tell where a batch stands, from its journal alone, or how tasks do.

    With a database, a batch that workers share is found by its name.
    """
    from wanasync.cli.connection import Connection
    from wanasync.cli.interrupts import run_interruptible
    from wanasync.cli.status import status

    connection = Connection(api_key, base_url)
    return run_interruptible(lambda _: status(targets, connection, _screen(json), table, database))


@app.command()
@guarded
def report(
    batch: BatchName,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", metavar=opt.FLAG, help="Replace an index.html that is another program's.")
    ] = False,
    open_it: Annotated[bool, typer.Option("--open", metavar=opt.FLAG, help="Open it in the browser.")] = False,
    to: opt.VideosHere = None,
    database: opt.Database = None,
) -> int:
    """Write a page beside the videos that shows them all: DIR/index.html. It needs no server and no network."""
    from wanasync.cli.batches import Target
    from wanasync.cli.gallery import report
    from wanasync.cli.interrupts import run_interruptible

    target = Target(batch, database, to)
    return run_interruptible(lambda _: report(target, _screen(), overwrite=overwrite, open_it=open_it))


@app.command()
@guarded
def gallery(
    batch: BatchName,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="0 takes a free one.")] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", metavar=opt.FLAG, help="Only print the address.")] = False,
    to: opt.VideosHere = None,
    database: opt.Database = None,
) -> int:
    """Serve the page of a batch to this machine's browser, up to date while a run goes on, until Ctrl-C."""
    from wanasync.cli.batches import Target
    from wanasync.cli.gallery import serve
    from wanasync.cli.interrupts import run_interruptible

    target = Target(batch, database, to)
    return run_interruptible(lambda interrupts: serve(target, _screen(), interrupts, port=port, open_it=not no_open))


@app.command("credits")
@guarded
def credits_command(
    api_key: opt.ApiKey = None,
    base_url: opt.BaseUrl = None,
    emulator: opt.Emulated = False,
    json: opt.Json = False,
) -> int:
    """Tell the account's balance; also a free check of the key."""
    from wanasync.cli.connection import Connection
    from wanasync.cli.interrupts import run_interruptible
    from wanasync.cli.tasks import credits_left

    return run_interruptible(lambda _: credits_left(Connection(api_key, base_url, emulator), _screen(json)))


@app.command()
@guarded
def config(
    api_key: opt.ApiKey = None,
    base_url: opt.BaseUrl = None,
    on_unknown: opt.OnUnknown = None,
    json: opt.Json = False,
) -> int:
    """Show each setting, its value and where it comes from. The key is never shown."""
    from wanasync.cli.connection import Connection
    from wanasync.cli.settings import show_config

    return show_config(Connection(api_key, base_url, on_unknown=on_unknown), _screen(json))


@app.command()
@guarded
def emulator(
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="0 takes a free one.")] = 8484,
    host: Annotated[str, typer.Option(metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
    task_seconds: Annotated[tuple[float, float], typer.Option(metavar="LOW HIGH", help="How long tasks take.")] = (
        2.0,
        6.0,
    ),
    videos: Annotated[
        str, typer.Option(metavar="real|tiny", help="Videos of the prompts, or one small clip.")
    ] = "real",
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Submissions let in…", rich_help_panel=_PACE)
    ] = None,
    per: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="… in this time.", rich_help_panel=_PACE)
    ] = 60.0,
    limiter: Annotated[
        str, typer.Option(metavar="fixed|sliding|bucket", help="How they are counted.", rich_help_panel=_PACE)
    ] = "fixed",
    concurrent: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Unfinished tasks let in at once.", rich_help_panel=_PACE)
    ] = None,
    hint: Annotated[
        str, typer.Option(metavar="text|header|date|both|none", help="How a 429 tells the wait.", rich_help_panel=_PACE)
    ] = "text",
    credit: Annotated[float | None, typer.Option(min=0, metavar="CREDITS", help="What the account holds.")] = None,
    api_key: Annotated[str | None, typer.Option(metavar="KEY", help="The key that is let in.")] = None,
    errors: Annotated[
        str, typer.Option(metavar="integer|string", help="Error bodies of the provider's document, or of newer hosts.")
    ] = "integer",
    trouble: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SHARE", help="What goes wrong how often, e.g. cut_downloads=0.2; may be repeated."),
    ] = None,
) -> int:
    """Serve an emulated provider, for programs that are to be tried without a key."""
    from wanasync.cli.emulating import Options, serve
    from wanasync.cli.interrupts import run_interruptible

    options = Options(
        host=host,
        port=port,
        api_key=api_key,
        task_seconds=task_seconds,
        limit=limit,
        per=per,
        limiter=limiter,
        concurrent=concurrent,
        hint=hint,
        credit=credit,
        trouble=trouble or (),
        errors=errors,
        videos=videos,
    )
    return run_interruptible(lambda _: serve(options, _screen()))


def _screen(json: bool = False, plain: bool = False, quiet: bool = False, verbose: int = 0) -> Any:
    from wanasync.cli.screen import screen_for

    return screen_for(json=json, plain=plain, quiet=quiet, verbose=verbose)


def _request(prompt: str, fields: dict[str, Any]) -> Any:
    from wanasync import VideoRequest
    from wanasync.cli.run import checked_defaults

    return VideoRequest(prompt, **checked_defaults(fields))


def _task_ids(arguments: list[str], file: Path | None) -> list[str]:
    lines: list[str] = []
    for argument in arguments:
        lines += sys.stdin.read().splitlines() if argument == "-" else [argument]
    if file is not None:
        try:
            lines += file.read_text("utf-8-sig").splitlines()
        except OSError as error:
            raise wanasync.ConfigError(f"{file}: can't be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise wanasync.ConfigError(f"{file}: is not UTF-8") from error
    ids = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not ids:
        raise wanasync.ConfigError("no task ids were given")
    return list(dict.fromkeys(ids))


def _command_line(arguments: Sequence[str]) -> str:
    """What was typed, to be typed again; without the key, which is not for the screen."""
    words = iter(arguments)
    kept = ["wanasync"]
    for word in words:
        if word == "--api-key":
            next(words, None)
        elif not word.startswith("--api-key="):
            kept.append(word)
    return shlex.join(kept)
