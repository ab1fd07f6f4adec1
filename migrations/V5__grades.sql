CREATE TABLE customer_grade (
    user_id bigint PRIMARY KEY,
    grade text COLLATE "C" NOT NULL,
    since timestamptz NOT NULL,
    amount_6m bigint NOT NULL,
    orders_6m bigint NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE grade_changes (
    user_id bigint,
    tick timestamptz,
    from_grade text COLLATE "C" NOT NULL,
    to_grade text COLLATE "C" NOT NULL,
    PRIMARY KEY (user_id, tick)
);

CREATE TABLE grade_distribution (
    grade text COLLATE "C" PRIMARY KEY,
    customers bigint NOT NULL
);
