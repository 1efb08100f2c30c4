"""The API over HTTP: authenticate, serve, and let trouble have its way."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from aiohttp import web
from attrs import frozen

from wanasync.emulator.clock import Clock
from wanasync.emulator.ledger import Ledger
from wanasync.emulator.mischief import GONE, damage, json_reply, refuse, strike
from wanasync.emulator.provider import Answer, Provider
from wanasync.emulator.refusals import Refusal
from wanasync.emulator.settings import Settings
from wanasync.emulator.trouble import Fault

__all__ = ["BASE_PATH", "Api"]

BASE_PATH = "/apiv1"
"""As the provider's: a client that drops the path of its base URL finds nothing."""

MAX_BODY = 1024 * 1024

Serve: TypeAlias = Callable[[web.Request], Awaitable[Answer]]
Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@frozen(eq=False)
class Api:
    """The five endpoints, as one aiohttp application."""

    settings: Settings
    provider: Provider
    clock: Clock
    ledger: Ledger

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._speak_json])
        route = app.router.add_route
        route("POST", f"{BASE_PATH}/v1/videos/generations", self._endpoint("submit", self._submit))
        if self.settings.batch_query:
            route("POST", f"{BASE_PATH}/v1/tasks/batch", self._endpoint("batch", self._batch))
        if self.settings.task_list:
            route("GET", f"{BASE_PATH}/v1/tasks", self._endpoint("list", self._list))
        route("GET", f"{BASE_PATH}/v1/tasks/{{task_id}}", self._endpoint("query", self._query))
        route("GET", f"{BASE_PATH}/v1/credits", self._endpoint("credits", self._credits))
        return app

    # --- endpoints

    async def _submit(self, request: web.Request) -> Answer:
        body, wish = self.provider.check(await _json_body(request))
        key = request.headers.get("Idempotency-Key")
        replay = self.provider.claim(key, body)
        if replay is not None:
            self.ledger.replays += 1
            return replay
        try:
            await self.clock.sleep(self.settings.latency)
            return self.provider.submit(body, wish, key)
        except BaseException:
            self.provider.unclaim(key)
            raise

    async def _query(self, request: web.Request) -> Answer:
        return self.provider.query(request.match_info["task_id"])

    async def _batch(self, request: web.Request) -> Answer:
        return self.provider.batch(await _json_body(request))

    async def _list(self, request: web.Request) -> Answer:
        return self.provider.tasks(request.query)

    async def _credits(self, _: web.Request) -> Answer:
        return self.provider.credits()

    # --- around each of them

    def _endpoint(self, kind: str, serve: Serve) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            fault = self.provider.dice.draw(kind)
            reply, task_id = await self._reply(request, serve, fault)
            status = None if reply.status == GONE else reply.status
            self.ledger.note(kind, status, task_id=task_id, fault=fault.name if fault else None)
            return reply

        return handle

    async def _reply(
        self, request: web.Request, serve: Serve, fault: Fault | None
    ) -> tuple[web.StreamResponse, str | None]:
        if fault is not None and not fault.processed:
            return await strike(request, fault, self.settings, self.clock), None
        try:
            self._authenticate(request)
            answer = await serve(request)
        except Refusal as refusal:
            reply, task_id = refuse(refusal, self.settings), None
        else:
            reply, task_id = json_reply(answer.body, answer.status, answer.headers), answer.task_id
        if fault is None:
            return reply, task_id
        return await self._hide(request, reply, fault), task_id

    async def _hide(self, request: web.Request, reply: web.Response, fault: Fault) -> web.StreamResponse:
        if fault.is_damage:
            return await damage(request, reply, fault, self.clock)
        return await strike(request, fault, self.settings, self.clock)

    def _authenticate(self, request: web.Request) -> None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        given, asked = key.strip().encode(), self.settings.api_key.encode()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, asked):
            raise Refusal("unauthorized")

    @web.middleware
    async def _speak_json(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Say in JSON what aiohttp would say in text: no such endpoint, wrong method."""
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as error:
            self.ledger.note("other", 405)
            return refuse(Refusal("wrong_method", headers={"Allow": error.headers["Allow"]}), self.settings)
        except web.HTTPNotFound:
            self.ledger.note("other", 404)
            return refuse(Refusal("no_endpoint"), self.settings)


async def _json_body(request: web.Request) -> bytes:
    if request.content_type != "application/json":
        raise Refusal("bad_request", "Invalid request format: Content-Type must be application/json")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge as error:
        raise Refusal("too_large") from error
