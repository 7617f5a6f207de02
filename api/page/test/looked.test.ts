import assert from "node:assert/strict";
import { test } from "node:test";
import { look, parseVisits, VISIT_MS } from "../src/pure/looked.ts";

test("a reload belongs to the same visit; a later look begins a new one", () => {
  const first = look(null, 10, 1_000);
  assert.equal(first.before, null);
  const again = look(first, 12, 2_000);
  assert.equal(again.before, null);
  const later = look(again, 20, 3_000 + VISIT_MS);
  assert.deepEqual(later.before, { offset: 12, at: 2_000 });
  assert.deepEqual(look(later, 21, 4_000 + VISIT_MS).before, { offset: 12, at: 2_000 });
});

test("a clock that went back changes no line", () => {
  const visits = { now: { offset: 5, at: 9_000_000 }, before: { offset: 1, at: 1 } };
  assert.deepEqual(look(visits, 6, 1_000).before, { offset: 1, at: 1 });
});

test("what is stored comes back, and anything else is nothing", () => {
  const visits = look(null, 10, 1_000);
  assert.deepEqual(parseVisits(JSON.stringify(visits)), visits);
  for (const text of [null, "", "{", "3", "{}", '{"now":{"offset":"1","at":2}}']) assert.equal(parseVisits(text), null);
});
