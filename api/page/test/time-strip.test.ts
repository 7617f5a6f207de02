import assert from "node:assert/strict";
import { test } from "node:test";
import { height, marks, placeOf, timeAt } from "../src/pure/time-strip.ts";

test("a moment has a place, and a place a moment", () => {
  assert.equal(placeOf(150, 100, 200), 0.5);
  assert.equal(placeOf(50, 100, 200), 0);
  assert.equal(placeOf(100, 100, 100), 1);
  assert.equal(timeAt(0.25, 100, 200), 125);
  assert.equal(timeAt(2, 100, 200), 200);
});

test("one event beside a thousand can be seen", () => {
  assert.equal(height(0, 1000), 0);
  assert.ok(height(1, 1000) >= 0.1);
  assert.equal(height(1000, 1000), 1);
});

test("marks are few, within the strip, and in order", () => {
  const now = new Date(2026, 10, 24, 17, 9).getTime();
  for (const span of [60_000, 600_000, 3_600_000, 86_400_000, 9 * 86_400_000, 300 * 86_400_000, 6 * 365 * 86_400_000]) {
    const found = marks(now - span, now);
    assert.ok(found.length <= 9, String(span));
    assert.ok(found.every((mark, i) => mark.at >= now - span && mark.at <= now && (i === 0 || mark.at > found[i - 1]!.at)));
  }
  assert.deepEqual(marks(now - 3 * 86_400_000, now).map((mark) => mark.text).slice(-2), ["24 Nov", "12:00"]);
  assert.deepEqual(marks(now, now), []);
});
