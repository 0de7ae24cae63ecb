-- How much a tenant may send, and what becomes of what is over.

ALTER TABLE tenant
    ADD measurements_per_second_max bigint CHECK (measurements_per_second_max > 0),
    ADD measurements_per_day_max bigint CHECK (measurements_per_day_max > 0),
    ADD over_quota text NOT NULL DEFAULT 'quarantine' CHECK (over_quota IN ('quarantine', 'thin')),
    ADD thin_interval interval NOT NULL DEFAULT '15 minutes'
        CHECK (thin_interval > interval '0' AND thin_interval <= interval '1 day');
COMMENT ON COLUMN tenant.measurements_per_second_max IS 'Measurements a second, of which ten seconds'' worth may come at once; null: no such quota.';
COMMENT ON COLUMN tenant.measurements_per_day_max IS 'Measurements a day in UTC; null: no such quota.';
COMMENT ON COLUMN tenant.over_quota IS 'What becomes of uplinks over a quota: quarantine (set aside, to be tried again), or thin (one of each device in thin_interval is stored, the others are counted).';
COMMENT ON COLUMN tenant.thin_interval IS 'With over_quota = thin: in which one uplink of each device is stored.';
