// Milesight AM307: channel, type, value in little-endian order, one behind the other.
// Written from the vendor's description of the payload. The device is set up to send TVOC as an index of
// air quality (tvoc_index) or in µg/m³ (tvoc).

function decodeUplink(input) {
  var bytes = input.bytes;
  var data = {};
  var at = 0;

  function unsigned(length) {
    if (at + length > bytes.length) throw new Error("the payload ends in the middle of a value, at byte " + at);
    var value = 0;
    for (var i = length - 1; i >= 0; i--) value = value * 256 + bytes[at + i];
    at += length;
    return value;
  }
  function signed16() {
    var value = unsigned(2);
    return value > 0x7fff ? value - 0x10000 : value;
  }

  while (at < bytes.length) {
    var channel = unsigned(1), type = unsigned(1);
    switch ((channel << 8) | type) {
      case 0x0175: data.battery = unsigned(1); break;
      case 0x0367: data.temperature = signed16() / 10; break;
      case 0x0468: data.humidity = unsigned(1) / 2; break;
      case 0x0500: data.pir = unsigned(1) !== 0; break;
      case 0x056a: data.activity = unsigned(2); break;
      case 0x0665: data.illumination = unsigned(2); break;
      case 0x06cb: data.light_level = unsigned(1); break;
      case 0x077d: data.co2 = unsigned(2); break;
      case 0x087d: data.tvoc_index = unsigned(2) / 100; break;
      case 0x08e6: data.tvoc = unsigned(2); break;
      case 0x0973: data.pressure = unsigned(2) / 10; break;
      case 0x0e01: data.buzzer = unsigned(1) !== 0; break;
      case 0xff01: data.protocol_version = unsigned(1); break;
      case 0xff09: data.hardware_version = unsigned(1) + "." + (unsigned(1) >> 4); break;
      case 0xff0a: data.firmware_version = unsigned(1) + "." + unsigned(1); break;
      case 0xff0b: unsigned(1); data.powered_on = true; break;
      case 0xff0f: unsigned(1); break;
      case 0xff16: data.serial_number = hex(unsigned, 8); break;
      default:
        return { errors: ["unknown channel " + channel + " with type " + type + " at byte " + (at - 2)] };
    }
  }
  return { data: data };
}

function hex(unsigned, length) {
  var text = "";
  for (var i = 0; i < length; i++) text += ("0" + unsigned(1).toString(16)).slice(-2);
  return text;
}
