// Finds the one entry point of a script, the newest convention first, and gives a function that
// calls it and returns {data, errors, warnings}. The script may hold several: only one is ever run.
// A device without variables comes with none.
(function () {
  "use strict";
  var exported = typeof module === "object" && module !== null && typeof module.exports === "object" && module.exports || {};
  var find = function (global, name) {
    return typeof global === "function" ? global : typeof exported[name] === "function" ? exported[name] : undefined;
  };
  var decodeUplink_ = find(typeof decodeUplink === "undefined" ? undefined : decodeUplink, "decodeUplink");
  if (decodeUplink_) {
    // Made before the image is taken, so that the first call of an uplink need not make it.
    var ready = { bytes: undefined, fPort: undefined, recvTime: undefined, variables: {} };
    return function (bytes, fPort, recvTime, variables) {
      var input = ready || { bytes: undefined, fPort: undefined, recvTime: undefined, variables: {} };
      ready = undefined;
      input.bytes = bytes;
      input.fPort = fPort;
      input.recvTime = new Date(recvTime);
      if (variables) input.variables = variables;
      var result = decodeUplink_(input);
      if (typeof result !== "object" || result === null) {
        throw new TypeError("decodeUplink returned " + result + ": return {data: {...}}");
      }
      return result;
    };
  }
  var Decode_ = find(typeof Decode === "undefined" ? undefined : Decode, "Decode");
  if (Decode_) {
    return function (bytes, fPort, recvTime, variables) { return { data: Decode_(fPort, bytes, variables || {}) }; };
  }
  var Decoder_ = find(typeof Decoder === "undefined" ? undefined : Decoder, "Decoder");
  if (Decoder_) {
    return function (bytes, fPort) { return { data: Decoder_(bytes, fPort) }; };
  }
  return undefined;
})();
