CREATE TABLE season_pattern (
    month_of_year bigint,            -- 1 to 12
    category text COLLATE "C",
    revenue bigint NOT NULL,
    PRIMARY KEY (month_of_year, category)
) WITH (fillfactor = 70);

-- A category's share in the month, and set against its share in all months: 120 is a fifth more.
CREATE VIEW season_shares AS
SELECT month_of_year, category, revenue,
       round(100 * share, 1) AS share_percent,
       round(100 * share / nullif(share_in_all, 0)) AS season_index
FROM (SELECT month_of_year, category, revenue,
             revenue / nullif(sum(revenue) OVER (PARTITION BY month_of_year), 0) AS share,
             sum(revenue) OVER (PARTITION BY category) / nullif(sum(revenue) OVER (), 0)
                 AS share_in_all
      FROM season_pattern) AS shares;

CREATE TABLE month_phase (
    month date,                      -- its first day
    phase text COLLATE "C",
    days bigint NOT NULL,
    orders bigint NOT NULL,
    PRIMARY KEY (month, phase)
) WITH (fillfactor = 70);

-- Orders a day, and by how much that is more than on the month's other days.
CREATE VIEW month_phase_lift AS
SELECT month, phase, days, orders,
       round(orders / nullif(days, 0)::numeric, 1) AS orders_a_day,
       round(100 * ((orders / nullif(days, 0)::numeric)
                    / nullif((month_orders - orders) / nullif(month_days - days, 0), 0) - 1), 1)
           AS lift_percent
FROM (SELECT *, sum(orders) OVER (PARTITION BY month) AS month_orders,
             sum(days) OVER (PARTITION BY month) AS month_days
      FROM month_phase) AS phases;

CREATE TABLE basket_pairs (
    category_a text COLLATE "C",     -- the lesser word
    category_b text COLLATE "C",
    orders bigint NOT NULL,
    PRIMARY KEY (category_a, category_b)
) WITH (fillfactor = 70);

-- How much more often two categories are bought together than chance would have it: 1 is chance.
CREATE VIEW basket_lift AS
WITH category AS (
    SELECT category, sum(orders) AS orders FROM sales_by_category GROUP BY category
)
SELECT category_a, category_b, pair.orders,
       round(pair.orders * (SELECT sum(orders) FROM orders_by_hour)
             / nullif(a.orders * b.orders, 0), 2) AS lift
FROM basket_pairs AS pair
JOIN category AS a ON a.category = category_a
JOIN category AS b ON b.category = category_b;
