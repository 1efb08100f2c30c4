"""Links to finished videos: which may be followed, what their replies mean, and how a cut download goes on.

A link comes from a reply, so it is a stranger's: it must be https and lead to a public address unless the user
allows otherwise. What it answers once it has died is not documented (the provider only says that it lives for 24
hours), so everything that speaks against the link itself counts as a dead link, for which a fresh one is asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from urllib.parse import parse_qs, urlsplit

from attrs import asdict, evolve, frozen

from wanasync.config import is_loopback
from wanasync.rules.addresses import host_problem, is_public
from wanasync.rules.hints import retry_after

__all__ = [
    "Again",
    "Begin",
    "DeadLink",
    "Finished",
    "LinkRule",
    "PartRecord",
    "Resume",
    "Trouble",
    "Verdict",
    "address_problem",
    "death_of",
    "identity",
    "judge",
    "link_problem",
    "part_from_json",
    "part_to_json",
    "range_headers",
    "remember",
    "rule_for",
    "shown",
]


@frozen
class LinkRule:
    """Which links may be followed. Loopback is the emulator's case, private the user's own decision."""

    loopback: bool = False
    private: bool = False


def rule_for(base_url: str, allow_private_links: bool | None) -> LinkRule:
    """The rule of a session: `allow_private_links` decides; None allows loopback to a base URL on loopback."""
    if allow_private_links is not None:
        return LinkRule(loopback=allow_private_links, private=allow_private_links)
    return LinkRule(loopback=is_loopback(urlsplit(base_url).hostname or ""))


def link_problem(scheme: str, host: str | None, has_user_info: bool, rule: LinkRule) -> str | None:
    """What speaks against following a link, as the rest of a sentence; None where nothing does.

    The parts are those the HTTP client will use: a second parser could read another host out of the same text.
    """
    if scheme not in ("http", "https") or not host:
        return "is not an https address"
    if has_user_info:
        return "holds a user name or password"
    if rule.private or (rule.loopback and is_loopback(host)):
        return None
    if scheme != "https":
        return "is not https"
    return host_problem(host)


def address_problem(address: str, rule: LinkRule) -> str | None:
    """The same for one address that a link's host resolved to: a public name may point into the caller's network."""
    if rule.private or (rule.loopback and is_loopback(address)):
        return None
    try:
        public = is_public(ip_address(address.partition("%")[0]))
    except ValueError:
        public = False
    return None if public else "leads to an internal address"


def shown(url: str) -> str:
    """A link as it may be logged and shown: without its query, which usually holds the signature, and on one line."""
    text = "".join(sign if sign.isprintable() else "?" for sign in _bare(url)[: _LONGEST_SHOWN + 1])
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


_LONGEST_SHOWN = 300


def _bare(url: str) -> str:
    return url.partition("#")[0].partition("?")[0]


def identity(url: str) -> str:
    """What stays the same when a link is signed anew."""
    return _bare(url)


_EXPIRES = re.compile(r"\d{9,11}", re.ASCII)
_LIFETIME = re.compile(r"\d{1,7}", re.ASCII)
_SIGNED = (("x-amz-date", "x-amz-expires"), ("x-oss-date", "x-oss-expires"), ("x-goog-date", "x-goog-expires"))


def death_of(link: str) -> float | None:
    """When a signed link says that it dies, in unix seconds; None where it does not say.

    Reads the query parameters of S3, OSS and Google Cloud Storage, of which there are two generations: `Expires` as
    a unix time, and a date with a lifetime. A hint to order downloads by, never a reason to give one up.
    """
    try:
        query = {name.lower(): values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    except ValueError:
        return None
    if _EXPIRES.fullmatch(query.get("expires", "")):
        return float(query["expires"])
    for date, lifetime in _SIGNED:
        if _LIFETIME.fullmatch(query.get(lifetime, "")):
            signed_at = _basic_date(query.get(date, ""))
            return None if signed_at is None else signed_at + float(query[lifetime])
    return None


def _basic_date(text: str) -> float | None:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


# --- going on with a part of a file ---------------------------------------------------------------------------------


@frozen
class PartRecord:
    """What is kept beside a part so that it can be finished, by a later run too.

    `identity` is the link without its signature; `total` the whole file's size; `boot` names the run of the
    operating system that wrote the part: after a power cut a file can be long enough and yet hold zeros.
    """

    task_id: str
    identity: str
    boot: str = ""
    etag: str | None = None
    last_modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """What `If-Range` takes: without one the bytes of two files could be joined unnoticed."""
        return self.etag or self.last_modified

    def belongs_to(self, wanted: PartRecord) -> bool:
        """Whether this part is one of the file that `wanted` describes, whose validators are not known yet.

        A strong ETag names the bytes wherever they are; a date says nothing about another path.
        """
        same_place = self.identity == wanted.identity or self.etag is not None
        return self.task_id == wanted.task_id and self.boot == wanted.boot and same_place

    def usable(self, size: int) -> int:
        """How many bytes of a part of `size` bytes are worth keeping: all of them or none."""
        if self.total is not None and size >= self.total:
            return size if size == self.total else 0
        return size if self.validator else 0


def part_to_json(record: PartRecord) -> str:
    return json.dumps(asdict(record))


def part_from_json(text: str | bytes) -> PartRecord | None:
    """The record, or None where the text is torn, foreign or of another version: such a part starts anew."""
    try:
        values = json.loads(text)
        total = values.pop("total", None)
        sound = all(value is None or (isinstance(value, str) and value.isprintable()) for value in values.values())
        if not sound or not isinstance(total, int | None):
            return None
        return PartRecord(**values, total=total)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def remember(wanted: PartRecord, headers: Mapping[str, str], total: int | None) -> PartRecord:
    """The record of a download whose reply has begun. `headers` have lower-case keys.

    A weak ETag promises the same meaning, not the same bytes (RFC 9110, 8.8.1), and is left out.
    """
    etag = headers.get("etag", "")
    return evolve(
        wanted,
        etag=etag if etag.startswith('"') else None,
        last_modified=headers.get("last-modified"),
        total=total,
    )


def range_headers(record: PartRecord, size: int) -> dict[str, str]:
    """The headers that ask for the rest of a part of `size` bytes; `{}` where the whole is wanted."""
    if not size or record.validator is None:
        return {}
    return {"Range": f"bytes={size}-", "If-Range": record.validator}


# --- what a link's reply means --------------------------------------------------------------------------------------


@frozen
class Begin:
    """The whole file follows, `total` bytes of it where that is known; an earlier part is void."""

    total: int | None


@frozen
class Resume:
    """The rest follows; `total` is the whole file's size."""

    total: int


