-- Which transaction wrote the row last: what a reader has seen is told by that, since the clocks of machines differ.
ALTER TABLE wanasync.progress ADD COLUMN tx xid8 NOT NULL DEFAULT pg_current_xact_id();
