from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from wanasync.config import DEFAULT_BASE_URL, ON_UNKNOWN, Config, resolve, unknown_variables
from wanasync.errors import ConfigError
from wanasync.models import Limits


class TestConfig:
    def test_has_defaults_that_need_no_thought(self) -> None:
        config = Config()
        assert (config.api_key, config.base_url, config.on_unknown, config.limits) == (
            None,
            DEFAULT_BASE_URL,
            "hold",
            None,
        )

    def test_is_a_value(self) -> None:
        config = Config(api_key="k", limits=Limits(requests=60))
        assert config == Config(api_key="k", limits=Limits(requests=60))
        assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            config.base_url = "http://other"  # type: ignore[misc]

    def test_never_shows_its_secrets(self) -> None:
        assert "s3cret" not in repr(Config(api_key="s3cret", proxy="http://user:s3cret@proxy"))

    @pytest.mark.parametrize("url", ["https://ai.odkkk.com/apiv1", "http://127.0.0.1:8484", "http://[::1]:80/a/b"])
    def test_keeps_the_path_of_the_base_url_without_the_slash_behind_it(self, url: str) -> None:
        assert Config(base_url=f"{url}/").base_url == Config(base_url=url).base_url == url

    @pytest.mark.parametrize(
        "url",
        [
            "ai.odkkk.com",
            "ftp://host/x",
            "https://",
            "https:///path",
            "https://host?x=1",
            "https://host?",
            "https://host#f",
            "http://[::1",
            "http://host:99999",
            "http://host:0",
            "http://ho st",
            "http://host/\n",
            "http://hôst",
            "",
            5,
            None,
        ],
    )
    def test_refuses_what_is_no_base_url(self, url: Any) -> None:
        with pytest.raises(ConfigError, match="base_url must be an http") as caught:
            Config(base_url=url)
        assert caught.value.setting == "base_url"

    @pytest.mark.parametrize("url", ["https://user:s3cret@host", "https://s3cret@host/x", "http://user:s3cret@host:0"])
    def test_refuses_a_password_in_the_base_url_without_showing_it(self, url: str) -> None:
        with pytest.raises(ConfigError, match="user name or password") as caught:
            Config(base_url=url)
        assert "s3cret" not in str(caught.value)

    def test_an_at_sign_in_the_path_is_none(self) -> None:
        assert Config(base_url="https://host/@me").base_url == "https://host/@me"

    @pytest.mark.parametrize("key", ["", "s3cret key", "s3cret\n", "s3crét", "\ufeffs3cret", 5])
    def test_refuses_keys_that_no_header_can_carry_without_showing_them(self, key: Any) -> None:
        with pytest.raises(ConfigError, match="api_key must be printable ASCII") as caught:
            Config(api_key=key)
        assert "s3cr" not in str(caught.value)

    @pytest.mark.parametrize(
        "name", ["connect_timeout", "read_timeout", "link_lifetime", "task_patience", "polls_per_second"]
    )
    @pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5", None, True])
    def test_refuses_amounts_that_are_none(self, name: str, value: Any) -> None:
        with pytest.raises(ConfigError, match=f"{name} must be a number above 0"):
            Config(**{name: value})

    @pytest.mark.parametrize("name", ["max_downloads", "connect_attempts", "max_polls_in_flight"])
    @pytest.mark.parametrize("value", [0, -1, 1.5, "5", None, True])
    def test_refuses_counts_that_are_none(self, name: str, value: Any) -> None:
        with pytest.raises(ConfigError, match=f"{name} must be a whole number of at least 1"):
            Config(**{name: value})

    @pytest.mark.parametrize(
        "limits",
        [
            Limits(requests=0),
            Limits(requests=1.5),  # type: ignore[arg-type]
            Limits(concurrent=0),
            Limits(concurrent=True),
            Limits(requests=1, per=0),
            Limits(requests=1, per=float("inf")),
            {"requests": 5},
        ],
    )
    def test_refuses_limits_that_would_let_nothing_through(self, limits: Any) -> None:
        with pytest.raises(ConfigError, match="limits"):
            Config(limits=limits)

    def test_refuses_other_wrong_values(self) -> None:
        with pytest.raises(ConfigError, match="on_unknown must be one of hold, replay, resubmit"):
            Config(on_unknown="retry")
        with pytest.raises(ConfigError, match="allow_private_links must be true or false"):
            Config(allow_private_links="yes")  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="proxy must be an http") as caught:
            Config(proxy="socks5://user:s3cret@host")
        assert "s3cret" not in str(caught.value)

    @pytest.mark.parametrize("choice", ON_UNKNOWN)
    def test_takes_each_answer_to_a_lost_reply(self, choice: str) -> None:
        assert Config(on_unknown=choice).on_unknown == choice


def resolved(
    arguments: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Mapping[str, Any] | None = None,
) -> tuple[Config, dict[str, str]]:
    return resolve(arguments or {}, environ or {}, file or {}, "the file")


