import assert from "node:assert/strict";
import { test } from "node:test";
import { lines } from "../src/pure/json.ts";

test("keys, strings and numbers have kinds; all of the text is kept", () => {
  const value = { 'a "b": 1': "x: 2, {", n: [-1.5e-9, true, null], s: '\\"' };
  const found = lines(value);
  assert.equal(found.map((line) => line.map((part) => part.text).join("")).join("\n"), JSON.stringify(value, null, 2));
  assert.deepEqual(found[1]!.filter((part) => part.kind).map((part) => part.kind), ["k", "str"]);
  assert.deepEqual(found[3]!.filter((part) => part.kind), [{ kind: "nu", text: "-1.5e-9" }]);
});
