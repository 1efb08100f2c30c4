"""The API key reaches the API and nothing else: no other host, no file, no log, no error."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.emulated import session_on
from tests.helpers.raw_server import RawServer, raw_server, reply, say
from tests.helpers.tls import server_context
from tests.security.faults import everything
from wanasync import Config, ConfigError, Outcome, WanError, load_config
from wanasync.cli import main
from wanasync.edges.transport import Transport
from wanasync.emulator import Emulator, Trouble
from wanasync.models import VideoRequest
from wanasync.rules.calls import Call, credits_call, submit_call
from wanasync.rules.replies import Refused, read_submission
from wanasync.testing import START, virtual_time

KEY = "a-key-of-no-known-shape"


def config_for(server: RawServer, **settings: Any) -> Config:
    return Config(api_key=KEY, base_url=server.url, read_timeout=5.0, connect_timeout=5.0, **settings)


def submission(base_url: str) -> Call:
    return submit_call(base_url, VideoRequest("a cat"), "key-0123456789abcdef")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@virtual_time
async def test_a_run_in_trouble_leaves_the_key_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    events: list[object] = []
    async with (
        Emulator(epoch=START, api_key=KEY, trouble=everything() | Trouble(stuck_tasks=0.0)) as emu,
        session_on(emu, on_event=events.append) as wan,
        wan.batch(map(str, range(80)), tmp_path) as batch,
    ):
        told = [outcome async for outcome in batch]
        said = repr([wan, wan.config, wan.statistics(), batch.progress(), told, events])
    assert KEY not in said
    assert KEY not in caplog.text
    assert KEY not in "".join(map(_whole_error, told))
    for file in filter(Path.is_file, tmp_path.rglob("*")):
        assert KEY.encode() not in file.read_bytes(), file


def _whole_error(outcome: Outcome) -> str:
    return "".join(traceback.format_exception(outcome.error)) if outcome.error else ""


@pytest.mark.parametrize("answer", [b"HTTP/1.1 nonsense\r\n\r\n", b"no HTTP at all\r\n\r\n", b""])
async def test_the_key_is_in_no_error_nor_in_what_it_came_of(answer: bytes) -> None:
    async with raw_server(say(answer) if answer else _hang_up) as server, Transport(config_for(server)) as transport:
        for call in (credits_call(server.url), submission(server.url)):
            with pytest.raises(WanError) as caught:
                await transport.send(call)
            for error in chain(caught.value):
                assert KEY not in f"{error!r} {error} {error.args!r} {vars(error)!r}"
    assert f"Authorization: Bearer {KEY}".encode() in server.requests[0]


async def _hang_up(wire: Any) -> None:
    await wire.request()


async def test_a_key_that_the_host_repeats_is_taken_out() -> None:
    body = b'{"error": {"code": 401, "message": "who is %s?", "request_id": "%s"}}' % (KEY.encode(), KEY.encode())
    said = reply(body, f"X-Request-Id: {KEY}", f"Location: https://other.example/?key={KEY}", status="401 No")
    async with raw_server(say(said)) as server, Transport(config_for(server)) as transport:
        answer = await transport.send(submission(server.url))
    outcome = read_submission(answer, now=0.0)
    assert isinstance(outcome, Refused)
    assert "who is [removed]?" in outcome.error.message
    assert KEY not in f"{answer!r} {answer.body!r} {outcome!r}"


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
async def test_a_redirect_does_not_carry_the_key_away(status: str) -> None:
    async with raw_server(say(reply())) as other:
        away = reply(b"", f"Location: {other.url}/v1/credits", status=status)
        async with raw_server(say(away)) as server, Transport(config_for(server)) as transport:
            for call in (credits_call(server.url), submission(server.url)):
                answer = await transport.send(call)
                assert answer.status == int(status[:3])
    assert other.connections == 0


async def test_the_host_of_a_video_never_sees_the_key() -> None:
    """Not even where it is the API's own origin: a link is a stranger's, wherever it leads."""
    video = reply(b"video")
    async with raw_server(say(video)) as api, Transport(config_for(api)) as transport:
        away = reply(b"", f"Location: {api.url}/again.mp4", status="302 Found")
        async with (
            raw_server(say(away)) as host,
            transport.stream(f"{host.url}/a.mp4", {}) as redirected,
            transport.stream(f"{api.url}/a.mp4", {}) as direct,
        ):
            assert await redirected.read() == await direct.read() == b"video"
    for request in (*api.requests, *host.requests):
        assert b"authorization" not in request.lower()
        assert KEY.encode() not in request


async def test_a_host_without_a_trusted_certificate_sees_no_request() -> None:
    async with raw_server(say(reply()), tls=server_context()) as server, Transport(config_for(server)) as transport:
        with pytest.raises(WanError, match="certificate is not accepted"):
            await transport.send(submission(server.url))
        with pytest.raises(WanError, match="certificate is not accepted"):
            async with transport.stream(f"{server.url}/a.mp4", {}):
                pass
    assert server.requests == []


@pytest.mark.parametrize("host", ["api.example.com", "10.0.0.7", "gateway", "127.0.0.1.example.com", "192.168.0.9"])
def test_the_key_does_not_go_over_plain_http(host: str) -> None:
    with pytest.raises(ConfigError, match="plain http") as caught:
        Config(api_key=KEY, base_url=f"http://{host}/v1")
    assert KEY not in str(caught.value)
    assert Config(api_key=KEY, base_url=f"http://{host}/v1", allow_plain_http=True).allow_plain_http
    assert Config(base_url=f"HTTP://{host}/v1").api_key is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8484", "[::1]:8484", "emulator.localhost"])
def test_this_machine_may_be_spoken_to_in_plain_http(host: str) -> None:
    assert Config(api_key=KEY, base_url=f"http://{host}").base_url == f"http://{host}"


# --- settings that a stranger's project brings along -----------------------------------------------------------------

ELSEWHERE = "https://collector.example/apiv1"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """A directory below the home directory with such a `wanasync.toml`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))

    def written(text: str, name: str = "wanasync.toml") -> Path:
        folder = tmp_path / "project" / "deep"
        folder.mkdir(parents=True, exist_ok=True)
        (folder.parent / name).write_text(text)
        return folder

    return written


