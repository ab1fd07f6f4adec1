-- What a ledger held when it was committed, so that a start sees whether it still does: the sum of the
-- XXH3 (64 bit) of its rows as binary COPY has them, mod 2^64. NULL: not known yet; the next start says it.
ALTER TABLE commit_offsets ADD COLUMN ledger_hash bigint;

-- The twins' role needs what the readers' has: the tables may be in a schema of their own.
DO $$
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO marketday_twin', current_schema());
END $$;
