"""The journal of a batch in PostgreSQL, for many processes. The only home of psycopg (extra `wanasync[cluster]`).

`database` is the connections that all share, `migrations` the schema; `journal` is the journal as coroutines see it,
over `holding` (which batch, and who works on it), `writer` (many ask at once, one transaction answers), `planner` and
`facts` (matching a list with what is known) and `rows` (how records lie in the tables). `pace` is the limit that
processes share.
"""

from wanasync.edges.postgres.database import Database
from wanasync.edges.postgres.holding import is_known, under_way
from wanasync.edges.postgres.journal import Journal
from wanasync.edges.postgres.migrations import migrate
from wanasync.edges.postgres.pace import PaceRow

__all__ = ["Database", "Journal", "PaceRow", "is_known", "migrate", "under_way"]
