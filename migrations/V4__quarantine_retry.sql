-- Retries: what of quarantine is wanted to be tried again.

CREATE TABLE quarantine_retry (
    log_time    timestamptz NOT NULL,
    "partition" smallint NOT NULL,
    "offset"    bigint NOT NULL,
    field       text,
    asked_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (log_time, "partition", "offset", field)
);
COMMENT ON TABLE quarantine_retry IS 'Entries of quarantine, by their columns of the same names, that the daemon is to try again; `weir quarantine retry` adds them. A mark goes with its entry, in the commit that writes what became of the retry.';

CREATE FUNCTION weir_quarantine_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('weir_quarantine', '');
    RETURN NULL;
END $$;

-- Marks that go make room for the next.
CREATE TRIGGER weir_quarantine AFTER INSERT OR DELETE OR TRUNCATE ON quarantine_retry
    FOR EACH STATEMENT EXECUTE FUNCTION weir_quarantine_changed();

COMMENT ON COLUMN progress.refused IS 'Rows that the database refused and that no retry has written since; each stands in counts as stored.';
COMMENT ON TABLE series_refused IS 'Series whose rows go to quarantine, since the table series refused theirs or has another under their id. `weir quarantine retry` lifts a refusal whose cause is gone; a device that is removed and added again has new series.';
