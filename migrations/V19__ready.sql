-- Who never bought and would is called ready, as the market's rules call them.
ALTER TABLE truth_demand RENAME COLUMN newcomers TO ready;

-- When a customer became due, or ready to buy for the first time; they are until they order or leave.
CREATE TABLE truth_arrivals (
    user_id bigint NOT NULL,
    at timestamptz NOT NULL
);
