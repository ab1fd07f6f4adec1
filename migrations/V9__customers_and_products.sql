CREATE TABLE best_sellers (
    span text COLLATE "C",
    rank bigint,                     -- 1 to 100
    product_id bigint NOT NULL,
    units bigint NOT NULL,
    revenue bigint NOT NULL,
    PRIMARY KEY (span, rank)
) WITH (fillfactor = 70);

CREATE TABLE first_sale_lag (
    listing_week date,               -- its Monday
    lag text COLLATE "C",            -- whole days of 24 hours: 0 to 3, 4-7, 8+, none yet
    products bigint NOT NULL,
    PRIMARY KEY (listing_week, lag)
) WITH (fillfactor = 70);

CREATE TABLE repurchase (
    grade text COLLATE "C" PRIMARY KEY,
    buyers bigint NOT NULL,
    repeat_buyers bigint NOT NULL,
    gaps bigint NOT NULL,            -- from one standing order of a customer to the next
    gap_days bigint NOT NULL,        -- all of them together, in calendar days
    gap_days_median bigint           -- the lower one; null without gaps
) WITH (fillfactor = 70);

-- How many of those who bought came back, and after how many days.
CREATE VIEW repurchase_rates AS
SELECT grade, buyers, repeat_buyers,
       round(100.0 * repeat_buyers / nullif(buyers, 0), 1) AS repeat_percent,
       round(gap_days / nullif(gaps, 0)::numeric, 1) AS gap_days_mean,
       gap_days_median
FROM repurchase;

CREATE TABLE value_by_cohort (
    signup_month date,               -- its first day
    months_since bigint,             -- 0 is the month of the sign-up
    customers bigint NOT NULL,
    active bigint NOT NULL,
    revenue bigint NOT NULL,
    PRIMARY KEY (signup_month, months_since)
) WITH (fillfactor = 70);

-- Which share of a cohort bought in a month, and what a customer of it has brought in up to then.
CREATE VIEW cohort_curves AS
SELECT signup_month, months_since, customers, active, revenue,
       round(100.0 * active / customers, 1) AS retention_percent,
       round(sum(revenue) OVER (PARTITION BY signup_month ORDER BY months_since) / customers)
           AS lifetime_value
FROM value_by_cohort;

CREATE TABLE segment_hours (
    age_band text COLLATE "C",       -- 10s (everybody under 20) to 50s, 60+
    sex text COLLATE "C",
    hour bigint,                     -- 0 to 23
    orders bigint NOT NULL,
    PRIMARY KEY (age_band, sex, hour)
) WITH (fillfactor = 70);

-- Which share of a segment's orders falls into an hour, and that share against all customers'.
CREATE VIEW segment_hour_shares AS
SELECT age_band, sex, hour, orders,
       round(100 * share, 1) AS share_percent,
       round(100 * share / nullif(share_in_all, 0)) AS hour_index
FROM (SELECT age_band, sex, hour, orders,
             orders / nullif(sum(orders) OVER (PARTITION BY age_band, sex), 0) AS share,
             sum(orders) OVER (PARTITION BY hour) / nullif(sum(orders) OVER (), 0) AS share_in_all
      FROM segment_hours) AS shares;
