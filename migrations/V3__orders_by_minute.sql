CREATE TABLE orders_by_minute (
    minute timestamptz PRIMARY KEY,
    orders bigint NOT NULL,
    units bigint NOT NULL,
    gross_revenue bigint NOT NULL,
    cancelled_orders bigint NOT NULL,
    refunded_revenue bigint NOT NULL,
    buyers bigint NOT NULL
) WITH (fillfactor = 70);
