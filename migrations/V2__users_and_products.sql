-- Customers and products as they are now.

CREATE TABLE users (
    user_id bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    birth_date date NOT NULL,
    sex text COLLATE "C" NOT NULL,
    region text COLLATE "C" NOT NULL,
    status text COLLATE "C" NOT NULL,
    marketing_consent boolean NOT NULL,
    signed_up_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    grade text COLLATE "C" NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE products (
    product_id bigint PRIMARY KEY,
    name text COLLATE "C" NOT NULL,
    category text COLLATE "C" NOT NULL,
    price bigint NOT NULL,
    stock bigint NOT NULL,
    listed_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    order_count bigint NOT NULL
) WITH (fillfactor = 70);
