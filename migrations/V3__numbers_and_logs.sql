-- Numbers are given once, logs that were left are remembered, and what rows may hold is bounded.

-- Device numbers. A device under another name or of another tenant is another device, and a number
-- that a device once had is never given again: the log and the tables know series by it.

CREATE TABLE device_no_spent (
    device_no bigint PRIMARY KEY
);
COMMENT ON TABLE device_no_spent IS 'Numbers of devices that were removed, renamed or moved to another tenant. Kept by triggers of device.';

INSERT INTO device_no_spent
SELECT DISTINCT device_no FROM series s WHERE NOT EXISTS (SELECT FROM device d WHERE d.device_no = s.device_no);

-- They run as their owner, so that who may write the table device needs no other right.
CREATE FUNCTION weir_device_no() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    fresh bigint;
BEGIN
    LOOP
        fresh := nextval('device_no_seq');
        -- Numbers may also have been given by hand.
        EXIT WHEN NOT EXISTS (SELECT FROM device d WHERE d.device_no = fresh)
              AND NOT EXISTS (SELECT FROM device_no_spent s WHERE s.device_no = fresh);
    END LOOP;
    RETURN fresh;
END $$;

CREATE FUNCTION weir_device_is_numbered() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.device_no = OLD.device_no
       OR EXISTS (SELECT FROM device_no_spent s WHERE s.device_no = NEW.device_no) THEN
        NEW.device_no := weir_device_no();
    END IF;
    IF TG_OP = 'UPDATE' THEN
        NEW.provisioned := false;
    END IF;
    RETURN NEW;
END $$;

CREATE FUNCTION weir_device_no_is_spent() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        INSERT INTO device_no_spent SELECT device_no FROM device ON CONFLICT DO NOTHING;
    ELSE
        INSERT INTO device_no_spent VALUES (OLD.device_no) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

ALTER TABLE device ALTER device_no SET DEFAULT weir_device_no();
ALTER TABLE device ADD CONSTRAINT device_no_leaves_room CHECK (device_no BETWEEN 1 AND 140737488355327);
COMMENT ON COLUMN device.device_no IS 'Given by the database, and given anew when id or tenant_no changes: then it is another device.';

CREATE TRIGGER weir_device_is_numbered BEFORE INSERT ON device
    FOR EACH ROW EXECUTE FUNCTION weir_device_is_numbered();
CREATE TRIGGER weir_device_is_another BEFORE UPDATE ON device
    FOR EACH ROW WHEN ((OLD.tenant_no, OLD.id, OLD.device_no) IS DISTINCT FROM (NEW.tenant_no, NEW.id, NEW.device_no))
    EXECUTE FUNCTION weir_device_is_numbered();
CREATE TRIGGER weir_device_no_is_spent AFTER DELETE ON device
    FOR EACH ROW EXECUTE FUNCTION weir_device_no_is_spent();
CREATE TRIGGER weir_device_no_is_left AFTER UPDATE ON device
    FOR EACH ROW WHEN (OLD.device_no IS DISTINCT FROM NEW.device_no) EXECUTE FUNCTION weir_device_no_is_spent();
CREATE TRIGGER weir_device_nos_are_spent BEFORE TRUNCATE ON device
    FOR EACH STATEMENT EXECUTE FUNCTION weir_device_no_is_spent();

-- Series that the table does not take as the log numbers them.

CREATE TABLE series_refused (
    series_id bigint PRIMARY KEY,
    tenant_no int NOT NULL,
    device_no bigint NOT NULL,
    device    text NOT NULL,
    field     text NOT NULL,
    kind      text NOT NULL,
    unit      text,
    class_no  smallint NOT NULL,
    why       text NOT NULL,
    since     timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE series_refused IS 'Series whose rows go to quarantine, since the table series refused theirs or has another under their id. A device that is removed and added again has new ones.';

-- Logs.

CREATE TABLE log_left (
    log_id      uuid NOT NULL,
    "partition" smallint NOT NULL,
    "offset"    bigint NOT NULL,
    begins      bigint NOT NULL,
    counts      jsonb NOT NULL,
    log_time    timestamptz,
    left_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (log_id, "partition")
);
COMMENT ON TABLE log_left IS 'How far the tables hold logs that were left for another by `weir log adopt`: a log that is adopted again goes on there.';

ALTER TABLE progress ADD begins bigint NOT NULL DEFAULT 0 CHECK (begins >= 0);
ALTER TABLE progress ADD adopted_at timestamptz;
COMMENT ON COLUMN progress.adopted_at IS 'When the log was adopted, if ever: states taken before do not know the series that another log numbered.';
COMMENT ON COLUMN progress.begins IS 'Where a replay without a checkpoint begins: 0, but for what `weir log adopt` gave up.';

-- Checkpoints of a log that was left stay beside those of its successor.
ALTER TABLE checkpoint DROP CONSTRAINT checkpoint_pkey;
ALTER TABLE checkpoint ADD PRIMARY KEY ("partition", log_id, "offset");
COMMENT ON TABLE checkpoint IS 'The state of a partition before the record at offset; the last two of each partition and log are kept.';

-- Bounds. A change of the registry is one record of the log, which holds 1 MiB at the most.

ALTER TABLE retention_class
    ADD CHECK (raw_retention <= interval '100 years'),
    ADD CHECK (rollup_retention <= interval '100 years'),
    ADD CHECK (chunk_interval <= interval '100 years');
ALTER TABLE tenant
    ADD CHECK (lateness_horizon <= interval '100 years'),
    ADD CHECK (heartbeat <= interval '100 years');
ALTER TABLE template ADD CHECK (octet_length(name) <= 1000), ADD CHECK (octet_length(fields::text) <= 524288);
ALTER TABLE device ADD CHECK (octet_length(variables::text) <= 524288);

ALTER TABLE api_token ADD UNIQUE (tenant_no, name);
