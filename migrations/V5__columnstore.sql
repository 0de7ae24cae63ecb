-- When chunks go to the columnstore, where the database has one.

ALTER TABLE retention_class ADD compress_after interval DEFAULT '2 days'
    CHECK (compress_after > interval '0' AND compress_after <= interval '100 years');
COMMENT ON COLUMN retention_class.compress_after IS 'How long after its end a chunk goes to the columnstore of TimescaleDB Community; null: never. Elsewhere it says nothing.';
