-- The pace that all processes with the same key share. `state` is a program's text, changed under the row's lock only;
-- `version` says which programs can read it, and `learned` is what another one can start from.
CREATE TABLE wanasync.pace (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    base_url text NOT NULL,
    key_hash bytea NOT NULL,             -- tells keys apart, and nothing else of them
    created_at timestamptz NOT NULL DEFAULT now(),  -- the state's times are seconds since then, by this server's clock
    version integer NOT NULL DEFAULT 0,
    state text NOT NULL DEFAULT '',
    learned text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (base_url, key_hash)
) WITH (fillfactor = 30);

-- Tasks that have not ended, for a quota of them: hashes of their ids.
CREATE TABLE wanasync.pace_task (
    pace integer NOT NULL REFERENCES wanasync.pace ON DELETE CASCADE,
    task bigint NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (pace, task)
);
