-- What a standing view may hold in memory, what it holds, and whether its rows are alerts: see docs/views.md.
ALTER TABLE standing_views
    ADD COLUMN most bigint NOT NULL DEFAULT 20000000, -- records that it may hold: beyond them it is given up
    ADD COLUMN alert boolean NOT NULL DEFAULT false;  -- each row of it is an alert

CREATE TABLE standing_view_costs (
    name text COLLATE "C" PRIMARY KEY,
    records bigint NOT NULL,         -- held in memory for it, at all workers together
    told_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 70);

-- The market time of the results that are being written.
CREATE FUNCTION committing_now() RETURNS timestamptz LANGUAGE sql STABLE
    RETURN (SELECT now FROM progress);

-- The rows of the views that are alerts: of a view up to a hundred, those that came first. `row_since` of such
-- a view's table is the market time of the commit point that brought the row.
CREATE FUNCTION view_alerts() RETURNS TABLE (name text, since timestamptz, text text)
LANGUAGE plpgsql STABLE SET search_path FROM CURRENT AS $$
DECLARE
    alerting text;
    why text;
BEGIN
    FOR alerting, why IN
        SELECT v.name, s.reason
        FROM standing_views AS v LEFT JOIN standing_view_states AS s ON s.name = v.name AND s.state <> 'live'
        WHERE alert AND NOT dropped ORDER BY added_at, v.name
    LOOP
        -- One that does not hold says so, and not what was.
        IF why IS NOT NULL THEN
            RETURN QUERY SELECT alerting, NULL::timestamptz, 'this view does not hold: ' || why;
            CONTINUE;
        END IF;
        RETURN QUERY EXECUTE format(
            'SELECT %L::text, row_since,
                    coalesce(to_jsonb(kept.*) ->> ''text'',
                             (SELECT string_agg(key || '' '' || coalesce(value, ''–''), '', '' ORDER BY place)
                              FROM json_each_text(row_to_json(kept.*)) WITH ORDINALITY AS field (key, value, place)
                              WHERE key NOT IN (''row_key'', ''copies'', ''row_since'')),
                             '''')
             FROM %I AS kept ORDER BY row_since, row_key LIMIT 100',
            alerting, 'kept_' || alerting);
    END LOOP;
END
$$;

CREATE VIEW view_alerts AS SELECT name, since, text FROM view_alerts();

-- A reader's session may be another visitor's: it ends or stops none. (As in V18.)
DO $$
BEGIN
    IF current_user = (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()) THEN
        REVOKE EXECUTE ON FUNCTION pg_catalog.pg_terminate_backend(integer, bigint),
                                   pg_catalog.pg_cancel_backend(integer) FROM PUBLIC;
        -- Who may end others' sessions still does: the analytics end those of readers who stay too long.
        GRANT EXECUTE ON FUNCTION pg_catalog.pg_terminate_backend(integer, bigint),
                                  pg_catalog.pg_cancel_backend(integer) TO pg_signal_backend;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE NOTICE 'only a superuser can keep PUBLIC from ending the sessions of its own login';
END $$;
