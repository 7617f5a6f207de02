import assert from "node:assert/strict";
import { test } from "node:test";
import { layoutOf, layoutText, moved, pagesOf, reveal, visible } from "../src/pure/window.ts";

test("only rows in sight, and some around them, are drawn", () => {
  assert.deepEqual(visible(0, 280, 28, 100_000, 5), { from: 0, to: 15 });
  assert.deepEqual(visible(28 * 50_000, 280, 28, 100_000, 5), { from: 49_995, to: 50_015 });
  assert.deepEqual(visible(1e9, 280, 28, 100, 5), { from: 100, to: 100 });
  assert.deepEqual(visible(0, 280, 28, 3, 5), { from: 0, to: 3 });
});

test("a row comes into sight by the shortest way", () => {
  assert.equal(reveal(5, 0, 280, 28), 0);
  assert.equal(reveal(10, 0, 280, 28), 28);
  assert.equal(reveal(2, 280, 280, 28), 56);
});

test("a span is made of pages", () => {
  assert.deepEqual(pagesOf({ from: 190, to: 410 }, 200), [0, 1, 2]);
  assert.deepEqual(pagesOf({ from: 200, to: 400 }, 200), [1]);
  assert.deepEqual(pagesOf({ from: 5, to: 5 }, 200), []);
});

test("an arrangement of columns survives the address", () => {
  const layout = { columns: ["run_name", "params.a,b|c:d", "metrics.λ"], pinned: 1, widths: { run_name: 240 } };
  assert.deepEqual(layoutOf(layoutText(layout)), layout);
  assert.deepEqual(layoutOf(layoutText({ ...layout, pinned: 0 })), { ...layout, pinned: 0 });
  assert.equal(layoutOf(""), null);
  assert.deepEqual(layoutOf("a,a,%,b:99999")?.columns, ["a", "b"]);
});

test("a column moves before another", () => {
  assert.deepEqual(moved(["a", "b", "c"], "c", "a"), ["c", "a", "b"]);
  assert.deepEqual(moved(["a", "b", "c"], "a", null), ["b", "c", "a"]);
  assert.deepEqual(moved(["a", "b", "c"], "a", "x"), ["a", "b", "c"]);
});