@frozen
class Finished:
    """The part is the whole file already."""


@frozen
class Again:
    """The part can't be gone on with: ask once more, for the whole file."""


@frozen
class DeadLink:
    """This link gives no video any more; another one might."""

    reason: str


@frozen
class Trouble:
    """Nothing is known against the link: try it again, after `retry_after` seconds where the host said so."""

    reason: str
    retry_after: float | None = None


Verdict = Begin | Resume | Finished | Again | DeadLink | Trouble

_TRANSIENT = frozenset({408, 421, 425, 429})
_CONTENT_RANGE = re.compile(r"bytes (?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)", re.ASCII)


def judge(status: int, headers: Mapping[str, str], record: PartRecord, size: int, *, now: float) -> Verdict:
    """What to do with a link's reply, from its status and headers (lower-case keys).

    `size` bytes of a part had been offered for resumption, 0 where the whole file was asked for. `now` is unix time.
    """
    if status in (200, 206) and headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        return Trouble(f"it answered with Content-Encoding {headers['content-encoding']}, which was not asked for")
    if status == 200:
        return Begin(_content_length(headers))
    if status == 206:
        return _judge_partial(headers, record, size)
    if status == 416:
        return _judge_unsatisfiable(headers, size)
    if status in _TRANSIENT or status >= 500:
        return Trouble(f"HTTP {status}", retry_after(headers, (), now=now))
    return DeadLink(f"HTTP {status}")


def _content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _judge_partial(headers: Mapping[str, str], record: PartRecord, size: int) -> Verdict:
    if not size:
        return Trouble("it answered with a part of the file, though the whole was asked for")
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if match is None or match[1] is None or match[3] == "*":
        return Again()
    first, last, total = int(match[1]), int(match[2]), int(match[3])
    fits = first == size and last == total - 1 and record.total in (None, total)
    changed = record.etag is not None and headers.get("etag", record.etag) != record.etag
    return Resume(total) if fits and not changed else Again()


def _judge_unsatisfiable(headers: Mapping[str, str], size: int) -> Verdict:
    """416 tells that there is nothing behind the part: finished, if the file is just as long as the part."""
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if not size:
        return Trouble("HTTP 416, though the whole file was asked for")
    return Finished() if match and match[1] is None and match[3] == str(size) else Again()
