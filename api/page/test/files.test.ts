import assert from "node:assert/strict";
import { test } from "node:test";
import { kindOf, rowsOf } from "../src/pure/files.ts";

test("files are shown by their names, and never run", () => {
  assert.deepEqual(kindOf("plots/a.PNG"), { image: "image/png" });
  assert.equal(kindOf("page.html"), "text");
  assert.equal(kindOf("model/MLmodel"), "text");
  assert.equal(kindOf("a.json"), "json");
  assert.equal(kindOf("a.tsv"), "csv");
  assert.equal(kindOf("model.pkl"), null);
});

test("CSV has quoted cells with separators, quotes and lines in them", () => {
  assert.deepEqual(rowsOf('a,b\r\n"x, ""y""",2\n"two\nlines",3', ",", 10), [["a", "b"], ['x, "y"', "2"], ["two\nlines", "3"]]);
  assert.equal(rowsOf("a\n".repeat(50), ",", 5).length, 5);
  assert.deepEqual(rowsOf("", ",", 5), []);
});
