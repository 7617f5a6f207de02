import assert from "node:assert/strict";
import { test } from "node:test";
import { draw, guess, sentence, type Table } from "../src/pure/chart.ts";
import { asPython } from "../src/pure/copies.ts";
import { asCommand, asCurl, errorPlace, errorText, lineOf, titleOf } from "../src/pure/sql.ts";

const mark = (statement: string, message: string): string | null => {
  const place = errorPlace(statement, message);
  return place && statement.slice(place.from, place.to);
};

test("the place of an error is the caret under the line", () => {
  const statement = "SELECT * FROM runs WHER x = 1";
  assert.equal(mark(statement, 'Parser Error: syntax error at or near "x"\n\nLINE 1: SELECT * FROM runs WHER x = 1\n                                ^'), "x");
  const two = "SELECT 1,\n  foo FROM runs";
  assert.equal(mark(two, "Binder Error: no\n\nLINE 2:   foo FROM runs\n          ^"), "foo");
});

test("a line that the message cuts is found by the part that is shown", () => {
  const statement = `SELECT ${"1, ".repeat(40)}oops FROM runs`;
  const shown = "...1, 1, 1, oops FROM runs";
  const caret = " ".repeat("LINE 1: ".length + shown.indexOf("oops"));
  assert.equal(errorPlace(statement, `Parser Error: x\n\nLINE 1: ${shown}\n${caret}^`)?.to, statement.indexOf("oops") + 4);
});

test("without a caret it is the name that the message has", () => {
  assert.equal(mark("SELECT names, nam FROM runs", 'Binder Error: Referenced column "nam" not found in FROM clause!'), "nam");
  assert.equal(mark("SELECT foo(3)", "Catalog Error: Scalar Function with name foo does not exist!"), "foo");
  assert.equal(mark("SELECT 1", "the query took too long"), null);
});

test("messages, places and titles as people read them", () => {
  assert.equal(errorText('Parser Error: syntax error\n\nLINE 1: SELECT\n   ^'), "Parser Error: syntax error");
  assert.deepEqual(lineOf("a\nbc", 3), { line: 2, column: 2 });
  assert.equal(titleOf("-- who held it\nSELECT 1"), "who held it");
  assert.equal(titleOf("SELECT\n  1"), "SELECT 1");
});

test("the same query elsewhere keeps its quotes", () => {
  assert.equal(asCommand("SELECT 'a'", "http://h"), "modeltrail sql --server http://h 'SELECT '\\''a'\\'''");
  assert.match(asCurl("SELECT 'a\n'", "http://h", true), /Bearer \$MODELTRAIL_TOKEN.*'\{"statement":"SELECT '\\''a\\n'\\''"\}'$/);
  assert.equal(asPython("FROM runs", "http://h"), 'from modeltrail.api import query\n\nquery("FROM runs", url="http://h").df()');
});

const table = (columns: string[], types: string[], rows: unknown[][]): Table => ({ columns, types, rows });

test("a chart is guessed from the types", () => {
  const held = table(["version", "valid_from", "reason", "auc"], ["BIGINT", "TIMESTAMP", "VARCHAR", "DOUBLE"], [
    [1, "2026-03-01T00:00:00Z", "a", 0.9], [2, "2026-03-02T00:00:00Z", "b", 0.91], [1, "2026-03-03T00:00:00Z", "c", 0.9]]);
  assert.deepEqual(guess(held), { kind: "steps", x: "valid_from", y: "auc", colour: "version" });
  const curves = table(["step", "kind", "loss"], ["BIGINT", "VARCHAR", "DOUBLE"], [[0, "a", 1], [1, "a", 0.5], [0, "b", 1], [1, "b", 0.4]]);
  assert.deepEqual(guess(curves), { kind: "lines", x: "step", y: "loss", colour: "kind" });
  const counts = table(["status", "n"], ["VARCHAR", "BIGINT"], [["FINISHED", 12], ["FAILED", 1]]);
  assert.deepEqual(guess(counts), { kind: "bars", x: "status", y: "n", colour: null });
  const cloud = table(["lr", "acc"], ["DOUBLE", "DOUBLE"], [[0.3, 0.9], [0.1, 0.8], [0.2, 0.7]]);
  assert.deepEqual(guess(cloud), { kind: "points", x: "lr", y: "acc", colour: null });
  assert.equal(guess(table(["name"], ["VARCHAR"], [["a"], ["b"]])), null);
});

test("what has no place is counted, bars begin at zero, and more series than can be told apart are counted", () => {
  const odd = table(["k", "v"], ["VARCHAR", "DOUBLE"], [["a", 3], ["b", "NaN"], ["c", null], ["d", 5]]);
  const bars = draw(odd, { kind: "bars", x: "k", y: "v", colour: null })!;
  assert.deepEqual(bars.y, [0, 5]);
  assert.equal(bars.series[0]!.left, 2);
  const many = table(["x", "y", "c"], ["BIGINT", "DOUBLE", "VARCHAR"], Array.from({ length: 64 }, (_, i) => [i, i, `s${i % 32}`]));
  assert.equal(draw(many, { kind: "lines", x: "x", y: "y", colour: "c" })!.more, 2);
  const flat = draw(table(["x", "y"], ["BIGINT", "DOUBLE"], [[1, 7], [2, 7]]), { kind: "lines", x: "x", y: "y", colour: null })!;
  assert.ok(flat.y[0] < 7 && flat.y[1] > 7);
  assert.match(sentence({ kind: "bars", x: "k", y: "v", colour: null }, bars), /^v by k: 2 values from 0 to 5$/);
});
