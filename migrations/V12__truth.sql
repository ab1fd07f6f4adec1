-- What no shop knows, for those who score models of churn, value or demand by it: `marketday truth`
-- fills these tables on request. No query reads them.

-- Each customer as they signed up.
CREATE TABLE truth_customers (
    user_id bigint PRIMARY KEY,
    factor double precision NOT NULL,          -- lasting personal factor, mean 1
    orders_a_month double precision NOT NULL,  -- in 30 days of usual demand, while with the shop
    drop_out double precision NOT NULL         -- chance after an order; after the first there is more
);

-- How much a customer likes a category; mean about 1.
CREATE TABLE truth_taste (
    user_id bigint NOT NULL,
    category text COLLATE "C" NOT NULL,
    liking double precision NOT NULL,
    PRIMARY KEY (user_id, category)
);

-- After which order a customer dropped out; most never come back.
CREATE TABLE truth_drop_outs (
    user_id bigint NOT NULL,
    at timestamptz NOT NULL
);

-- Each order tick: who could have ordered, how many orders were expected, and how many came.
CREATE TABLE truth_demand (
    at timestamptz PRIMARY KEY,
    due bigint NOT NULL,
    newcomers bigint NOT NULL,
    expected_orders double precision NOT NULL,
    orders bigint NOT NULL
);

