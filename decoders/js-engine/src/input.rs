//! Owns the reading of the host's input.

/// What one call of `decode` is given.
pub struct Call<'a> {
    /// LoRaWAN port, where there is one.
    pub fport: Option<u8>,
    /// When the network received the uplink. Unit: milliseconds since the Unix epoch.
    pub recv_time_ms: f64,
    /// Where `Math.random` starts.
    pub seed: u64,
    /// Interrupt polls that the script may use.
    pub steps: u32,
    /// Bytes that the result may have.
    pub result_max: usize,
    /// The device's variables, names and texts by turns.
    pub variables: Vec<(&'a str, &'a str)>,
    /// The payload.
    pub frame: &'a [u8],
}

/// Reads from the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn count(&mut self) -> Option<usize> {
        self.take().map(|bytes| u32::from_le_bytes(bytes) as usize)
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = self.count()?;
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(head).ok()
    }
}

impl<'a> Call<'a> {
    /// Reads a call; `None` when the bytes are not one.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        Some(Self {
            fport: u8::try_from(i32::from_le_bytes(reader.take()?)).ok(),
            recv_time_ms: f64::from_le_bytes(reader.take()?),
            seed: u64::from_le_bytes(reader.take()?),
            steps: u32::from_le_bytes(reader.take()?),
            result_max: reader.count()?,
            variables: (0..reader.count()?).map(|_| Some((reader.text()?, reader.text()?))).collect::<Option<_>>()?,
            frame: reader.0,
        })
    }
}
