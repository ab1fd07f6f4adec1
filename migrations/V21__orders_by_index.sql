-- One order, one customer's, the newest ones: what a person asks of `orders` is answered from indexes. Those of
-- the whole ledger the analytics make when they have caught up (`src/store/indexes.rs`), since to keep them
-- costs more than the ledger itself. This one is of a few percent of it, and `orders` looks each order up there.
CREATE INDEX order_ledger_taken_back ON order_ledger (user_id, order_id) WHERE kind > 1;

-- As before, but without a group or a join of all: so a condition, an order or a limit reaches the ledger.
CREATE OR REPLACE VIEW orders AS
SELECT order_id, user_id, ordered_at, amount,
       coalesce(refunded_amount, 0) AS refunded_amount,
       CASE WHEN cancelled_at IS NOT NULL THEN 'cancelled'
            WHEN refunded_amount >= amount THEN 'refunded'
            WHEN refunded_amount > 0 THEN 'partly refunded'
            ELSE 'placed' END AS status,
       cancelled_at
FROM order_ledger AS placed,
     LATERAL (SELECT sum(quantity * unit_price)::bigint AS amount
              FROM unnest(('{' || split_part(lines, '|', 3) || '}')::bigint[],
                          ('{' || split_part(lines, '|', 4) || '}')::bigint[])
                       AS line (quantity, unit_price)) AS sold,
     LATERAL (SELECT min(at) FILTER (WHERE kind = 2) AS cancelled_at,
                     sum(quantity * unit_price) FILTER (WHERE kind = 3)::bigint AS refunded_amount
              FROM order_ledger AS back,
                   unnest(('{' || split_part(lines, '|', 3) || '}')::bigint[],
                          ('{' || split_part(lines, '|', 4) || '}')::bigint[])
                       AS line (quantity, unit_price)
              WHERE back.user_id = placed.user_id AND back.order_id = placed.order_id
                AND back.kind > 1) AS taken_back
WHERE kind = 1
  AND NOT EXISTS (SELECT FROM order_ledger AS earlier
                  WHERE earlier.user_id = placed.user_id
                    AND earlier.order_id = placed.order_id
                    AND earlier.kind = 1
                    AND (earlier.at, earlier.event_id < 0, earlier.event_id)
                        < (placed.at, placed.event_id < 0, placed.event_id));
