"""Which proxy serves which address."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

from attrs import frozen
from yarl import URL

from wanasync.errors import ConfigError
from wanasync.rules.links import LinkRule, link_problem

__all__ = ["Proxies"]


@frozen
class Proxies:
    """Which proxy serves which address; read once, since looking at the environment costs more than a request."""

    fixed: str | None
    by_scheme: Mapping[str, str]

    @classmethod
    def read(cls, fixed: str | None) -> Proxies:
        """`fixed` is for every connection; without it, the environment's or the system's proxies."""
        proxies = cls(fixed, {} if fixed else urllib.request.getproxies())
        if fixed:
            _check_proxy(fixed)
        return proxies

    def proxy_for(self, url: URL) -> str | None:
        if self.fixed:
            return self.fixed
        proxy = self.by_scheme.get(url.scheme) or self.by_scheme.get("all")
        if not proxy or not url.host or self._is_bypassed(url.host):
            return None
        return _check_proxy(proxy if "://" in proxy else f"http://{proxy}")

    def _is_bypassed(self, host: str) -> bool:
        """Loopback always is: a proxy's loopback is another machine's, so it can't be meant."""
        if link_problem("http", host, has_user_info=False, rule=LinkRule(loopback=True)) is None:
            return True
        if "no" in self.by_scheme:
            return bool(urllib.request.proxy_bypass_environment(host, self.by_scheme))  # type: ignore[attr-defined]
        return bool(urllib.request.proxy_bypass(host))

    def hosts(self) -> frozenset[str]:
        proxies = [self.fixed] if self.fixed else self.by_scheme.values()
        return frozenset(urlsplit(proxy if "://" in proxy else f"//{proxy}").hostname or "" for proxy in proxies)


def _check_proxy(proxy: str) -> str:
    parts = urlsplit(proxy)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # Not shown whole: it may hold a password.
        raise ConfigError(
            f"the proxy at {parts.hostname or 'an unreadable address'} is of kind {parts.scheme or '?'}; "
            "only http and https proxies can be used (set proxy= or WAN_PROXY)",
            "proxy",
        )
    return proxy
