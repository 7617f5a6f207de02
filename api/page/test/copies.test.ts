import assert from "node:assert/strict";
import { test } from "node:test";
import { shellText, sqlText } from "../src/pure/copies.ts";

test("texts in a shell and in SQL", () => {
  assert.equal(shellText("it's"), "'it'\\''s'");
  assert.equal(sqlText(`it's "so"`), `'it''s "so"'`);
});
