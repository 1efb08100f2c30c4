-- What running batches tell now and then of their pace: for those who look on, and for nobody else.
CREATE TABLE wanasync.pace_sample (
    batch integer NOT NULL REFERENCES wanasync.batch ON DELETE CASCADE,
    at double precision NOT NULL,        -- unix seconds, as run and paused_until
    run double precision NOT NULL,       -- when the run began
    accepted bigint NOT NULL,
    refused bigint NOT NULL,
    unknown bigint NOT NULL,
    saved bigint NOT NULL,
    following bigint NOT NULL,
    saving bigint NOT NULL,
    paused_until double precision,
    why text NOT NULL,
    requests bigint,
    per double precision,
    concurrent bigint,
    credits_reserved double precision NOT NULL,
    credits_used double precision NOT NULL,
    PRIMARY KEY (batch, at, run)
);
