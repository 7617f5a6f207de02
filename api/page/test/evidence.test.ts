import assert from "node:assert/strict";
import { test } from "node:test";
import { betterIs, differing, weigh } from "../src/pure/evidence.ts";

test("whether more is better, where the name says it", () => {
  assert.equal(betterIs("val_accuracy"), "higher");
  assert.equal(betterIs("train_loss"), "lower");
  assert.equal(betterIs("latency_p99_ms"), "lower");
  assert.equal(betterIs("Recall@5"), "higher");
  assert.equal(betterIs("classes"), null); // not "s"
});

test("better and worse, from the difference and the direction", () => {
  assert.ok(weigh("loss", 0.1, 0.2).better! > 0);
  assert.ok(weigh("acc", 0.1, 0.2).better! < 0);
  assert.equal(weigh("size", 1, 2).better, null);
  assert.equal(weigh("size", 1, 2).difference, -1);
  assert.equal(weigh("acc", NaN, 2).difference, null);
  assert.equal(weigh("acc", 1, null).better, null);
  assert.equal(weigh("acc", 0, 0).better, 0);
  assert.equal(weigh("acc", 1, -1).better, 1);
});

test("only what differs between two runs", () => {
  const a = { params: { lr: "1", depth: "3" }, metrics: [{ key: "acc", value: 0.5 }] };
  const b = { params: { lr: "2", depth: "3", new: "x" }, metrics: [{ key: "acc", value: 0.5 }, { key: "f1", value: "NaN" }] };
  assert.deepEqual(differing(a, b).map((one) => [one.kind, one.key, one.a, one.b]), [
    ["param", "lr", "1", "2"], ["param", "new", null, "x"], ["metric", "f1", null, "NaN"],
  ]);
  assert.deepEqual(differing(a, a), []);
});
