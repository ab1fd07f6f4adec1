-- The ledger of orders in half the bytes. `order_events` is a view of it from here on, with the columns that
-- it had, so that whoever reads it reads on.

-- Element i of each list is line i. `lines` has four lists with `|` between them (products, categories,
-- pieces and prices of a piece), and the elements of a list with `,` between them. In a category these two
-- and U+0001 are U+0001 and a letter (`p`, `c`, `x`), and nothing at all is U+0001 and `e`.
CREATE TABLE order_ledger (
    event_id bigint NOT NULL,        -- less 2^64 where it is 2^63 or more
    "offset" bigint NOT NULL,
    at timestamptz NOT NULL,
    order_id bigint NOT NULL,
    user_id bigint NOT NULL,
    ordered_at timestamptz NOT NULL,
    partition integer NOT NULL,
    kind smallint NOT NULL,          -- 1 placed, 2 cancelled, 3 refunded
    lines text COLLATE "C" NOT NULL
);

-- Analytics of an older version may still run: what they commit from here on would be lost.
LOCK TABLE order_events IN SHARE ROW EXCLUSIVE MODE;
DROP VIEW newest_orders, orders, order_items, order_lines, counted_order_events;

-- In pieces, so that whoever waits sees how far it is.
DO $$
DECLARE
    pages bigint := pg_relation_size('order_events') / current_setting('block_size')::bigint;
    piece CONSTANT bigint := 1024;
    first bigint := 0;
BEGIN
    WHILE first < pages LOOP
        INSERT INTO order_ledger
        SELECT (event_id - CASE WHEN event_id < 9223372036854775808 THEN 0 ELSE 18446744073709551616 END)::bigint,
               "offset", at, order_id, user_id, ordered_at, partition,
               CASE event WHEN 'placed' THEN 1 WHEN 'cancelled' THEN 2 WHEN 'refunded' THEN 3 ELSE 0 END,
               array_to_string(product_ids, ',') || '|'
               || CASE WHEN '' = ANY (categories) OR array_to_string(categories, '') ~ E'[\x01,|]'
                       THEN (SELECT string_agg(CASE word WHEN '' THEN E'\x01e'
                                               ELSE replace(replace(replace(
                                                   word, E'\x01', E'\x01x'), ',', E'\x01c'), '|', E'\x01p')
                                               END, ',' ORDER BY place)
                             FROM unnest(categories) WITH ORDINALITY AS category (word, place))
                       ELSE array_to_string(categories, ',') END || '|'
               || array_to_string(quantities, ',') || '|' || array_to_string(unit_prices, ',')
        FROM order_events
        WHERE ctid >= format('(%s,0)', first)::tid AND ctid < format('(%s,0)', first + piece)::tid;
        first := first + piece;
        RAISE NOTICE 'order_events: % of % pages', least(first, pages), pages;
    END LOOP;
END $$;

DROP TABLE order_events;

DO $$
DECLARE
    columns CONSTANT text := $columns$
        (event_id + CASE WHEN event_id < 0 THEN 18446744073709551616 ELSE 0 END)::numeric(20) AS event_id,
        partition::bigint AS partition, "offset", at,
        CASE kind WHEN 1 THEN 'placed' WHEN 2 THEN 'cancelled' WHEN 3 THEN 'refunded' END COLLATE "C" AS event,
        order_id, user_id, ordered_at,
        ('{' || split_part(lines, '|', 1) || '}')::bigint[] AS product_ids,
        CASE WHEN strpos(lines, E'\x01') = 0 THEN string_to_array(split_part(lines, '|', 2), ',')
             ELSE ARRAY(SELECT replace(replace(replace(replace(
                                   word, E'\x01e', ''), E'\x01p', '|'), E'\x01c', ','), E'\x01x', E'\x01')
                        FROM unnest(string_to_array(split_part(lines, '|', 2), ','))
                                 WITH ORDINALITY AS category (word, place)
                        ORDER BY place) END AS categories,
        ('{' || split_part(lines, '|', 3) || '}')::bigint[] AS quantities,
        ('{' || split_part(lines, '|', 4) || '}')::bigint[] AS unit_prices
    $columns$;
BEGIN
    EXECUTE format('CREATE VIEW order_events AS SELECT %s FROM order_ledger', columns);
    -- Of events with ids beyond 2^63 the lesser number is the lesser id, too.
    EXECUTE format('CREATE VIEW counted_order_events AS SELECT %s FROM order_ledger AS e
                    WHERE NOT EXISTS (SELECT FROM order_ledger AS earlier
                                      WHERE earlier.user_id = e.user_id
                                        AND earlier.order_id = e.order_id
                                        AND earlier.kind = e.kind
                                        AND earlier.kind <> 3
                                        AND (earlier.at, earlier.event_id < 0, earlier.event_id)
                                            < (e.at, e.event_id < 0, e.event_id))', columns);
END $$;

-- The views over them as they were (V14): PostgreSQL ties a view to the table that it was made for.
CREATE VIEW order_lines AS
SELECT event_id, at, event, order_id, user_id, ordered_at, product_id, category, quantity, unit_price,
       quantity * unit_price AS amount
FROM counted_order_events,
     unnest(product_ids, categories, quantities, unit_prices)
         AS line (product_id, category, quantity, unit_price);

CREATE VIEW order_items AS
SELECT user_id, order_id, product_id, category, quantity, unit_price, amount
FROM order_lines WHERE event = 'placed';

CREATE VIEW orders AS
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

-- As V14 has it, of half as many pages: they hold as many orders.
CREATE VIEW newest_orders AS
SELECT order_id, user_id, ordered_at,
       (SELECT sum(quantity * unit_price)
        FROM unnest(('{' || split_part(lines, '|', 3) || '}')::bigint[],
                    ('{' || split_part(lines, '|', 4) || '}')::bigint[])
                 AS line (quantity, unit_price))::bigint AS amount,
       (SELECT count(*) FROM string_to_table(split_part(lines, '|', 1), ',')) AS lines,
       (SELECT string_agg(DISTINCT replace(replace(replace(replace(
                              category, E'\x01e', ''), E'\x01p', '|'), E'\x01c', ','), E'\x01x', E'\x01'),
                          ', ')
        FROM string_to_table(split_part(lines, '|', 2), ',') AS category) AS categories
FROM (SELECT DISTINCT ON (user_id, order_id) *
      FROM order_ledger
      WHERE kind = 1
        AND ctid >= (SELECT format('(%s,0)', greatest(pages - 64, 0))::tid
                     FROM (SELECT pg_relation_size('order_ledger')
                                  / current_setting('block_size')::bigint AS pages) AS ledger)
        AND ctid <= '(4294967295,0)'
      ORDER BY user_id, order_id, at, event_id < 0, event_id) AS placed
ORDER BY ordered_at DESC, order_id DESC;

GRANT SELECT ON order_events, counted_order_events, order_lines TO marketday_twin;
GRANT SELECT ON order_ledger, order_events, counted_order_events, order_lines, order_items, orders, newest_orders
    TO marketday_reader;
