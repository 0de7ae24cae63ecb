// Elsys sensors: type, value in big-endian order, one behind the other.
// Written from the vendor's description of the payload.

function decodeUplink(input) {
  var bytes = input.bytes;
  var data = {};
  var at = 0;

  function unsigned(length) {
    if (at + length > bytes.length) throw new Error("the payload ends in the middle of a value, at byte " + at);
    var value = 0;
    for (var i = 0; i < length; i++) value = value * 256 + bytes[at + i];
    at += length;
    return value;
  }
  function signed(length) {
    var value = unsigned(length), half = Math.pow(2, 8 * length - 1);
    return value >= half ? value - 2 * half : value;
  }

  while (at < bytes.length) {
    var type = unsigned(1);
    switch (type) {
      case 0x01: data.temperature = signed(2) / 10; break;
      case 0x02: data.humidity = unsigned(1); break;
      case 0x03: data.acceleration = { x: signed(1) / 63, y: signed(1) / 63, z: signed(1) / 63 }; break;
      case 0x04: data.light = unsigned(2); break;
      case 0x05: data.motion = unsigned(1); break;
      case 0x06: data.co2 = unsigned(2); break;
      case 0x07: data.vdd = unsigned(2); break;
      case 0x08: data.analog1 = unsigned(2); break;
      case 0x09: data.position = { latitude: littleEndian(bytes, at) / 10000, longitude: littleEndian(bytes, at + 3) / 10000 }; unsigned(6); break;
      case 0x0a: data.pulse1 = unsigned(2); break;
      case 0x0b: data.pulse1_total = unsigned(4); break;
      case 0x0c: data.external_temperature1 = signed(2) / 10; break;
      case 0x0d: data.digital1 = unsigned(1); break;
      case 0x0e: data.distance = unsigned(2); break;
      case 0x0f: data.acceleration_motion = unsigned(1); break;
      case 0x10: data.infrared = { internal: signed(2) / 10, external: signed(2) / 10 }; break;
      case 0x11: data.occupancy = unsigned(1); break;
      case 0x12: data.water_leak = unsigned(1); break;
      case 0x14: data.pressure = signed(4) / 1000; break;
      case 0x15: data.sound = { peak: unsigned(1), average: unsigned(1) }; break;
      case 0x16: data.pulse2 = unsigned(2); break;
      case 0x17: data.pulse2_total = unsigned(4); break;
      case 0x18: data.analog2 = unsigned(2); break;
      case 0x19: data.external_temperature2 = signed(2) / 10; break;
      case 0x1a: data.digital2 = unsigned(1); break;
      case 0x1c: data.tvoc = unsigned(2); break;
      default:
        return { errors: ["unknown type " + type + " at byte " + (at - 1)] };
    }
  }
  return { data: data };
}

// The one value that Elsys sends the other way round: 24 bits, signed.
function littleEndian(bytes, at) {
  var value = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16);
  return value > 0x7fffff ? value - 0x1000000 : value;
}
