-- What the analytics wait for that is not theirs, while they do: each process tells it every second, by
-- the wall clock and outside the commits.
CREATE TABLE waits (
    process bigint NOT NULL,         -- who tells it, of several processes
    what text COLLATE "C" NOT NULL,  -- 'transaction', 'partition', 'brokers' or 'lock'
    place text COLLATE "C" NOT NULL, -- the partition, as 'orders-1', or nothing
    since timestamptz NOT NULL,
    "offset" bigint,                 -- from where on the partition cannot be read
    records bigint,                  -- offsets of the log from there to its end
    told text COLLATE "C",           -- who holds the lock, what the client of the brokers says
    written_at timestamptz NOT NULL,
    PRIMARY KEY (process, what, place)
);

-- Those that last: what is not told again is over, or nobody is there any more to tell.
CREATE VIEW current_waits AS
SELECT what, place, min(since) AS since, max("offset") AS "offset", max(records) AS records, max(told) AS told
FROM waits
WHERE written_at > clock_timestamp() - interval '10 s'
GROUP BY what, place;

-- Up to which market time the partitions of orders have been read, as committed, and what that means for
-- `now`: it waits for the least, and leaves out who has reached none or is more than a day behind the
-- furthest (`dataflows/operators/now.rs`). A market's heartbeats keep them within ten minutes.
CREATE VIEW times_reached AS
SELECT partition, reached_at, furthest - reached_at AS behind,
       CASE WHEN reached_at IS NULL OR left_out THEN 'left out'
            WHEN furthest - reached_at > interval '15 min'
                 AND reached_at = min(reached_at) FILTER (WHERE NOT left_out) OVER () THEN 'holds back'
            ELSE '' END AS part
FROM (SELECT partition, reached_at, furthest, furthest - reached_at > interval '1 day' AS left_out
      FROM (SELECT partition, reached_at, max(reached_at) OVER () AS furthest
            FROM commit_offsets
            -- Where nothing was ever read nobody is left out.
            WHERE topic = 'orders' AND next_offset > 0) AS reached) AS times;
