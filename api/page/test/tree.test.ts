import assert from "node:assert/strict";
import { test } from "node:test";
import { lineAt, lineCount, rowsIn, type Line } from "../src/pure/tree.ts";

const lines = (...rows: string[]): Line<string>[] => rows.map((row) => ({ row, depth: 1 }));

test("opened rows have lines below them", () => {
  const opened = [{ index: 1, lines: lines("a", "b") }, { index: 3, lines: lines("c") }];
  assert.equal(lineCount(5, opened), 8);
  const all = Array.from({ length: 8 }, (_, i) => lineAt(i, opened)).map((one) => (typeof one === "number" ? one : one.row));
  assert.deepEqual(all, [0, 1, "a", "b", 2, 3, "c", 4]);
  assert.deepEqual(rowsIn(2, 7, opened), { from: 1, to: 4 });
  assert.deepEqual(rowsIn(0, 1, opened), { from: 0, to: 1 });
  assert.deepEqual(rowsIn(4, 4, opened), { from: 2, to: 2 });
});

test("without opened rows each line is a row", () => {
  assert.equal(lineCount(3, []), 3);
  assert.equal(lineAt(2, []), 2);
});
