-- What weir writes of itself. The tables of measurements and rollups are not here: there is a set of
-- them for each retention class, so the program makes them.

CREATE TABLE series (
    series_id bigint PRIMARY KEY,
    tenant_no int NOT NULL,
    -- No foreign keys: the rows of a series outlive its device.
    device_no bigint NOT NULL,
    device    text NOT NULL,
    field     text NOT NULL,
    kind      text NOT NULL CHECK (kind IN ('number', 'boolean', 'text', 'location')),
    unit      text,
    class_no  smallint NOT NULL,
    added_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX series_device ON series (tenant_no, device, field);
COMMENT ON TABLE series IS 'A field of a device; a change of kind or unit makes a new series.';

CREATE TABLE progress (
    "partition" smallint PRIMARY KEY CHECK ("partition" >= 0),
    "offset"    bigint NOT NULL CHECK ("offset" >= 0),
    owner_epoch bigint NOT NULL,
    owner       text NOT NULL,
    log_id      uuid NOT NULL,
    counts      jsonb NOT NULL,
    refused     bigint NOT NULL DEFAULT 0,
    log_time    timestamptz,
    updated_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON TABLE progress IS 'How far the tables hold the log. Written by weir alone, in the transaction that writes the rows.';
COMMENT ON COLUMN progress."offset" IS 'The first record that is not committed.';
COMMENT ON COLUMN progress.owner_epoch IS 'Raised by each daemon that takes the partition; commits of earlier owners then find no row.';
COMMENT ON COLUMN progress.counts IS 'How many went which way since the log began.';
COMMENT ON COLUMN progress.refused IS 'Rows that the database refused; each stands in quarantine, and in counts as stored.';

CREATE TABLE checkpoint (
    "partition" smallint NOT NULL,
    "offset"    bigint NOT NULL,
    log_id      uuid NOT NULL,
    version     int NOT NULL,
    state       bytea NOT NULL,
    taken_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY ("partition", "offset")
);
-- The state comes compressed.
ALTER TABLE checkpoint ALTER COLUMN state SET STORAGE EXTERNAL;
COMMENT ON TABLE checkpoint IS 'The state of a partition before the record at offset; the last two of each are kept.';
