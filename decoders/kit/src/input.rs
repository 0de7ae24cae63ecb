//! Owns the reading of what weir gives: `decoders/README.md` has the layout.

/// One uplink.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// LoRaWAN port, where there is one.
    pub fport: Option<u8>,
    /// When the network received the uplink. Unit: milliseconds since the Unix epoch.
    pub recv_time_ms: f64,
    /// A number to start a random generator from: the same for the same uplink.
    pub seed: u64,
    /// The payload.
    pub frame: &'a [u8],
    /// The device's variables, as they came.
    variables: &'a [u8],
}

impl<'a> Input<'a> {
    /// Reads an input; `None` when the bytes are not one.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut rest = bytes;
        let fport = i32::from_le_bytes(take(&mut rest)?);
        let recv_time_ms = f64::from_le_bytes(take(&mut rest)?);
        let seed = u64::from_le_bytes(take(&mut rest)?);
        // Steps and the bound of the result: weir watches over both itself.
        take::<8>(&mut rest)?;
        let count = u32::from_le_bytes(take(&mut rest)?);
        let variables = rest;
        for _ in 0..count {
            text(&mut rest)?;
            text(&mut rest)?;
        }
        let variables = &variables[..variables.len() - rest.len()];
        Some(Self { fport: u8::try_from(fport).ok(), recv_time_ms, seed, frame: rest, variables })
    }

    /// Gives a variable of the device.
    pub fn variable(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.variables;
        while !rest.is_empty() {
            let (key, value) = (text(&mut rest)?, text(&mut rest)?);
            if key == name {
                return Some(value);
            }
        }
        None
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = u32::from_le_bytes(take(rest)?) as usize;
    let (head, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    core::str::from_utf8(head).ok()
}
