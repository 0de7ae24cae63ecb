//! Decoders that run out of their limits, in the graph: after some uplinks they cost nothing more.

use crate::support::{Bench, uplink};
use dataflows::OUT_OF_LIMITS_MAX;
use dataflows::graph::{Graph, PartitionState};
use dataflows::model::*;
use std::time::Duration;
use weir::decoder::DecoderLimits;

/// Scripts that end in each of the three ways, and what is said of it.
const HOSTILE: [(&str, Reason); 3] = [
    ("for (;;) {}", Reason::DecoderSteps),
    ("var a = []; for (;;) a.push(new Array(1000).fill(1))", Reason::DecoderMemory),
    ("var s = 'a'.repeat(1e6); return {data: (s + 'c').indexOf('a'.repeat(5e5) + 'b')}", Reason::DecoderKilled),
];
/// How many uplinks each sends.
const UPLINKS: u64 = 1000;

#[test]
fn hostile_decoders_are_run_some_times_and_no_more() {
    let partition = Partition(3);
    for (body, reason) in HOSTILE {
        let watchdog = if reason == Reason::DecoderKilled { Duration::from_millis(100) } else { Duration::from_secs(60) };
        let bench = Bench::open(DecoderLimits { watchdog, ..DecoderLimits::default() });
        let decoding = bench.script(&format!("function decodeUplink(input) {{ {body} }}"));
        let mut graph = Graph::new(Box::new(bench.decoders.worker()));
        graph.adopt(partition, PartitionState::default());
        let uplink = uplink(&[1]);
        let device = Device {
            no: DeviceNo(1),
            tenant: uplink.tenant,
            id: uplink.device.clone(),
            template: TemplateNo(1),
            variables: Default::default(),
            zone: None,
            provisioned: false,
        };
        let template = Template { no: TemplateNo(1), name: "test".into(), decoding, fields: Default::default() };
        let registry = [
            RegistryChange::Tenant(Tenant { no: uplink.tenant, policy: Policy::default() }.into()),
            RegistryChange::Template(template.into()),
            RegistryChange::Device(device.into()),
        ];
        let registry = registry.map(|change| Record::Registry(Box::new(change)));
        let uplinks = (0..UPLINKS).map(|fcnt| Record::Uplink(Box::new(Uplink { fcnt: Some(fcnt as u32), ..uplink.clone() })));
        let entries = registry.into_iter().chain(uplinks).enumerate().map(|(offset, record)| Entry {
            partition,
            offset: Offset(offset as u64),
            log_time: LogTime(uplink.received_at.0),
            condemned: false,
            record,
        });
        let rows = graph.run(entries.collect());
        let count = |reason| rows.quarantined.iter().filter(|row| row.row.reason == reason).count() as u64;
        let run = u64::from(OUT_OF_LIMITS_MAX);
        assert_eq!([count(reason), count(Reason::DecoderSuspended)], [run, UPLINKS - run], "{body}");
        assert_eq!(graph.suspended(partition).len(), 1, "{body}");
        let verdicts = bench.verdicts.0.lock().unwrap().len() as u64;
        assert_eq!(verdicts, if reason == Reason::DecoderKilled { run } else { 0 }, "{body}");
    }
}
