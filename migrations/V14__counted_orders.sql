-- Which order events count. Of several placed (or cancelled) events of one order, named by user_id and
-- order_id together, the earliest; the others stay in the ledger and count nowhere.

-- The ledger without them.
CREATE VIEW counted_order_events AS
SELECT event_id, partition, "offset", at, event, order_id, user_id, ordered_at,
       product_ids, categories, quantities, unit_prices
FROM order_events AS e
WHERE NOT EXISTS (SELECT FROM order_events AS earlier
                  WHERE earlier.user_id = e.user_id
                    AND earlier.order_id = e.order_id
                    AND earlier.event = e.event
                    AND earlier.event <> 'refunded'
                    AND (earlier.at, earlier.event_id) < (e.at, e.event_id));

CREATE OR REPLACE VIEW order_lines AS
SELECT event_id, at, event, order_id, user_id, ordered_at, product_id, category, quantity, unit_price,
       quantity * unit_price AS amount
FROM counted_order_events,
     unnest(product_ids, categories, quantities, unit_prices)
         AS line (product_id, category, quantity, unit_price);

DROP VIEW order_items;
CREATE VIEW order_items AS
SELECT user_id, order_id, product_id, category, quantity, unit_price, amount
FROM order_lines WHERE event = 'placed';

CREATE OR REPLACE VIEW orders AS
SELECT order_id, user_id, ordered_at, amount,
       coalesce(refunded_amount, 0) AS refunded_amount,
       CASE WHEN cancelled_at IS NOT NULL THEN 'cancelled'
            WHEN refunded_amount >= amount THEN 'refunded'
            WHEN refunded_amount > 0 THEN 'partly refunded'
            ELSE 'placed' END AS status,
       cancelled_at
FROM (SELECT user_id, order_id, ordered_at, sum(amount)::bigint AS amount
      FROM order_lines WHERE event = 'placed' GROUP BY user_id, order_id, ordered_at) AS placed
LEFT JOIN (SELECT user_id, order_id, at AS cancelled_at
           FROM counted_order_events WHERE event = 'cancelled') AS cancelled
    USING (user_id, order_id)
LEFT JOIN (SELECT user_id, order_id, sum(amount)::bigint AS refunded_amount
           FROM order_lines WHERE event = 'refunded' GROUP BY user_id, order_id) AS refunded
    USING (user_id, order_id);

-- As V13 has it, but an order that was placed twice stands here once; unless the two arrived so far
-- apart that the pages do not hold both: to look for the other would mean to read the whole ledger.
CREATE OR REPLACE VIEW newest_orders AS
SELECT order_id, user_id, ordered_at,
       (SELECT sum(quantity * unit_price)
        FROM unnest(quantities, unit_prices) AS line (quantity, unit_price))::bigint AS amount,
       cardinality(product_ids)::bigint AS lines,
       (SELECT string_agg(DISTINCT category, ', ' ORDER BY category)
        FROM unnest(categories) AS category) AS categories
FROM (SELECT DISTINCT ON (user_id, order_id) *
      FROM order_events
      WHERE event = 'placed'
        AND ctid >= (SELECT format('(%s,0)', greatest(pages - 128, 0))::tid
                     FROM (SELECT pg_relation_size('order_events')
                                  / current_setting('block_size')::bigint AS pages) AS ledger)
        AND ctid <= '(4294967295,0)'
      ORDER BY user_id, order_id, at, event_id) AS placed
ORDER BY ordered_at DESC, order_id DESC;

GRANT SELECT ON counted_order_events, order_lines TO marketday_twin;
GRANT SELECT ON counted_order_events, order_lines, order_items, orders, newest_orders
    TO marketday_reader;

-- How far the times of a partition of orders went by its offset; `newest_at` stays the newest read.
ALTER TABLE commit_offsets
    ADD COLUMN newest_by bigint,     -- the customer whose newest_at is; null for a heartbeat
    ADD COLUMN newest_offset bigint, -- the record that says it first
    ADD COLUMN other_at timestamptz, -- newest at of another customer; each heartbeat is one
    ADD COLUMN reached_at timestamptz, -- the time reached: it never goes back
    ADD COLUMN rules_from bigint NOT NULL DEFAULT 0; -- records before it were counted by older rules

ALTER TABLE progress
    ADD COLUMN rules bigint NOT NULL DEFAULT 1, -- the number of those by which the store was counted
    ADD COLUMN latest timestamptz;   -- no record beyond it moves now
