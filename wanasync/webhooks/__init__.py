"""Receiving the provider's callbacks, inside whatever web application is there.

>>> from wanasync.webhooks import CallbackReceiver
>>> receiver = CallbackReceiver(public_url="https://app.example.com/hooks/wan", secret=SECRET)  # doctest: +SKIP
>>> wan = WanSession(callbacks=receiver)  # doctest: +SKIP

Starlette, FastAPI: ``app.add_route("/hooks/wan/{token}", receiver, methods=["POST"])``; aiohttp.web:
``app.router.add_post("/hooks/wan/{token}", receiver.aiohttp)``; anything else: ``await receiver.handle(…)``.
"""

from wanasync.webhooks.mailbox import FileMailbox, LocalMailbox, Mailbox
from wanasync.webhooks.receiver import CallbackReceiver, ReceiverStatistics

__all__ = ["CallbackReceiver", "FileMailbox", "LocalMailbox", "Mailbox", "ReceiverStatistics"]
