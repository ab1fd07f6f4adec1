-- For those who look on: how long a commit takes, Kafka's brokers, the newest orders, and what
-- changes in a table from commit point to commit point.

-- When the transaction of a commit point began; up to committed_at it took.
ALTER TABLE commit_points ADD COLUMN began_at timestamptz;

-- Kafka's brokers, as who reads the log sees them; none with the embedded log.
CREATE TABLE broker_status (
    broker bigint PRIMARY KEY,
    partitions bigint NOT NULL,      -- of which it keeps a copy
    in_sync bigint NOT NULL,         -- copies in sync among them; 0 where the broker is gone
    written_at timestamptz NOT NULL
);

-- The newest orders in the order of their arrival: the ledger only grows, so they are in its last
-- pages, of which 128 are read (about 3,500 orders). An order that arrived late stands at its own time.
-- The upper bound lets the planner see a short range; without it, it reads the whole ledger.
CREATE VIEW newest_orders AS
SELECT order_id, user_id, ordered_at,
       (SELECT sum(quantity * unit_price)
        FROM unnest(quantities, unit_prices) AS line (quantity, unit_price))::bigint AS amount,
       cardinality(product_ids)::bigint AS lines,
       (SELECT string_agg(DISTINCT category, ', ' ORDER BY category)
        FROM unnest(categories) AS category) AS categories
FROM order_events
WHERE event = 'placed'
  AND ctid >= (SELECT format('(%s,0)', greatest(pages - 128, 0))::tid
               FROM (SELECT pg_relation_size('order_events')
                            / current_setting('block_size')::bigint AS pages) AS ledger)
  AND ctid <= '(4294967295,0)'
ORDER BY ordered_at DESC, order_id DESC;

-- Whose changes are kept: those of the commit points after `since`.
CREATE TABLE followed_tables (
    table_name text COLLATE "C" PRIMARY KEY,
    since bigint NOT NULL,
    until timestamptz NOT NULL       -- nobody may follow any more after that
);

-- What changed in them.
CREATE TABLE table_changes (
    epoch bigint NOT NULL,
    table_name text COLLATE "C" NOT NULL,
    change text COLLATE "C" NOT NULL, -- insert, update or delete
    "row" json NOT NULL              -- as it is now; as it was, where it is deleted
);
CREATE INDEX table_changes_by_epoch ON table_changes (table_name, epoch);

-- The engine's own.
REVOKE SELECT ON followed_tables, table_changes FROM marketday_reader;

-- Who made a role may not yet act as it, as the web page does when it reads.
DO $$
BEGIN
    GRANT marketday_reader TO CURRENT_USER;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'for the web page, have somebody run: GRANT marketday_reader TO %', CURRENT_USER;
END $$;