@pytest.mark.parametrize("source", ["argument", "environment"])
@pytest.mark.parametrize("name", ["wanasync.toml", "pyproject.toml"])
def test_a_settings_file_can_not_send_the_key_elsewhere(source: str, name: str, project: Callable[..., Path]) -> None:
    table = "[tool.wanasync]\n" if name == "pyproject.toml" else ""
    start = project(f'{table}base_url = "{ELSEWHERE}"', name)
    arguments, environ = ({"api_key": KEY}, {}) if source == "argument" else ({}, {"WAN_API_KEY": KEY})
    with pytest.raises(ConfigError, match=f"WAN_BASE_URL={ELSEWHERE}") as caught:
        load_config(arguments, environ=environ, start=start)
    assert KEY not in str(caught.value)
    # The user's own word counts, and so does a key that comes with the address.
    assert load_config(arguments, environ={**environ, "WAN_BASE_URL": ELSEWHERE}, start=start)[0].base_url == ELSEWHERE
    assert load_config({}, environ={}, start=start)[0].api_key is None


@pytest.mark.parametrize(
    "base_url",
    ["https://api.evolink.ai.collector.example", "https://collector.example/api.evolink.ai", "http://api.evolink.ai"],
)
def test_a_settings_file_can_not_pass_another_host_off_as_the_providers(
    base_url: str, project: Callable[..., Path]
) -> None:
    with pytest.raises(ConfigError):
        load_config(environ={"WAN_API_KEY": KEY}, start=project(f'base_url = "{base_url}"\nallow_plain_http = true'))


@pytest.mark.parametrize("base_url", ["https://api.evolink.ai/v2", "http://127.0.0.1:8484/apiv1"])
def test_a_settings_file_may_name_the_provider_and_this_machine(base_url: str, project: Callable[..., Path]) -> None:
    config, _ = load_config(environ={"WAN_API_KEY": KEY}, start=project(f'base_url = "{base_url}"'))
    assert config.base_url == base_url


def test_the_users_own_settings_file_may_name_any_host(project: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "wanasync.toml").write_text(f'base_url = "{ELSEWHERE}"')
    start = tmp_path / "project"
    start.mkdir()
    assert load_config(environ={"WAN_API_KEY": KEY}, start=start)[0].base_url == ELSEWHERE


def test_another_users_settings_in_an_open_folder_are_refused(
    project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = project('on_unknown = "resubmit"')
    file = start.parent / "wanasync.toml"
    os.chown(file, 12_345, -1) if os.geteuid() == 0 else monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    assert load_config(environ={}, start=start)[0].on_unknown == "resubmit"
    start.parent.chmod(0o1777)
    with pytest.raises(ConfigError, match="another user"):
        load_config(environ={}, start=start)


@pytest.mark.parametrize("text", ["x = " + "[" * 50_000, "x = " + "9" * 5_000, "x = 'a", "[limits]\nper = 'x'"])
def test_a_settings_file_beyond_measure_is_refused(text: str, project: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError):
        load_config(environ={}, start=project(text))


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["config"], ["config", "--json"], ["config", "--base-url", KEY]])
def test_the_settings_are_shown_without_the_key(
    arguments: list[str], project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.chdir(project(""))
    monkeypatch.setenv("WAN_API_KEY", KEY)
    monkeypatch.setenv("WAN_PROXY", f"http://me:{KEY}@proxy.example:3128")
    main(arguments)
    shown = capfd.readouterr()
    assert "base_url" in shown.out + shown.err
    assert KEY not in shown.out + shown.err
