import assert from "node:assert/strict";
import { test } from "node:test";
import { linear, roundValues, ticks } from "../src/pure/calendar.ts";

const DAY = 86_400_000;

test("ticks are whole days, hours or minutes, whichever fits", () => {
  const from = new Date(2026, 10, 14).getTime();
  assert.deepEqual(ticks(from, from + 10.5 * DAY, 12).map((tick) => tick.text).slice(0, 3), ["14 Nov", "15 Nov", "16 Nov"]);
  const noon = new Date(2026, 10, 14, 12).getTime();
  assert.deepEqual(ticks(noon, noon + 4 * 3_600_000, 5).map((tick) => tick.text), ["12:00", "13:00", "14:00", "15:00", "16:00"]);
  assert.deepEqual(ticks(noon, noon + 1_000, 5).map((tick) => tick.text)[1], "00.200");
});

test("months and years begin on their first day", () => {
  const from = new Date(2025, 10, 14).getTime();
  assert.deepEqual(ticks(from, from + 120 * DAY, 5).map((tick) => tick.text), ["Dec", "2026", "Feb", "Mar"]);
  const years = ticks(new Date(2001, 5, 1).getTime(), new Date(2026, 1, 1).getTime(), 6);
  assert.deepEqual(years.map((tick) => tick.text), ["2005", "2010", "2015", "2020", "2025"]);
});

test("there are never more ticks than asked for, in any window", () => {
  for (let size = 1; size < 1e13; size *= 3.7) {
    const found = ticks(1_764_000_000_000, 1_764_000_000_000 + size, 8);
    assert.ok(found.length <= 9, `${found.length} ticks in ${size} ms`);
    assert.ok(found.every((tick, i) => i === 0 || tick.at > found[i - 1]!.at));
  }
  assert.deepEqual(ticks(5, 5, 8), []);
});

test("a scale of no width is flat, not NaN", () => {
  assert.equal(linear(5, 5, 0, 100)(5), 0);
  assert.equal(linear(0, 10, 100, 200)(5), 150);
});

test("values of a small axis are round", () => {
  assert.deepEqual(roundValues(0.9012, 0.9188, 4), [0.905, 0.91, 0.915]);
  assert.deepEqual(roundValues(1, 1), [1]);
  assert.deepEqual(roundValues(NaN, 1), []);
});
