// Milesight EM300-TH: channel, type, value in little-endian order, one behind the other; values that
// the device could not send in time come later, with the time of each.
// Written from the vendor's description of the payload.

function decodeUplink(input) {
  var bytes = input.bytes;
  var data = {};
  var history = [];
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
      case 0x20ce: history.push({ timestamp: unsigned(4), temperature: signed16() / 10, humidity: unsigned(1) / 2 }); break;
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
  if (history.length > 0) data.history = history;
  return { data: data };
}

function hex(unsigned, length) {
  var text = "";
  for (var i = 0; i < length; i++) text += ("0" + unsigned(1).toString(16)).slice(-2);
  return text;
}
