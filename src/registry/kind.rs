//! What of the registry's tables is listed, shown and removed by name, and how.

/// Things that are listed, shown and removed by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Retention classes, by name.
    Class,
    /// Tenants, by name.
    Tenant,
    /// Templates, by name.
    Template,
    /// Decoders, by the first digits of their hash.
    Decoder,
    /// Devices, by id.
    Device,
    /// Tokens, by name.
    Token,
}

impl Kind {
    /// What it is called on the command line.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Tenant => "tenant",
            Self::Template => "template",
            Self::Decoder => "decoder",
            Self::Device => "device",
            Self::Token => "token",
        }
    }

    /// What is listed, in the order in which it is read best.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Class => &["no", "name", "raw_retention", "rollup_retention", "chunk_interval", "compress_after", "tenants"],
            Self::Tenant => &[
                "no",
                "name",
                "zone",
                "heartbeat",
                "lateness_horizon",
                "class",
                "per_second_max",
                "per_day_max",
                "over_quota",
                "thin_interval",
                "devices",
            ],
            Self::Template => &["no", "tenant", "name", "decoding", "decoder", "devices", "fields"],
            Self::Decoder => &["decoder", "kind", "name", "bytes", "suspended", "added_at"],
            Self::Device => &["no", "tenant", "id", "name", "template", "zone", "variables", "provisioned", "added_at"],
            Self::Token => &["tenant", "name", "may_write", "may_read", "provision", "added_at"],
        }
    }

    /// What is listed, with the columns `tenant` and `key` to choose by.
    pub(super) fn listing(self) -> &'static str {
        match self {
            Self::Class => {
                "SELECT c.name AS key, NULL::text AS tenant, c.class_no AS no, c.name, c.raw_retention::text, c.rollup_retention::text,
                        c.chunk_interval::text, c.compress_after::text, (SELECT count(*) FROM tenant t WHERE t.class_no = c.class_no) AS tenants
                 FROM retention_class c"
            }
            Self::Tenant => {
                "SELECT t.name AS key, NULL::text AS tenant, t.tenant_no AS no, t.name, t.zone, t.heartbeat::text, t.lateness_horizon::text,
                        c.name AS class, t.measurements_per_second_max AS per_second_max, t.measurements_per_day_max AS per_day_max,
                        t.over_quota, t.thin_interval::text, (SELECT count(*) FROM device d WHERE d.tenant_no = t.tenant_no) AS devices
                 FROM tenant t JOIN retention_class c USING (class_no)"
            }
            Self::Template => {
                "SELECT t.name AS key, n.name AS tenant, t.template_no AS no, t.name, t.decoding, left(encode(t.decoder_hash, 'hex'), 12) AS decoder,
                        t.fields, (SELECT count(*) FROM device d WHERE d.template_no = t.template_no) AS devices
                 FROM template t LEFT JOIN tenant n USING (tenant_no)"
            }
            Self::Decoder => {
                "SELECT left(encode(hash, 'hex'), 12) AS key, NULL::text AS tenant, left(encode(hash, 'hex'), 12) AS decoder, kind, name,
                        octet_length(body) AS bytes, added_at FROM decoder"
            }
            Self::Device => {
                "SELECT d.id AS key, n.name AS tenant, d.device_no AS no, d.id, d.name, t.name AS template, d.zone, d.variables, d.provisioned,
                        d.added_at
                 FROM device d JOIN tenant n USING (tenant_no) JOIN template t USING (template_no)"
            }
            Self::Token => {
                "SELECT a.name AS key, n.name AS tenant, a.name, a.may_write, a.may_read, t.name AS provision, a.added_at
                 FROM api_token a JOIN tenant n USING (tenant_no) LEFT JOIN template t ON t.template_no = a.provision_template_no"
            }
        }
    }

    /// Removes one, by its name and the tenant that it belongs to, if it belongs to one.
    pub(super) fn removal(self) -> &'static str {
        match self {
            Self::Class => "DELETE FROM retention_class WHERE name = $1 AND $2::text IS NULL",
            Self::Tenant => "DELETE FROM tenant WHERE name = $1 AND $2::text IS NULL",
            Self::Template => {
                "DELETE FROM template WHERE name = $1
                 AND tenant_no IS NOT DISTINCT FROM (SELECT tenant_no FROM tenant WHERE name = $2)"
            }
            Self::Decoder => "DELETE FROM decoder WHERE left(encode(hash, 'hex'), 12) = $1 AND $2::text IS NULL",
            Self::Device => "DELETE FROM device WHERE id = $1 AND tenant_no = (SELECT tenant_no FROM tenant WHERE name = $2)",
            Self::Token => "DELETE FROM api_token WHERE name = $1 AND tenant_no = (SELECT tenant_no FROM tenant WHERE name = $2)",
        }
    }
}
