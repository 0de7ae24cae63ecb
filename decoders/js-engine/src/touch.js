// Reads every property that can be reached once. QuickJS makes many builtins when they are first
// read; done here, before the image is taken, decoding need not do it again and again.
(function () {
  var seen = new Set(), queue = [globalThis];
  var add = function (value) {
    if (value !== null && (typeof value === "object" || typeof value === "function") && !seen.has(value)) {
      seen.add(value);
      queue.push(value);
    }
  };
  [function* () {}, async function () {}, async function* () {}, [][Symbol.iterator](), ""[Symbol.iterator](),
    new Map()[Symbol.iterator](), new Set()[Symbol.iterator](), /a/[Symbol.matchAll]("")].forEach(function (value) {
    add(Object.getPrototypeOf(value));
  });
  for (var i = 0; i < queue.length; i++) {
    var object = queue[i];
    Reflect.ownKeys(object).forEach(function (key) {
      var property = Object.getOwnPropertyDescriptor(object, key);
      add(property.value);
      add(property.get);
      add(property.set);
    });
    add(Object.getPrototypeOf(object));
  }
})();
