//! Owns the writing of a result: a tree of tagged values, as `decoders/README.md` has it.

/// The fields of an object that is being written.
///
/// What does not fit any more is left out, and the decoder's result is then an error.
#[derive(Debug)]
pub struct Output<'b> {
    buffer: &'b mut [u8],
    len: usize,
    /// Where the count of the object or list stands that is being written.
    count_at: usize,
    full: bool,
}

/// The items of a list that is being written.
#[derive(Debug)]
pub struct Items<'o, 'b>(&'o mut Output<'b>);

impl<'b> Output<'b> {
    /// Begins a result: no warnings, and an object.
    pub(crate) fn new(buffer: &'b mut [u8]) -> Self {
        let mut output = Self { buffer, len: 0, count_at: 0, full: false };
        output.put(&0u32.to_le_bytes());
        output.open(6);
        output
    }

    /// Gives the length of the result, or nothing when it did not fit.
    pub(crate) fn finish(self) -> Option<usize> {
        (!self.full).then_some(self.len)
    }

    /// Adds a number.
    pub fn number(&mut self, field: &str, value: f64) {
        self.key(field);
        self.tagged(3, &value.to_le_bytes());
    }

    /// Adds a truth value.
    pub fn boolean(&mut self, field: &str, value: bool) {
        self.key(field);
        self.put(&[1 + u8::from(value)]);
    }

    /// Adds a text.
    pub fn text(&mut self, field: &str, value: &str) {
        self.key(field);
        self.put(&[4]);
        self.bytes(value);
    }

    /// Adds a place. Units: degrees, metres.
    pub fn location(&mut self, field: &str, latitude: f64, longitude: f64, altitude: Option<f64>) {
        self.object(field, |place| {
            place.number("latitude", latitude);
            place.number("longitude", longitude);
            if let Some(altitude) = altitude {
                place.number("altitude", altitude);
            }
        });
    }

    /// Gives the object a time of its own: that of all fields in it. Unit: milliseconds since the
    /// Unix epoch.
    pub fn time_ms(&mut self, ms: f64) {
        self.key("timestamp");
        self.tagged(7, &ms.to_le_bytes());
    }

    /// Adds an object.
    pub fn object(&mut self, field: &str, write: impl FnOnce(&mut Self)) {
        self.key(field);
        self.nested(6, write);
    }

    /// Adds a list, such as one of objects that have times of their own.
    pub fn list(&mut self, field: &str, write: impl FnOnce(&mut Items<'_, 'b>)) {
        self.key(field);
        self.nested(5, |output| write(&mut Items(output)));
    }

    fn nested(&mut self, tag: u8, write: impl FnOnce(&mut Self)) {
        let around = self.count_at;
        self.open(tag);
        write(self);
        self.count_at = around;
    }

    fn open(&mut self, tag: u8) {
        self.put(&[tag]);
        self.count_at = self.len;
        self.put(&0u32.to_le_bytes());
    }

    fn count(&mut self) {
        if let Some(count) = self.buffer.get_mut(self.count_at..).and_then(|rest| rest.first_chunk_mut::<4>()) {
            *count = (u32::from_le_bytes(*count) + 1).to_le_bytes();
        }
    }

    fn key(&mut self, field: &str) {
        self.count();
        self.bytes(field);
    }

    fn bytes(&mut self, text: &str) {
        self.put(&(text.len() as u32).to_le_bytes());
        self.put(text.as_bytes());
    }

    fn tagged(&mut self, tag: u8, value: &[u8; 8]) {
        self.put(&[tag]);
        self.put(value);
    }

    fn put(&mut self, bytes: &[u8]) {
        match self.buffer.get_mut(self.len..self.len + bytes.len()) {
            Some(room) if !self.full => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            _ => self.full = true,
        }
    }
}

impl<'b> Items<'_, 'b> {
    /// Adds a number.
    pub fn number(&mut self, value: f64) {
        self.0.count();
        self.0.tagged(3, &value.to_le_bytes());
    }

    /// Adds an object.
    pub fn object(&mut self, write: impl FnOnce(&mut Output<'b>)) {
        self.0.count();
        self.0.nested(6, write);
    }
}
