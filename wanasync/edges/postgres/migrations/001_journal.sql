-- The journals of batches. Times are unix seconds by the client's clock, as in a record; only what is compared between
-- processes (claimed_at, seen_at) is by the server's.

-- For readers of the tables; the codes are the program's, and never change.
CREATE TABLE wanasync.state (code smallint PRIMARY KEY, name text NOT NULL);
INSERT INTO wanasync.state VALUES
    (0, 'planned'), (1, 'submitting'), (2, 'accepted'), (3, 'ready'), (4, 'saved'),
    (5, 'failed'), (6, 'rejected'), (7, 'unknown'), (8, 'expired'), (9, 'resubmitting');

CREATE TABLE wanasync.batch (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    journal_id text NOT NULL UNIQUE,     -- part of each idempotency key: never to change
    last_seq bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE wanasync.meta (
    batch integer NOT NULL REFERENCES wanasync.batch ON DELETE CASCADE,
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (batch, name)
);

-- What never changes and is long; kept apart from what changes often and is short. The tables with a row for each item
-- refer to no other: a million checks of the same batch would take as long as the rows themselves.
CREATE TABLE wanasync.item (
    batch integer NOT NULL,
    seq bigint NOT NULL,
    key bigint NOT NULL,
    idx bigint NOT NULL,                 -- place in the list, from 0
    item_id text,
    request text NOT NULL,               -- canonical JSON
    file text NOT NULL,                  -- relative to the batch's output
    PRIMARY KEY (batch, seq),
    UNIQUE (batch, key)
);

-- Of item.file, folded: a file is one item's.
CREATE TABLE wanasync.name (
    batch integer NOT NULL,
    hash bigint NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (batch, hash)
);

-- The free space lets an update stay on its page, beside the row it replaces.
CREATE TABLE wanasync.progress (
    batch integer NOT NULL,
    seq bigint NOT NULL,
    state smallint NOT NULL,
    attempt integer NOT NULL,
    owner uuid,                          -- the writer whose claim it is
    claim uuid,                          -- of the latest submission
    claimed_at timestamptz,
    task_id text,
    submitted_at double precision,
    estimated_time double precision,
    credits_reserved double precision,
    credits_used double precision,
    links text,                          -- JSON array
    link_deadline double precision,
    bytes bigint,
    sha256 bytea,
    error_code text,
    error_message text,
    updated_at double precision,
    PRIMARY KEY (batch, seq)
) WITH (fillfactor = 70);

-- Of what is or may be under way at the provider: few rows, asked for at each start and each rescue.
CREATE INDEX progress_live ON wanasync.progress (batch, state, seq) WHERE state IN (1, 2, 3, 7, 9);

-- Tasks that an item had beside its present one.
CREATE TABLE wanasync.attempt (
    batch integer NOT NULL,
    seq bigint NOT NULL,
    attempt integer NOT NULL,
    task_id text NOT NULL,
    submitted_at double precision,
    error_code text,
    error_message text,
    ended_at double precision,
    PRIMARY KEY (batch, seq, attempt, task_id)
);

-- Open journals. `commits` tells a writer that lost its connection whether its last commit took place.
CREATE TABLE wanasync.writer (
    id uuid PRIMARY KEY,
    batch integer NOT NULL REFERENCES wanasync.batch ON DELETE CASCADE,
    name text NOT NULL,
    pid integer NOT NULL,
    commits bigint NOT NULL DEFAULT 0,
    seen_at timestamptz NOT NULL DEFAULT now()
);