class TestResolve:
    def test_without_sources_gives_the_defaults(self) -> None:
        assert resolved() == (Config(), {})

    def test_first_found_wins(self) -> None:
        arguments = {"max_downloads": 1}
        environ = {"WAN_MAX_DOWNLOADS": "2", "WAN_MAX_POLLS_IN_FLIGHT": "2"}
        file = {"max_downloads": 3, "max_polls_in_flight": 3, "connect_attempts": 3}
        config, origin = resolved(arguments, environ, file)
        assert (config.max_downloads, config.max_polls_in_flight, config.connect_attempts) == (1, 2, 3)
        assert origin == {
            "max_downloads": "argument",
            "max_polls_in_flight": "WAN_MAX_POLLS_IN_FLIGHT",
            "connect_attempts": "the file",
        }

    def test_none_and_empty_variables_count_as_not_given(self) -> None:
        assert resolved({"api_key": None, "limits": None}, {"WAN_API_KEY": "", "WAN_PROXY": " "}) == (Config(), {})

    def test_reads_variables_by_their_setting_s_type(self) -> None:
        environ = {
            "WAN_API_KEY": "k",
            "WAN_BASE_URL": " https://host/ ",
            "WAN_CONNECT_TIMEOUT": "2.5",
            "WAN_MAX_DOWNLOADS": "3",
            "WAN_ALLOW_PRIVATE_LINKS": "Yes",
            "WAN_ON_UNKNOWN": "replay",
            "WAN_SOMETHING_ELSE": "whatever",
        }
        config, _ = resolved(environ=environ)
        assert config == Config(
            api_key="k",
            base_url="https://host",
            connect_timeout=2.5,
            max_downloads=3,
            allow_private_links=True,
            on_unknown="replay",
        )

    @pytest.mark.parametrize(
        ("variable", "text", "message"),
        [
            ("WAN_MAX_DOWNLOADS", "many", "WAN_MAX_DOWNLOADS: max_downloads must be a whole number, not 'many'"),
            ("WAN_MAX_DOWNLOADS", "0", "WAN_MAX_DOWNLOADS: max_downloads must be a whole number of at least 1, not 0"),
            ("WAN_CONNECT_TIMEOUT", "5s", "WAN_CONNECT_TIMEOUT: connect_timeout must be a number, not '5s'"),
            ("WAN_ALLOW_PRIVATE_LINKS", "maybe", "WAN_ALLOW_PRIVATE_LINKS: allow_private_links must be true or false"),
            ("WAN_ON_UNKNOWN", "pay", "WAN_ON_UNKNOWN: on_unknown must be one of"),
        ],
    )
    def test_says_which_variable_is_wrong(self, variable: str, text: str, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            resolved(environ={variable: text})
        assert str(caught.value).startswith(message)

    def test_never_shows_a_wrong_key(self) -> None:
        with pytest.raises(ConfigError, match="WAN_API_KEY: api_key must be printable") as caught:
            resolved(environ={"WAN_API_KEY": "s3c ret"})
        assert "s3c" not in str(caught.value)

    def test_says_that_the_file_is_wrong(self) -> None:
        with pytest.raises(ConfigError, match=r"^the file: connect_timeout must be a number above 0, not '5'$"):
            resolved(file={"connect_timeout": "5"})

    def test_refuses_unknown_names_in_the_file(self) -> None:
        with pytest.raises(
            ConfigError, match=r"^the file: no such setting as 'max_download'; did you mean max_downloads"
        ):
            resolved(file={"max_download": 1})
        with pytest.raises(ConfigError, match="no such setting as 'x'; there are api_key, base_url"):
            resolved(file={"x": 1})

    def test_limits_come_from_a_table_of_the_file_or_as_an_argument(self) -> None:
        table = {"limits": {"requests": 60, "per": 30, "concurrent": 5}}
        assert resolved(file=table)[0].limits == Limits(requests=60, per=30, concurrent=5)
        given = Limits(requests=1)
        config, origin = resolved({"limits": given}, file=table)
        assert (config.limits, origin["limits"]) == (given, "argument")

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            (5, "the file: limits must be a table of requests, per, concurrent"),
            ({"request": 5}, "the file: limits: no such setting as 'request'; did you mean requests?"),
            ({"requests": 0}, "the file: limits: requests must be a whole number of at least 1, not 0"),
            ({"requests": "60"}, "the file: limits: requests must be a whole number of at least 1, not '60'"),
        ],
    )
    def test_says_what_is_wrong_with_limits(self, table: Any, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            resolved(file={"limits": table})
        assert str(caught.value) == message

    def test_every_setting_has_a_type_that_a_variable_can_be_read_as(self) -> None:
        samples = {"str": "http://x", "int": "1", "float": "1", "bool": "1"}
        for attribute in attrs.fields(Config):
            kind = str(attribute.type).split(" | ")[0]
            if attribute.name not in ("limits", "on_unknown"):
                config, origin = resolved(environ={f"WAN_{attribute.name.upper()}": samples[kind]})
                assert origin == {attribute.name: f"WAN_{attribute.name.upper()}"}
                assert getattr(config, attribute.name) is not None


class TestUnknownVariables:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("WAN_API_KYE", "WAN_API_KEY"),
            ("WAN_KEY", "WAN_API_KEY"),
            ("WAN_BASEURL", "WAN_BASE_URL"),
            ("WAN_MAX_DOWNLOAD", "WAN_MAX_DOWNLOADS"),
            ("WAN_DATABASE", "WAN_DATABASE_URL"),
            ("WAN_BUDGET", None),
            ("WAN_LIMITS", None),
        ],
    )
    def test_come_with_the_one_that_was_meant(self, name: str, meant: str | None) -> None:
        assert unknown_variables({name: "1", "PATH": "/bin", "WANDERER": "1"}) == {name: meant}

    def test_are_none_of_those_that_are_read(self) -> None:
        names = [f"WAN_{attribute.name.upper()}" for attribute in attrs.fields(Config) if attribute.name != "limits"]
        assert unknown_variables(dict.fromkeys([*names, "WAN_DATABASE_URL"], "1")) == {}
