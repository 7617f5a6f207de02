import assert from "node:assert/strict";
import { test } from "node:test";
import { asNumber, axis, better, box, differences } from "../src/pure/compare.ts";

test("only what differs is told apart, with the best value", () => {
  const runs = [{ "params.lr": "0.1", "params.seed": "1", "metrics.val_loss": 0.3, "metrics.acc": 0.9 }, { "params.lr": "0.1", "params.seed": "2", "metrics.val_loss": 0.2, "metrics.acc": 0.8 }];
  const found = differences(["params.lr", "params.seed", "params.none", "metrics.val_loss", "metrics.acc"], runs);
  assert.deepEqual(found.map((one) => [one.id, one.differs, one.best]), [
    ["params.lr", false, null], ["params.seed", true, null], ["metrics.val_loss", true, 1], ["metrics.acc", true, 0],
  ]);
  assert.equal(differences(["params.a"], [{ "params.a": "1" }, {}])[0]!.differs, true);
});

test("the name of a metric says which way is better, or nothing", () => {
  assert.equal(better("metrics.train_loss"), "less");
  assert.equal(better("metrics.val_auc"), "more");
  assert.equal(better("metrics.alpha"), null);
});

test("axes hold numbers by size and names by order", () => {
  const numbers = axis("params.lr", ["0.001", "0.1", "1"], String);
  assert.equal(numbers.log, true);
  assert.equal(numbers.at("0.001"), 0);
  assert.equal(numbers.at("1"), 1);
  assert.ok(Math.abs(numbers.at("0.1")! - 2 / 3) < 1e-9);
  assert.equal(numbers.at(null), null);
  const names = axis("params.kind", ["mlp", "sgd", null], String);
  assert.deepEqual([names.at("mlp"), names.at("sgd"), names.at(undefined)], [0, 1, null]);
  assert.equal(axis("x", [5, 5], String).at(5), 0.5);
  assert.deepEqual(axis("x", [0, 0.001, 0.5, 0.999, 1], String).marks.map((mark) => mark.text), ["0", "0.5", "1"]);
  assert.equal(asNumber("Infinity"), null);
  assert.equal(asNumber(" "), null);
});

test("a box has the quartiles", () => {
  assert.deepEqual(box([4, 1, 3, 2, 5]), [1, 2, 3, 4, 5]);
  assert.deepEqual(box([7]), [7, 7, 7, 7, 7]);
  assert.equal(box([]), null);
});
