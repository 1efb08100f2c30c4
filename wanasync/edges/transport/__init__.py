"""The network, for calls to the API and for links to videos. The only home of aiohttp's client.

Two sessions that know nothing of each other: the key goes with calls to the API's base URL and never anywhere else.

For a submission it decides whether money can have been spent: *never sent* (`APIConnectionError`) where the
connection was not made, *maybe sent* (`ReplyLostError`) for all that happens after it. Our own connector draws that
line exactly; in a session that was given to us it is drawn by aiohttp's exception types, and where one can mean both,
it counts as maybe sent.

`transport` sends and streams; `connecting` makes connections, `proxies` says through whom, and `failures` what went
wrong with them.
"""

from wanasync.edges.transport.failures import ReplyLostError
from wanasync.edges.transport.transport import MAX_REDIRECTS, MAX_REPLY, StreamReply, Transport

__all__ = ["MAX_REDIRECTS", "MAX_REPLY", "ReplyLostError", "StreamReply", "Transport"]
