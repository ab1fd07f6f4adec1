-- The checkpoints that a start may go on from: see docs/operate.md. A line is the last that is written of one;
-- an engine of another form takes the others' away.
CREATE TABLE checkpoints (
    worker bigint NOT NULL,
    workers bigint NOT NULL,
    epoch bigint NOT NULL,           -- of the commit point that it is of
    form text COLLATE "C" NOT NULL,  -- which code wrote it, and for which tables
    bytes bigint NOT NULL,           -- all files of the worker
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (worker, epoch)
);

REVOKE SELECT ON checkpoints FROM marketday_reader;

-- By these a start finds what was counted since, without reading the rest.
CREATE INDEX user_events_by_offset ON user_events USING brin ("offset") WITH (autosummarize = on);
CREATE INDEX product_events_by_offset ON product_events USING brin ("offset") WITH (autosummarize = on);
CREATE INDEX order_ledger_by_offset ON order_ledger USING brin ("offset") WITH (autosummarize = on);
