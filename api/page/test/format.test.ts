import assert from "node:assert/strict";
import { test } from "node:test";
import * as format from "../src/pure/format.ts";

test("numbers have four significant digits", () => {
  assert.equal(format.number(0.031274), "0.03127");
  assert.equal(format.number(12.3456), "12.35");
  assert.equal(format.number(1234.56), "1235");
  assert.equal(format.number(-0.5), "−0.5000");
  assert.equal(format.number(123456.7), "123\u2009457");
  assert.equal(format.number(10_000_000), "10\u2009000\u2009000");
  assert.equal(format.number(3), "3");
});

test("small and large numbers keep their size", () => {
  assert.equal(format.number(1e-9), "1e−9");
  assert.equal(format.number(1.23456e-9), "1.235e−9");
  assert.equal(format.number(1.5e20), "1.5e20");
  assert.equal(format.number(NaN), "NaN");
  assert.equal(format.number(Infinity), "∞");
  assert.equal(format.number(-Infinity), "−∞");
  assert.equal(format.number(-0), "0");
});

test("a column has one precision, and nothing in it shows as zero", () => {
  assert.equal(format.places([0.91, 0.8734, NaN]), 4);
  assert.equal(format.places([1.29, 0.0012]), 4);
  const decimals = format.places([91, 87.34, NaN, 0.0000001]);
  assert.equal(decimals, 4);
  assert.equal(format.inColumn(0.91, decimals), "0.9100");
  assert.equal(format.inColumn(0.0000001, decimals), "1e−7");
  assert.equal(format.inColumn(0, decimals), "0.0000");
  assert.equal(format.places([3, 12, 100]), 0);
  assert.equal(format.places([1e-9, 3e-12]), null);
});

test("bytes and durations", () => {
  assert.equal(format.bytes(999), "999\u00a0B");
  assert.equal(format.bytes(1_234_567_890), "1.23\u00a0GB");
  assert.equal(format.duration(0.42), "420 ms");
  assert.equal(format.duration(8.25), "8.3 s");
  assert.equal(format.duration(59.97), "1 min");
  assert.equal(format.duration(200), "3 min 20 s");
  assert.equal(format.duration(7_500), "2 h 5 min");
  assert.equal(format.duration(100_000), "1 d 3 h");
  assert.equal(format.duration(-30), "−30 s");
});

test("times are absolute, with the year of another year", () => {
  const now = new Date("2026-11-25T10:00:00Z");
  assert.equal(format.time(new Date("2026-11-24T17:09:29Z"), { utc: true, now }), "24 Nov 17:09:29");
  assert.equal(format.time(new Date("2025-03-01T02:03:04Z"), { utc: true, now, seconds: false }), "1 Mar 2025 02:03");
});

test("times relative to now", () => {
  const now = new Date("2026-11-25T10:00:00Z");
  const at = (seconds: number): string => format.ago(new Date(now.getTime() - seconds * 1000), now);
  assert.equal(at(3), "now");
  assert.equal(at(50), "50 s ago");
  assert.equal(at(7_300), "2 h ago");
  assert.equal(at(86_400 * 70), "2 months ago");
  assert.equal(at(-7_300), "in 2 h");
});

test("positions as people say them", () => {
  assert.equal(format.position("registry:0:1204"), "offset 1204");
  assert.equal(format.position("runs:3:12045"), "runs 3, offset 12\u2009045");
  assert.equal(format.position("2026-03-12T14:02:00Z"), "2026-03-12T14:02:00Z");
});
