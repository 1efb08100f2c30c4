"""The journal of a batch: what was asked for, paid for and saved, on disk before anything else happens.

A directory holds one journal, `.wanasync/journal.db`, and one process at a time writes it (`.wanasync/lock`); others
may read it meanwhile. What a method has returned is on the disk: committed and synced.

`writer` is the async shell, `store` the database behind it; `opening` makes or finds the database, `schema` says how
records lie in it, and `packing` makes requests small. `planning` matches a list with what is known; `strangers` tells
which files in the directory are none of its videos.
"""

from wanasync.edges.journal.store import CHUNK, FOLDER
from wanasync.edges.journal.strangers import strange_files
from wanasync.edges.journal.writer import Journal

__all__ = ["CHUNK", "FOLDER", "Journal", "strange_files"]
