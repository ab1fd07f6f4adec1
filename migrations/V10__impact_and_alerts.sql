CREATE TABLE scenario_impact (
    name text COLLATE "C",
    occurrence text COLLATE "C",
    orders bigint NOT NULL,          -- placed while active
    revenue bigint NOT NULL,
    orders_before bigint NOT NULL,   -- at the same times of the four weeks before, together
    revenue_before bigint NOT NULL,
    PRIMARY KEY (name, occurrence)
) WITH (fillfactor = 70);

-- Set against the mean of the four weeks before: 300 is three times as much.
CREATE VIEW scenario_lift AS
SELECT name, occurrence, orders, revenue,
       round(400 * orders / nullif(orders_before, 0)::numeric, 1) AS orders_percent,
       round(400 * revenue / nullif(revenue_before, 0)::numeric, 1) AS revenue_percent
FROM scenario_impact;

CREATE TABLE order_alerts (
    minute timestamptz PRIMARY KEY,
    orders bigint NOT NULL,          -- placed in the ten minutes that end with it
    orders_before bigint NOT NULL,   -- 240 times what was expected
    severity text COLLATE "C" NOT NULL
) WITH (fillfactor = 70);
