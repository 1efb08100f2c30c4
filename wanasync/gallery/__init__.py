"""The page of a batch: `wanasync report` writes it beside the videos, `wanasync gallery` serves it while a run goes on.

>>> from wanasync.gallery import Gallery, write_report
>>> path = await write_report("videos/")                 # doctest: +SKIP
>>> async with Gallery("videos/") as gallery:            # doctest: +SKIP
...     print(gallery.url)
"""

from __future__ import annotations

from wanasync.gallery.report import write_report
from wanasync.gallery.server import Gallery
from wanasync.gallery.source import Source

__all__ = ["Gallery", "Source", "write_report"]
