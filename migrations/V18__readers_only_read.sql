-- Who reads can do nothing else, as far as PostgreSQL lets that be said of a role.

-- What became of the records of each partition, for /metrics.
GRANT SELECT (topic, partition, counted, duplicate, dead, heartbeat) ON commit_offsets
    TO marketday_reader;

-- PostgreSQL lets anybody make temporary tables and large objects, take advisory locks and write into
-- the log of changes. In a database that is marketday's own nobody but its owner may; in another, whose
-- owner is not who migrates it, that would take away what others use.
DO $$
DECLARE
    anybodys regprocedure;
BEGIN
    IF current_user <> (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()) THEN
        RAISE NOTICE 'the database is somebody else''s: PUBLIC keeps what it may do in it';
        RETURN;
    END IF;
    EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    -- `verify` puts the twins' rows into temporary tables.
    EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO marketday_twin', current_database());
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    BEGIN
        FOR anybodys IN
            SELECT oid FROM pg_proc
            WHERE pronamespace = 'pg_catalog'::regnamespace
              AND proname ~ '^(pg_(try_)?advisory_.*|lo_(creat|create|from_bytea)|pg_notify|pg_logical_emit_message)$'
        LOOP
            EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', anybodys);
        END LOOP;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE NOTICE 'only a superuser can keep PUBLIC from advisory locks and large objects';
    END;
END $$;
