// Decentlab DL-5TM: version, device id, flags, then two words for each sensor that the flags name,
// all in big-endian order. Written from the vendor's description of the payload.

function decodeUplink(input) {
  var bytes = input.bytes;
  if (bytes.length < 5) return { errors: ["the payload has " + bytes.length + " bytes, a header has 5"] };
  if (bytes[0] !== 2) return { errors: ["version " + bytes[0] + " of the protocol, expected 2"] };
  var flags = word(bytes, 3);
  var data = {};
  var at = 5;

  if (flags & 1) {
    if (at + 4 > bytes.length) return { errors: ["the payload ends before the soil sensor's words"] };
    var permittivity = word(bytes, at) / 50;
    data.dielectric_permittivity = permittivity;
    // Topp's equation.
    data.volumetric_water_content =
      0.0000043 * Math.pow(permittivity, 3) - 0.00055 * Math.pow(permittivity, 2) + 0.0292 * permittivity - 0.053;
    data.soil_temperature = (word(bytes, at + 2) - 400) / 10;
    at += 4;
  }
  if (flags & 2) {
    if (at + 2 > bytes.length) return { errors: ["the payload ends before the battery's word"] };
    data.battery_voltage = word(bytes, at) / 1000;
  }
  return { data: data };
}

function word(bytes, at) {
  return (bytes[at] << 8) | bytes[at + 1];
}
