-- The ledgers (one row an accepted event), how far they go, and who may read them.
--
-- Everything else in this database follows from the ledgers and commit_points: each result table
-- has a twin, a query over these tables alone, and `marketday verify` compares the two.
-- The ledgers are only ever appended to, in the transaction that moves the offsets; they have no
-- unique index because the engine never reads one, and each would double the cost of a row.

CREATE TABLE user_events (
    event_id numeric(20) NOT NULL,
    partition bigint NOT NULL,
    "offset" bigint NOT NULL,
    at timestamptz NOT NULL,
    user_id bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    birth_date date NOT NULL,
    sex text COLLATE "C" NOT NULL,
    region text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    marketing_consent boolean NOT NULL,
    signed_up_at timestamptz NOT NULL
);

CREATE TABLE product_events (
    event_id numeric(20) NOT NULL,
    partition bigint NOT NULL,
    "offset" bigint NOT NULL,
    at timestamptz NOT NULL,
    product_id bigint NOT NULL,
    name text COLLATE "C" NOT NULL,
    category text COLLATE "C" NOT NULL,
    price bigint NOT NULL,
    stock bigint NOT NULL,
    listed_at timestamptz NOT NULL
);

-- The lines of an event are packed: element i of the four arrays is line i.
CREATE TABLE order_events (
    event_id numeric(20) NOT NULL,
    partition bigint NOT NULL,
    "offset" bigint NOT NULL,
    at timestamptz NOT NULL,
    event text COLLATE "C" NOT NULL,
    order_id bigint NOT NULL,
    user_id bigint NOT NULL,
    ordered_at timestamptz NOT NULL,
    product_ids bigint[] NOT NULL,
    categories text[] COLLATE "C" NOT NULL,
    quantities bigint[] NOT NULL,
    unit_prices bigint[] NOT NULL
);

CREATE TABLE scenario_events (
    event_id numeric(20) NOT NULL,
    partition bigint NOT NULL,
    "offset" bigint NOT NULL,
    at timestamptz NOT NULL,
    occurrence text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    action text COLLATE "C" NOT NULL,
    strength double precision NOT NULL,
    categories text[] COLLATE "C" NOT NULL
);

-- What could not be an event. `value` is cut at 64 KiB.
CREATE TABLE dead_letters (
    topic text COLLATE "C" NOT NULL,
    partition bigint NOT NULL,
    "offset" bigint NOT NULL,
    at timestamptz NOT NULL,
    reason text COLLATE "C" NOT NULL,
    key bytea,
    value bytea
);

-- One line an event line.
CREATE VIEW order_lines AS
SELECT event_id, at, event, order_id, user_id, ordered_at, product_id, category, quantity, unit_price,
       quantity * unit_price AS amount
FROM order_events,
     unnest(product_ids, categories, quantities, unit_prices)
         AS line (product_id, category, quantity, unit_price);

-- The goods of each order as it was placed.
CREATE VIEW order_items AS
SELECT order_id, product_id, category, quantity, unit_price, amount
FROM order_lines WHERE event = 'placed';

-- Each placed order and how it stands now.
CREATE VIEW orders AS
SELECT order_id, user_id, ordered_at, amount,
       coalesce(refunded_amount, 0) AS refunded_amount,
       CASE WHEN cancelled_at IS NOT NULL THEN 'cancelled'
            WHEN refunded_amount >= amount THEN 'refunded'
            WHEN refunded_amount > 0 THEN 'partly refunded'
            ELSE 'placed' END AS status,
       cancelled_at
FROM (SELECT order_id, user_id, ordered_at, sum(amount)::bigint AS amount
      FROM order_lines WHERE event = 'placed' GROUP BY order_id, user_id, ordered_at) AS placed
LEFT JOIN (SELECT order_id, at AS cancelled_at FROM order_events WHERE event = 'cancelled') AS cancelled
    USING (order_id)
LEFT JOIN (SELECT order_id, sum(amount)::bigint AS refunded_amount
           FROM order_lines WHERE event = 'refunded' GROUP BY order_id) AS refunded
    USING (order_id);

-- Who writes, and up to where. One row; the generation fences off an older engine.
CREATE TABLE progress (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    generation bigint NOT NULL,
    epoch bigint NOT NULL,
    now timestamptz,
    log_identity text
);
INSERT INTO progress (generation, epoch) VALUES (0, 0);

-- The committed offset of each partition, and what became of the records before it.
CREATE TABLE commit_offsets (
    topic text COLLATE "C" NOT NULL,
    partition bigint NOT NULL,
    next_offset bigint NOT NULL,
    newest_at timestamptz,           -- newest at read, heartbeats included; orders only
    counted bigint NOT NULL,
    duplicate bigint NOT NULL,
    dead bigint NOT NULL,
    heartbeat bigint NOT NULL,
    amount bigint NOT NULL,          -- sum of the counted orders' amounts, mod 2^64
    hash bigint NOT NULL,            -- sum of the counted values' XXH3 (64 bit), mod 2^64
    PRIMARY KEY (topic, partition)
);

-- The commit points: all of the last hour, then one a minute.
CREATE TABLE commit_points (
    epoch bigint PRIMARY KEY,
    now timestamptz,
    offsets jsonb NOT NULL,          -- {"orders": [12, 15, 11], ...}
    counted bigint NOT NULL,         -- events counted in all partitions
    checksum bigint NOT NULL,        -- sum of the partitions' hashes, mod 2^64
    committed_at timestamptz NOT NULL
);

-- How far the engine is, by the wall clock: written outside the commits, so that a stall shows.
CREATE TABLE pipeline_status (
    topic text COLLATE "C" NOT NULL,
    partition bigint NOT NULL,
    read bigint NOT NULL,
    committed bigint NOT NULL,
    log_end bigint NOT NULL,
    lag bigint NOT NULL,
    memory_bytes bigint NOT NULL,    -- resident, of the process that reads the partition
    written_at timestamptz NOT NULL,
    PRIMARY KEY (topic, partition)
);

-- The twins run as a role that sees nothing but the ledgers and the commit points, so that no
-- twin can read a result.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'marketday_twin') THEN
        CREATE ROLE marketday_twin NOLOGIN;
        GRANT marketday_twin TO CURRENT_USER; -- who made a role may not yet act as it
    END IF;
END $$;
GRANT SELECT ON user_events, product_events, order_events, scenario_events, order_lines, commit_points
    TO marketday_twin;
