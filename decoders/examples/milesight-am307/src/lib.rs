//! Milesight AM307: channel, type, value in little-endian order, one behind the other.
//! Gives the same fields as `templates/milesight-am307/decoder.js`.

#![no_std]

use weir_decoder::{Input, Output, decoder};

decoder!(decode);

fn decode(input: &Input<'_>, output: &mut Output<'_>) -> Result<(), &'static str> {
    let mut payload = Payload(input.frame);
    while !payload.0.is_empty() {
        match payload.take()? {
            [0x01, 0x75] => output.number("battery", payload.byte()?),
            [0x03, 0x67] => output.number("temperature", f64::from(i16::from_le_bytes(payload.take()?)) / 10.0),
            [0x04, 0x68] => output.number("humidity", payload.byte()? / 2.0),
            [0x05, 0x00] => output.boolean("pir", payload.byte()? != 0.0),
            [0x05, 0x6a] => output.number("activity", payload.word()?),
            [0x06, 0x65] => output.number("illumination", payload.word()?),
            [0x06, 0xcb] => output.number("light_level", payload.byte()?),
            [0x07, 0x7d] => output.number("co2", payload.word()?),
            [0x08, 0x7d] => output.number("tvoc_index", payload.word()? / 100.0),
            [0x08, 0xe6] => output.number("tvoc", payload.word()?),
            [0x09, 0x73] => output.number("pressure", payload.word()? / 10.0),
            [0x0e, 0x01] => output.boolean("buzzer", payload.byte()? != 0.0),
            [0xff, 0x01] => output.number("protocol_version", payload.byte()?),
            [0xff, 0x09] => {
                let [major, minor] = payload.take()?;
                version(output, "hardware_version", major, minor >> 4);
            }
            [0xff, 0x0a] => {
                let [major, minor] = payload.take()?;
                version(output, "firmware_version", major, minor);
            }
            [0xff, 0x0b] => {
                payload.byte()?;
                output.boolean("powered_on", true);
            }
            [0xff, 0x0f] => {
                payload.byte()?;
            }
            [0xff, 0x16] => serial_number(output, payload.take()?),
            _ => return Err("unknown channel or type"),
        }
    }
    Ok(())
}

/// What is left of the payload.
struct Payload<'a>(&'a [u8]);

impl Payload<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (head, rest) = self.0.split_first_chunk().ok_or("the payload ends in the middle of a value")?;
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self) -> Result<f64, &'static str> {
        self.take().map(|[byte]| f64::from(byte))
    }

    fn word(&mut self) -> Result<f64, &'static str> {
        self.take().map(|bytes| f64::from(u16::from_le_bytes(bytes)))
    }
}

/// Adds `major.minor`.
fn version(output: &mut Output<'_>, field: &str, major: u8, minor: u8) {
    let mut text = [0; 7];
    let mut len = 0;
    for (index, number) in [major, minor].into_iter().enumerate() {
        if index > 0 {
            text[len] = b'.';
            len += 1;
        }
        for power in [100, 10, 1] {
            if number >= power || power == 1 {
                text[len] = b'0' + number / power % 10;
                len += 1;
            }
        }
    }
    output.text(field, core::str::from_utf8(&text[..len]).unwrap_or_default());
}

fn serial_number(output: &mut Output<'_>, bytes: [u8; 8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 16];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    output.text("serial_number", core::str::from_utf8(&text).unwrap_or_default());
}
