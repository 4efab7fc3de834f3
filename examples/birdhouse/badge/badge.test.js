const assert = require("node:assert");
const test = require("node:test");
const { draw } = require("./app.js");

test("text is escaped", () => {
  assert.match(draw("a<b"), /a&#60;b/);
});
