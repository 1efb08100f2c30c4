-- The money of batches that have a budget or a limit. Whoever submits changes it in the transaction of the claim, under
-- the row's lock, which is taken after those of items. `state` is a program's text: sums, prices, what is on the wire.
CREATE TABLE wanasync.ledger (
    batch integer PRIMARY KEY REFERENCES wanasync.batch ON DELETE CASCADE,
    budget double precision,             -- credits; null for none
    limit_given bigint,                  -- submissions, since it was given
    stopped text,                        -- budget or limit, once it is reached
    state text NOT NULL
) WITH (fillfactor = 30);
