//! When decoders ran out of their limits, each time with its log time.

use crate::limits::*;
use crate::model::*;
use std::collections::BTreeMap;

/// The times at which each tenant's decoders ran out of their limits since they last gave measurements.
#[derive(Debug, Default)]
pub(super) struct OutOfLimits(BTreeMap<(TenantNo, Decoding), Vec<LogTime>>);

impl OutOfLimits {
    /// Whether a decoder is suspended.
    pub(super) fn is_resting(&self, whose: (TenantNo, Decoding), now: LogTime) -> bool {
        self.0.get(&whose).is_some_and(|times| now < until(times))
    }

    /// Takes down how a decoder ended: with measurements, or with a reason to set the uplink aside.
    pub(super) fn ended(&mut self, whose: (TenantNo, Decoding), set_aside: Option<Reason>, now: LogTime) {
        match set_aside {
            None => drop(self.0.remove(&whose)),
            Some(Reason::DecoderSteps | Reason::DecoderMemory | Reason::DecoderKilled) => {
                if self.0.len() == OUT_OF_LIMITS_DECODERS_MAX && !self.0.contains_key(&whose) {
                    let first = self.0.iter().map(|(whose, times)| (until(times), *whose)).min();
                    first.map(|(_, whose)| self.0.remove(&whose));
                }
                self.0.entry(whose).or_default().push(now);
            }
            Some(_) => {}
        }
    }

    /// Keeps what is in effect.
    pub(super) fn retain(&mut self, tenants: &BTreeMap<TenantNo, Tenant>, templates: &BTreeMap<TemplateNo, Template>) {
        let is_used = |decoding| templates.values().any(|template| template.decoding == decoding);
        self.0.retain(|(tenant, decoding), _| tenants.contains_key(tenant) && is_used(*decoding));
    }
}

/// The end of the rest that the last of these failures brought.
fn until(times: &[LogTime]) -> LogTime {
    let (mut rest_us, mut next_us) = (0, SUSPENSION_MIN_US);
    for _ in times.iter().skip(OUT_OF_LIMITS_MAX as usize - 1) {
        rest_us = next_us;
        next_us = SUSPENSION_MAX_US.min(2 * rest_us);
    }
    LogTime(times[times.len() - 1].0 + rest_us)
}
