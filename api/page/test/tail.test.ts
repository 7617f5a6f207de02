import assert from "node:assert/strict";
import { test } from "node:test";
import { about, added, fits, KEPT_MAX, lagOfLine, type Line } from "../src/pure/tail.ts";

const line = (n: number, more: Partial<Line> = {}): Line => ({
  position: `runs:0:${n}`, stream: "runs", appended_at: "2026-03-01T12:00:00Z", type: "MetricsLogged", actor: "ada", actor_verified: false,
  client: null, outcome: "applied", ...more,
});

test("the newest line is first, each is there once, and old ones go", () => {
  const first = added([], [line(1), line(2)]);
  assert.deepEqual(first.map((one) => one.position), ["runs:0:2", "runs:0:1"]);
  assert.equal(added(first, [line(2)]), first);
  assert.equal(added(first, Array.from({ length: KEPT_MAX + 5 }, (_, i) => line(i + 3))).length, KEPT_MAX);
});

test("lines in words, and the words of a filter", () => {
  const points = line(1, { points: 3, keys: ["loss"] });
  assert.equal(about(points), "3 points of loss");
  const alias = line(2, { model: "digits", alias: "champion", version: 2, outcome: "refused", message: "expected 1" });
  assert.equal(about(alias), "digits @champion version 2");
  assert.ok(fits(points, "LOSS ada"));
  assert.ok(!fits(points, "-loss"));
  assert.ok(fits(alias, "refused expected -loss"));
  assert.ok(fits(line(3, { outcome: "dead_letter" }), "dead letter"));
});

test("the lag holds with a clock that is an hour off, and is never negative", () => {
  const at = Date.parse("2026-03-01T12:00:00Z");
  assert.equal(lagOfLine(line(1), at + 3_600_070, -3_600_000), 70);
  assert.equal(lagOfLine(line(1), at - 50, 0), 0);
});
