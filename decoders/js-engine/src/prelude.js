// What published decoders expect of their surroundings beside the language itself. All of it can be
// replaced by a script, and none of it shows in an enumeration.
(function (G) {
  "use strict";
  var define = function (object, name, value) {
    Object.defineProperty(object, name, { value: value, writable: true, enumerable: false, configurable: true });
  };
  var nothing = function () {};
  define(G, "console", { log: nothing, info: nothing, warn: nothing, error: nothing, debug: nothing, trace: nothing });
  define(G, "module", { exports: {} });
  define(G, "exports", G.module.exports);

  var ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  var latin1 = function (bytes) {
    var text = "";
    for (var i = 0; i < bytes.length; i++) text += String.fromCharCode(bytes[i]);
    return text;
  };
  var fromLatin1 = function (text) {
    var bytes = [];
    for (var i = 0; i < text.length; i++) bytes.push(text.charCodeAt(i) & 255);
    return bytes;
  };
  var toBase64 = function (bytes) {
    var text = "";
    for (var i = 0; i < bytes.length; i += 3) {
      var word = (bytes[i] << 16) | ((bytes[i + 1] || 0) << 8) | (bytes[i + 2] || 0);
      text += ALPHABET[word >> 18] + ALPHABET[(word >> 12) & 63];
      text += i + 1 < bytes.length ? ALPHABET[(word >> 6) & 63] : "=";
      text += i + 2 < bytes.length ? ALPHABET[word & 63] : "=";
    }
    return text;
  };
  var fromBase64 = function (text) {
    var bytes = [], word = 0, bits = 0;
    for (var i = 0; i < text.length; i++) {
      var digit = ALPHABET.indexOf(text[i] === "-" ? "+" : text[i] === "_" ? "/" : text[i]);
      if (digit < 0) continue;
      word = ((word << 6) | digit) & 0xffffff;
      bits += 6;
      if (bits >= 8) { bits -= 8; bytes.push((word >> bits) & 255); }
    }
    return bytes;
  };
  var toUtf8 = function (bytes) {
    var text = "";
    for (var i = 0; i < bytes.length; ) {
      var lead = bytes[i], extra = lead < 0x80 ? 0 : lead >= 0xc2 && lead < 0xe0 ? 1 : lead >= 0xe0 && lead < 0xf0 ? 2 : lead >= 0xf0 && lead < 0xf5 ? 3 : -1;
      var code = extra <= 0 ? lead : lead & (0x3f >> extra), at = i + 1;
      while (at <= i + extra && (bytes[at] & 0xc0) === 0x80) code = (code << 6) | (bytes[at++] & 0x3f);
      var whole = extra >= 0 && at === i + extra + 1 && code <= 0x10ffff;
      text += whole ? String.fromCodePoint(code) : "\ufffd";
      i = whole ? at : i + 1;
    }
    return text;
  };
  var fromUtf8 = function (text) {
    var bytes = [];
    for (var i = 0; i < text.length; i++) {
      var code = text.codePointAt(i);
      if (code > 0xffff) i++;
      if (code < 0x80) bytes.push(code);
      else if (code < 0x800) bytes.push(0xc0 | (code >> 6), 0x80 | (code & 63));
      else if (code < 0x10000) bytes.push(0xe0 | (code >> 12), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
      else bytes.push(0xf0 | (code >> 18), 0x80 | ((code >> 12) & 63), 0x80 | ((code >> 6) & 63), 0x80 | (code & 63));
    }
    return bytes;
  };
  var toHex = function (bytes) {
    var text = "";
    for (var i = 0; i < bytes.length; i++) text += (bytes[i] < 16 ? "0" : "") + bytes[i].toString(16);
    return text;
  };
  var fromHex = function (text) {
    var bytes = [];
    for (var i = 0; i + 1 < text.length; i += 2) {
      var byte = parseInt(text.substr(i, 2), 16);
      if (byte !== byte) break;
      bytes.push(byte);
    }
    return bytes;
  };
  var encode = function (text, encoding) {
    switch (String(encoding || "utf8").toLowerCase()) {
      case "hex": return fromHex(text);
      case "base64": case "base64url": return fromBase64(text);
      case "ascii": case "latin1": case "binary": return fromLatin1(text);
      default: return fromUtf8(text);
    }
  };

  class Buffer extends Uint8Array {
    static from(value, encoding, length) {
      if (typeof value === "string") return new Buffer(encode(value, encoding));
      if (value instanceof ArrayBuffer) return new Buffer(value, encoding || 0, length);
      return new Buffer(value && value.type === "Buffer" ? value.data : value);
    }
    static alloc(size, fill) { return new Buffer(size).fill(fill || 0); }
    static allocUnsafe(size) { return new Buffer(size); }
    static isBuffer(value) { return value instanceof Buffer; }
    static byteLength(text, encoding) { return typeof text === "string" ? encode(text, encoding).length : text.byteLength; }
    static concat(list) {
      var bytes = [];
      list.forEach(function (part) { for (var i = 0; i < part.length; i++) bytes.push(part[i]); });
      return new Buffer(bytes);
    }
    toString(encoding, start, end) {
      var bytes = this.subarray(start || 0, end === undefined ? this.length : end);
      switch (String(encoding || "utf8").toLowerCase()) {
        case "hex": return toHex(bytes);
        case "base64": return toBase64(bytes);
        case "ascii": case "latin1": case "binary": return latin1(bytes);
        default: return toUtf8(bytes);
      }
    }
    toJSON() { return { type: "Buffer", data: Array.from(this) }; }
    slice(start, end) { return this.subarray(start, end); }
    equals(other) { return this.length === other.length && this.every(function (byte, i) { return byte === other[i]; }); }
    readUIntBE(offset, length) {
      if (offset < 0 || offset + length > this.length) throw new RangeError("the payload ends before byte " + (offset + length));
      var value = 0;
      for (var i = 0; i < length; i++) value = value * 256 + this[offset + i];
      return value;
    }
    readUIntLE(offset, length) {
      if (offset < 0 || offset + length > this.length) throw new RangeError("the payload ends before byte " + (offset + length));
      var value = 0;
      for (var i = length - 1; i >= 0; i--) value = value * 256 + this[offset + i];
      return value;
    }
    readIntBE(offset, length) {
      var value = this.readUIntBE(offset, length), half = Math.pow(2, 8 * length - 1);
      return value >= half ? value - 2 * half : value;
    }
    readIntLE(offset, length) {
      var value = this.readUIntLE(offset, length), half = Math.pow(2, 8 * length - 1);
      return value >= half ? value - 2 * half : value;
    }
  }
  var method = function (name, body) { define(Buffer.prototype, name, body); define(Buffer.prototype, name.replace("UInt", "Uint"), body); };
  [8, 16, 32].forEach(function (bits) {
    ["Int", "UInt"].forEach(function (kind) {
      (bits === 8 ? [""] : ["LE", "BE"]).forEach(function (order) {
        var read = Buffer.prototype["read" + kind + (order || "BE")];
        method("read" + kind + bits + order, function (offset) { return read.call(this, offset || 0, bits / 8); });
      });
    });
  });
  [["Float", "getFloat32"], ["Double", "getFloat64"]].forEach(function (kind) {
    ["LE", "BE"].forEach(function (order) {
      method("read" + kind[0] + order, function (offset) {
        return new DataView(this.buffer, this.byteOffset, this.byteLength)[kind[1]](offset || 0, order === "LE");
      });
    });
  });
  define(G, "Buffer", Buffer);

  if (typeof G.btoa !== "function") define(G, "btoa", function (text) { return toBase64(fromLatin1(String(text))); });
  if (typeof G.atob !== "function") define(G, "atob", function (text) { return latin1(fromBase64(String(text))); });
  define(G, "TextDecoder", class TextDecoder {
    decode(bytes) { return bytes === undefined ? "" : toUtf8(bytes instanceof Uint8Array ? bytes : new Uint8Array(bytes.buffer || bytes)); }
  });
  define(G, "TextEncoder", class TextEncoder {
    encode(text) { return new Uint8Array(fromUtf8(String(text))); }
  });
})(globalThis);
