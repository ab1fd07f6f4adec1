-- One order, one customer's, the newest ones: what a person asks of `orders` is answered from indexes. Those of
-- the whole ledger the analytics make when they have caught up (`src/store/indexes.rs`), since to keep them
-- costs more than the ledger itself. This one is of a few percent of it, and `orders` looks for refunds there.
CREATE INDEX order_ledger_taken_back ON order_ledger (user_id, order_id) WHERE kind > 1;

-- As before, but without a group of all: so a condition, an order or a limit reaches the ledger, and what is not
-- asked for is not worked out.
CREATE OR REPLACE VIEW orders AS
SELECT placed.order_id, placed.user_id, placed.ordered_at,
       (SELECT sum(quantity * unit_price)::bigint
        FROM unnest(('{' || split_part(placed.lines, '|', 3) || '}')::bigint[],
                    ('{' || split_part(placed.lines, '|', 4) || '}')::bigint[])
                 AS line (quantity, unit_price)) AS amount,
       coalesce((SELECT sum(quantity * unit_price)::bigint
                 FROM order_ledger AS refund,
                      unnest(('{' || split_part(lines, '|', 3) || '}')::bigint[],
                             ('{' || split_part(lines, '|', 4) || '}')::bigint[])
                          AS line (quantity, unit_price)
                 WHERE refund.user_id = placed.user_id AND refund.order_id = placed.order_id
                   AND refund.kind = 3), 0) AS refunded_amount,
       CASE WHEN cancelled.at IS NOT NULL THEN 'cancelled'
            ELSE (SELECT CASE WHEN count(*) = 0 THEN 'placed'
                              WHEN sum(quantity * unit_price)
                                   >= (SELECT sum(quantity * unit_price)
                                       FROM unnest(('{' || split_part(placed.lines, '|', 3) || '}')::bigint[],
                                                   ('{' || split_part(placed.lines, '|', 4) || '}')::bigint[])
                                                AS line (quantity, unit_price)) THEN 'refunded'
                              WHEN sum(quantity * unit_price) > 0 THEN 'partly refunded'
                              ELSE 'placed' END
                  FROM order_ledger AS refund,
                       unnest(('{' || split_part(lines, '|', 3) || '}')::bigint[],
                              ('{' || split_part(lines, '|', 4) || '}')::bigint[])
                           AS line (quantity, unit_price)
                  WHERE refund.user_id = placed.user_id AND refund.order_id = placed.order_id
                    AND refund.kind = 3) END AS status,
       cancelled.at AS cancelled_at
FROM order_ledger AS placed
LEFT JOIN (SELECT user_id, order_id, at FROM order_ledger AS e
           WHERE kind = 2
             AND NOT EXISTS (SELECT FROM order_ledger AS earlier
                             WHERE earlier.user_id = e.user_id
                               AND earlier.order_id = e.order_id
                               AND earlier.kind = 2
                               AND (earlier.at, earlier.event_id < 0, earlier.event_id)
                                   < (e.at, e.event_id < 0, e.event_id))) AS cancelled
    ON cancelled.user_id = placed.user_id AND cancelled.order_id = placed.order_id
WHERE placed.kind = 1
  AND NOT EXISTS (SELECT FROM order_ledger AS earlier
                  WHERE earlier.user_id = placed.user_id
                    AND earlier.order_id = placed.order_id
                    AND earlier.kind = 1
                    AND (earlier.at, earlier.event_id < 0, earlier.event_id)
                        < (placed.at, placed.event_id < 0, placed.event_id));
