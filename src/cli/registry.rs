//! `weir class|tenant|template|decoder|device|token`

use super::quota::{QuotaArgs, SetTenant};
use super::{Settings, output};
use crate::decoder::{self, templates};
use crate::registry::admin::{self, Kind, NewClass, NewDevice, NewTemplate, NewTenant, NewToken};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::PathBuf;

/// What lists have in common.
#[derive(Args, Debug)]
pub(super) struct List {
    /// Only those of this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 1000)]
    limit: i64,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// One thing, by its name.
#[derive(Args, Debug)]
pub(super) struct Name {
    /// Its name (a device's id, the first 12 digits of a decoder).
    name: String,
    /// Only that of this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

macro_rules! commands {
    ($(#[$doc:meta])* $name:ident, $kind:expr, $add:ident $(, $set:ident)?) => {
        $(#[$doc])*
        #[derive(Subcommand, Debug)]
        pub(super) enum $name {
            /// Add one.
            Add($add),
            $(/// Change one.
            Set($set),)?
            /// List them.
            List(List),
            /// Show one.
            Show(Name),
            /// Remove one. What was stored stays.
            Remove(Name),
        }

        impl $name {
            pub(super) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
                match self {
                    Self::Add(add) => add.run(settings).await,
                    $(Self::Set(set) => $set::run(set, settings).await,)?
                    Self::List(list) => list.run(settings, $kind).await,
                    Self::Show(name) => name.show(settings, $kind).await,
                    Self::Remove(name) => name.remove(settings, $kind).await,
                }
            }
        }
    };
}

commands!(
    /// Retention classes.
    Class, Kind::Class, AddClass
);
commands!(
    /// Tenants.
    Tenant, Kind::Tenant, AddTenant, SetTenant
);
commands!(
    /// Templates.
    Template, Kind::Template, AddTemplate
);
commands!(
    /// Decoders.
    Decoder, Kind::Decoder, AddDecoder
);
commands!(
    /// Devices.
    Device, Kind::Device, AddDevice
);
commands!(
    /// Tokens.
    Token, Kind::Token, AddToken
);

impl List {
    async fn run(self, settings: &Settings, kind: Kind) -> anyhow::Result<()> {
        let client = settings.client().await?;
        let mut listed = admin::list(&client, kind, self.tenant.as_deref(), self.limit).await?;
        tell_suspended(settings, kind, &mut listed).await;
        output::print(&listed, kind.columns(), self.json);
        Ok(())
    }
}

impl Name {
    async fn show(self, settings: &Settings, kind: Kind) -> anyhow::Result<()> {
        let client = settings.client().await?;
        let mut shown = admin::show(&client, kind, self.tenant.as_deref(), &self.name).await?;
        tell_suspended(settings, kind, &mut shown).await;
        for found in shown {
            if self.json { println!("{found}") } else { println!("{found:#}") }
        }
        Ok(())
    }

    async fn remove(self, settings: &Settings, kind: Kind) -> anyhow::Result<()> {
        let client = settings.client().await?;
        admin::remove(&client, kind, self.tenant.as_deref(), &self.name).await?;
        println!("Removed.");
        Ok(())
    }
}

/// Adds to decoders for which tenants they are suspended, where a daemon answers that knows.
async fn tell_suspended(settings: &Settings, kind: Kind, decoders: &mut [Value]) {
    if kind != Kind::Decoder {
        return;
    }
    let suspended = super::status::decoders_suspended(settings).await;
    for decoder in decoders {
        let of_this = suspended.iter().filter(|suspended| suspended["decoder"] == decoder["decoder"]);
        let tenants: Vec<_> = of_this.map(|suspended| format!("tenant {}", suspended["tenant"])).collect();
        if !tenants.is_empty() {
            decoder["suspended"] = tenants.join(", ").into();
        }
    }
}

/// A new retention class.
#[derive(Args, Debug)]
pub(super) struct AddClass {
    /// Its name: up to 16 lower-case letters and digits. It becomes part of table names and stays.
    name: String,
    /// How long measurements are kept, such as "90 days"; for ever where it is not said.
    #[arg(long, value_name = "INTERVAL")]
    raw_retention: Option<String>,
    /// How long rollups are kept, such as "5 years"; for ever where it is not said.
    #[arg(long, value_name = "INTERVAL")]
    rollup_retention: Option<String>,
    /// The stretch of time that one partition or chunk holds.
    #[arg(long, value_name = "INTERVAL", default_value = "1 day")]
    chunk_interval: String,
    /// How long after its end a chunk goes to the columnstore of TimescaleDB Community, such as "1 week", or "never".
    #[arg(long, value_name = "INTERVAL", default_value = "2 days")]
    compress_after: String,
}

impl AddClass {
    async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let Self { name, raw_retention, rollup_retention, chunk_interval, compress_after } = self;
        let client = settings.client().await?;
        let compress_after = (compress_after != "never").then_some(compress_after);
        let class = NewClass { name, raw_retention, rollup_retention, chunk_interval, compress_after };
        let no = admin::add_class(&client, &class).await?;
        println!("Added class {no}.");
        Ok(())
    }
}

/// A new tenant.
#[derive(Args, Debug)]
pub(super) struct AddTenant {
    /// Its name.
    name: String,
    /// IANA name of the time zone in which its days begin.
    #[arg(long, default_value = "UTC")]
    zone: String,
    /// Longest silence of an unchanged series; 0 stores only changes.
    #[arg(long, default_value = "1 hour")]
    heartbeat: String,
    /// How late a measurement may be and still be put in order.
    #[arg(long, default_value = "10 minutes")]
    lateness_horizon: String,
    /// Retention class.
    #[arg(long, default_value = "standard")]
    class: String,
    #[command(flatten)]
    quota: QuotaArgs,
}

impl AddTenant {
    async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let Self { name, zone, heartbeat, lateness_horizon, class, quota } = self;
        let client = settings.client().await?;
        let quota = quota.change();
        let no = admin::add_tenant(&client, &NewTenant { name, zone, heartbeat, lateness_horizon, class, quota }).await?;
        println!("Added tenant {no}.");
        Ok(())
    }
}

/// A decoder's kind and content.
type DecoderBody = (&'static str, Vec<u8>);

/// A new template.
#[derive(Args, Debug)]
pub(super) struct AddTemplate {
    /// Its name; with --builtin, the name of a template that ships with weir.
    name: String,
    /// Take decoder and fields from the template of this name that ships with weir.
    #[arg(long, conflicts_with_all = ["decoder", "upstream"])]
    builtin: bool,
    /// The decoder: a JavaScript source (.js) or a wasm module (.wasm).
    #[arg(long, value_name = "FILE")]
    decoder: Option<PathBuf>,
    /// The network decodes: take its decoded fields.
    #[arg(long, conflicts_with = "decoder")]
    upstream: bool,
    /// Units, deadbands and heartbeats: {"temperature": {"unit": "°C", "deadband": 0.1, "heartbeat_s": 3600}}
    #[arg(long, value_name = "JSON")]
    fields: Option<Value>,
    /// Only for this tenant.
    #[arg(long)]
    tenant: Option<String>,
}

impl AddTemplate {
    async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let (decoder, fields) = self.content()?;
        let client = settings.client().await?;
        let fields = self.fields.unwrap_or(fields);
        let no = admin::add_template(&client, &NewTemplate { name: self.name, tenant: self.tenant, decoder, fields }).await?;
        println!("Added template {no}.");
        Ok(())
    }

    /// Gives the decoder, with its kind, and the fields where no others are named.
    fn content(&self) -> anyhow::Result<(Option<DecoderBody>, Value)> {
        let none = Value::Object(serde_json::Map::new());
        if self.builtin {
            let Some(builtin) = templates::builtin(&self.name) else {
                let names: Vec<_> = templates::all().iter().map(|t| t.name).collect();
                bail!("no template {:?} ships with weir; there are {}", self.name, names.join(", "));
            };
            return Ok((builtin.decoder.map(|(kind, body)| (kind.as_str(), body.to_vec())), builtin.fields()));
        }
        match &self.decoder {
            Some(path) => Ok((Some(read_decoder(path)?), none)),
            None if self.upstream => Ok((None, none)),
            None => bail!("who decodes? Give --decoder FILE, --builtin, or --upstream when the network does"),
        }
    }
}

/// Reads a decoder and makes sure that it can be run.
fn read_decoder(path: &PathBuf) -> anyhow::Result<DecoderBody> {
    let body = std::fs::read(path).with_context(|| format!("the decoder {} cannot be read", path.display()))?;
    let kind = decoder::DecoderKind::of(&body);
    decoder::check(kind, &body).with_context(|| format!("the decoder {} cannot be used", path.display()))?;
    Ok((kind.as_str(), body))
}

/// A new decoder.
#[derive(Args, Debug)]
pub(super) struct AddDecoder {
    /// A JavaScript source (.js) or a wasm module (.wasm).
    file: PathBuf,
    /// What people call it; else the file's name.
    #[arg(long)]
    name: Option<String>,
}

impl AddDecoder {
    async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let (kind, body) = read_decoder(&self.file)?;
        let name = self.name.unwrap_or_else(|| self.file.file_name().unwrap_or_default().to_string_lossy().into_owned());
        let client = settings.client().await?;
        let hash = admin::add_decoder(&client, kind, &name, &body).await?;
        println!("Added decoder {}.", &data_encoding::HEXLOWER.encode(&hash)[..12]);
        Ok(())
    }
}

