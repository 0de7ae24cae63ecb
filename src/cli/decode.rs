//! `weir decode`

use super::private::PrivateFolder;
use crate::decoder::{DecoderInput, DecoderKind, DecoderLimits, Decoders, Tried, VerdictSink, templates};
use anyhow::{Context, bail};
use base64::Engine;
use dataflows::model::{Offset, Partition};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

/// Decode one payload and show what would be stored.
#[derive(clap::Args, Debug)]
pub(super) struct Decode {
    /// The payload, as hex or base64.
    payload: String,
    /// A JavaScript source or wasm module.
    #[arg(long, value_name = "FILE", required_unless_present = "template")]
    decoder: Option<PathBuf>,
    /// A template that ships with weir.
    #[arg(long, conflicts_with = "decoder")]
    template: Option<String>,
    /// LoRaWAN port.
    #[arg(long)]
    fport: Option<u8>,
    /// When the network received it (RFC 3339); now, where it is not given.
    #[arg(long, value_name = "TIME")]
    received_at: Option<jiff::Timestamp>,
    /// A variable for the decoder; may be repeated.
    #[arg(long = "variable", value_name = "KEY=VALUE")]
    variables: Vec<String>,
}

/// A decoder that is tried here has no log.
struct NoVerdicts;

impl VerdictSink for NoVerdicts {
    fn condemn(&self, _: Partition, _: Offset) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

impl Decode {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let (kind, body) = self.body()?;
        let bytes = payload(&self.payload)?;
        let variables: BTreeMap<String, String> = self
            .variables
            .iter()
            .map(|v| {
                v.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())).with_context(|| format!("write {v:?} as KEY=VALUE"))
            })
            .collect::<anyhow::Result<_>>()?;
        let received_at = self.received_at.unwrap_or_else(jiff::Timestamp::now);
        let input =
            DecoderInput { fport: self.fport, bytes: &bytes, recv_time_us: received_at.as_microsecond(), variables: &variables };
        let folder = PrivateFolder::open("decode")?;
        let decoders = Decoders::open(folder.path(), DecoderLimits::default(), Arc::new(NoVerdicts))?;
        show(&decoders.decode_once(kind, &body, &input)?);
        Ok(())
    }

    fn body(&self) -> anyhow::Result<(DecoderKind, Vec<u8>)> {
        match (&self.decoder, &self.template) {
            (Some(path), _) => {
                let body = std::fs::read(path).with_context(|| format!("the decoder {} cannot be read", path.display()))?;
                Ok((DecoderKind::of(&body), body))
            }
            (None, Some(name)) => {
                let template = templates::builtin(name).with_context(|| format!("no template {name:?} ships with weir"))?;
                let (kind, body) =
                    template.decoder.with_context(|| format!("the template {name:?} leaves decoding to the network"))?;
                Ok((kind, body.to_vec()))
            }
            (None, None) => bail!("give --decoder FILE or --template NAME"),
        }
    }
}

fn show(tried: &Tried) {
    println!("returned: {:#}", tried.result);
    if tried.warnings > 0 {
        println!("warnings: {}", tried.warnings);
    }
    for measurement in &tried.decoded.measurements {
        let at = measurement.at.and_then(|at| jiff::Timestamp::from_microsecond(at.0).ok());
        let at = at.map(|at| format!(" at {at}")).unwrap_or_default();
        println!("{} = {:?}{at}", measurement.field, measurement.value);
    }
    for rejected in &tried.decoded.rejected {
        println!("{} is rejected: {} ({})", rejected.field, rejected.detail, rejected.reason.as_str());
    }
}

fn payload(text: &str) -> anyhow::Result<Vec<u8>> {
    let text: String = text.split_whitespace().collect();
    if let Ok(bytes) = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()) {
        return Ok(bytes);
    }
    base64::engine::general_purpose::STANDARD
        .decode(&text)
        .with_context(|| format!("the payload {text:?} is neither hex nor base64"))
}
