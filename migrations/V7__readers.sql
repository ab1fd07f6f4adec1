-- Who may look: Grafana's login, and people's, are members of this role. It reads the ledgers, the
-- results, and how far they are; it changes nothing. Tables of later migrations are included, as the
-- role that runs this one runs those too.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'marketday_reader') THEN
        CREATE ROLE marketday_reader NOLOGIN;
    END IF;
    -- Wherever the tables are: a user's own database may have put them into a schema of their own.
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO marketday_reader', current_schema());
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO marketday_reader', current_schema());
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO marketday_reader',
                   current_schema());
END $$;

-- The engine's own.
REVOKE SELECT ON progress, commit_offsets, refinery_schema_history FROM marketday_reader;