/// A new device.
#[derive(Args, Debug)]
pub(super) struct AddDevice {
    /// Its DevEUI, or the name under which it sends.
    id: String,
    /// Whose it is.
    #[arg(long)]
    tenant: String,
    /// Its model.
    #[arg(long)]
    template: String,
    /// What people call it.
    #[arg(long)]
    name: Option<String>,
    /// A variable for its decoder; may be repeated.
    #[arg(long = "variable", value_name = "KEY=VALUE")]
    variables: Vec<String>,
    /// IANA name of its time zone, where it is not the tenant's.
    #[arg(long)]
    zone: Option<String>,
}

impl AddDevice {
    async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let mut variables = serde_json::Map::new();
        for variable in &self.variables {
            let (key, value) =
                variable.split_once('=').with_context(|| format!("write the variable {variable:?} as KEY=VALUE"))?;
            variables.insert(key.to_owned(), value.into());
        }
        let Self { id, tenant, template, name, zone, .. } = self;
        let client = settings.client().await?;
        let device = NewDevice { id, tenant, template, name, variables: Value::Object(variables), zone };
        let no = admin::add_device(&client, &device).await?;
        println!("Added device {no}.");
        Ok(())
    }
}

/// A new token.
#[derive(Args, Debug)]
pub(super) struct AddToken {
    /// The name under which it is listed.
    name: String,
    /// Whose devices it speaks for.
    #[arg(long)]
    tenant: String,
    /// It may send uplinks.
    #[arg(long)]
    write: bool,
    /// It may query.
    #[arg(long)]
    read: bool,
    /// Make unknown devices with this template when their first uplink comes.
    #[arg(long, value_name = "TEMPLATE", requires = "write")]
    provision: Option<String>,
}

impl AddToken {
    async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        if !(self.write || self.read) {
            bail!("the token may do nothing: give --write, --read, or both");
        }
        let token = new_token();
        let client = settings.client().await?;
        let Self { name, tenant, write, read, provision } = self;
        admin::add_token(&client, &NewToken { name, tenant, may_write: write, may_read: read, provision }, &token).await?;
        println!("{token}");
        eprintln!("This is the only time that the token is shown. Send it as `Authorization: Bearer …`.");
        Ok(())
    }
}

/// 244 random bits, from the operating system by way of two version 4 UUIDs.
pub(super) fn new_token() -> String {
    let (a, b) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    format!("weir_{}{}", a.simple(), b.simple())
}
