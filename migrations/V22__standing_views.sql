-- Views that users add to the running engine as SQL: see src/store/views.rs. The rows of each are in a table
-- kept_NAME, and NAME is a view of it.
CREATE TABLE standing_views (
    name text COLLATE "C" PRIMARY KEY,
    asked text NOT NULL,             -- as it was given
    text text NOT NULL,              -- as PostgreSQL understood it: it means the same tomorrow
    dropped boolean NOT NULL DEFAULT false,
    added_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Whether they hold, with each commit point; none of a view that does not stand yet.
CREATE TABLE standing_view_states (
    name text COLLATE "C" PRIMARY KEY,
    state text COLLATE "C" NOT NULL, -- 'live', or 'failed': then its rows are the last that held
    reason text COLLATE "C" NOT NULL
) WITH (fillfactor = 70);

-- The market time of the results, for those that look back from it.
CREATE FUNCTION market_now() RETURNS timestamptz LANGUAGE sql STABLE
    RETURN (SELECT now FROM commit_points ORDER BY epoch DESC LIMIT 1);

-- The same as a relation of one row, for views that join with it.
CREATE VIEW market AS SELECT market_now() AS now;
