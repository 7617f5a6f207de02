import assert from "node:assert/strict";
import { test } from "node:test";
import { fieldText, parseMoment } from "../src/pure/moments.ts";

const NOW = new Date("2026-03-12T14:02:17.000Z");
const of = (text: string): string | null | undefined => parseMoment(text, NOW)?.as_of;

test("positions", () => {
  assert.equal(of("registry:0:31"), "registry:0:31");
  assert.equal(of(" 31 "), "registry:0:31");
  assert.equal(of("offset 1\u2009204"), "registry:0:1204");
});

test("now, and nothing, are now", () => {
  assert.equal(of("now"), null);
  assert.equal(of(""), null);
});

test("times, in the reader's zone unless they name another", () => {
  assert.equal(of("2026-03-12T14:02:17Z"), "2026-03-12T14:02:17.000Z");
  assert.equal(of("2026-03-12 14:02 UTC"), "2026-03-12T14:02:00.000Z");
  assert.equal(of("2026-03-12 14:02+02:00"), "2026-03-12T12:02:00.000Z");
  assert.equal(of("2026-03-12T14:02:17.123456Z"), "2026-03-12T14:02:17.123456Z");
  assert.equal(of("2026-03-12"), new Date(2026, 2, 12).toISOString());
  assert.equal(of(fieldText(NOW)), NOW.toISOString());
});

test("how long ago", () => {
  assert.equal(of("3 h ago"), "2026-03-12T11:02:17.000Z");
  assert.equal(of("2d"), "2026-03-10T14:02:17.000Z");
  assert.equal(of("20 min"), "2026-03-12T13:42:17.000Z");
});

test("what is no moment is null, not a wrong one", () => {
  for (const text of ["soon", "2026-13-01", "2026-02-30", "runs:0:4", "-4", "12:30"]) assert.equal(parseMoment(text, NOW), null, text);
});
