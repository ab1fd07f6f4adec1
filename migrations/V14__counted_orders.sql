-- An order is named by customer and number. Of several placed (or cancelled) events of one order the
-- earliest counts, whatever came first; the others stay in the ledger.

DROP VIEW orders, order_items, order_lines;

-- The ledger of order events without those that an earlier one of their order supersedes: what every
-- result counts.
CREATE VIEW counted_order_events AS
SELECT * FROM order_events AS event
WHERE event.event = 'refunded'
   OR NOT EXISTS (SELECT FROM order_events AS earlier
                  WHERE (earlier.user_id, earlier.order_id, earlier.event)
                            = (event.user_id, event.order_id, event.event)
                    AND (earlier.at, earlier.event_id) < (event.at, event.event_id));

-- One line an event line.
CREATE VIEW order_lines AS
SELECT event_id, at, event, order_id, user_id, ordered_at, product_id, category, quantity, unit_price,
       quantity * unit_price AS amount
FROM counted_order_events,
     unnest(product_ids, categories, quantities, unit_prices)
         AS line (product_id, category, quantity, unit_price);

-- The goods of each order as it was placed.
CREATE VIEW order_items AS
SELECT user_id, order_id, product_id, category, quantity, unit_price, amount
FROM order_lines WHERE event = 'placed';

-- Each placed order and how it stands now.
CREATE VIEW orders AS
SELECT user_id, order_id, ordered_at, amount,
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

GRANT SELECT ON counted_order_events, order_lines TO marketday_twin;

-- How far the times of a partition of orders go: one customer's wrong clock moves nothing.
ALTER TABLE commit_offsets
    ADD COLUMN newest_offset bigint,     -- of the record with newest_at
    ADD COLUMN newest_by bigint,         -- its customer; none for a heartbeat
    ADD COLUMN other_at timestamptz,     -- newest at of another customer
    ADD COLUMN reached_at timestamptz,   -- the time reached, which never goes back
    ADD COLUMN rules_from bigint NOT NULL DEFAULT 0; -- what is before was counted by older rules

ALTER TABLE progress
    ADD COLUMN rules bigint NOT NULL DEFAULT 1, -- the number of the rules by which is counted
    ADD COLUMN latest timestamptz;       -- no record beyond it moves now
