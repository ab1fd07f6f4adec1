CREATE TABLE sales_by_category (
    day date,
    category text COLLATE "C",
    orders bigint NOT NULL,
    units bigint NOT NULL,
    revenue bigint NOT NULL,
    refunded bigint NOT NULL,
    PRIMARY KEY (day, category)
) WITH (fillfactor = 70);
