CREATE TABLE orders_by_hour (
    day date,
    hour bigint,                     -- 0 to 23, in Seoul
    orders bigint NOT NULL,
    revenue bigint NOT NULL,
    PRIMARY KEY (day, hour)
) WITH (fillfactor = 70);

CREATE TABLE sales_by_month (
    month date PRIMARY KEY,          -- its first day
    orders bigint NOT NULL,
    revenue bigint NOT NULL,
    buyers bigint NOT NULL
) WITH (fillfactor = 70);

-- Each month beside the calendar month before it; without sales there, there is no growth.
CREATE VIEW sales_growth AS
SELECT month, sales.revenue, before.revenue AS revenue_before,
       CASE WHEN before.revenue > 0
            THEN round(100.0 * (sales.revenue - before.revenue) / before.revenue, 1)
       END AS growth_percent
FROM sales_by_month AS sales
LEFT JOIN (SELECT (month + interval '1 month')::date AS month, revenue
           FROM sales_by_month) AS before USING (month);

CREATE TABLE active_customers (
    span text COLLATE "C" PRIMARY KEY,
    buyers bigint NOT NULL
) WITH (fillfactor = 70);

-- The instants are of orders that stand; null where none does.
CREATE TABLE customer_value (
    user_id bigint PRIMARY KEY,
    first_order_at timestamptz,
    last_order_at timestamptz,
    orders bigint NOT NULL,
    revenue bigint NOT NULL,
    days_active bigint
) WITH (fillfactor = 70);

-- What a customer has brought so far, and in the mean by each order.
CREATE VIEW customer_lifetime_value AS
SELECT user_id, first_order_at, last_order_at, days_active, orders, revenue AS lifetime_value,
       CASE WHEN orders > 0 THEN round(revenue::numeric / orders) END AS mean_order_value
FROM customer_value;
