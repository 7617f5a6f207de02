import assert from "node:assert/strict";
import { test } from "node:test";
import * as filter from "../src/pure/filter.ts";

const kinds = (text: string): string => filter.tokens(text).map((token) => `${token.kind}:${token.text}`).join(" ");

test("a filter has parts", () => {
  assert.equal(
    kinds("tags.sweep = 'a b' and (metrics.`val loss` <= -1e-3 or NOT params.x IS NOT NULL)"),
    "field:tags.sweep operator:= string:'a b' join:and open:( field:metrics.`val loss` operator:<= number:-1e-3 " +
      "join:or join:NOT field:params.x operator:IS operator:NOT null:NULL close:)",
  );
  assert.equal(kinds("status IN ('A', \"B\")"), "field:status operator:IN open:( string:'A' comma:, string:\"B\" close:)");
  assert.equal(kinds("metrics.f1@5 > 3"), "field:metrics.f1@5 operator:> number:3");
});

test("what is not finished still has parts, and every character is in one", () => {
  for (const text of ["", "tags.", "x = 'abc", "`", "a = = 3 ;", "ü.ö > 1", "(((", "metrics.`a"]) {
    const found = filter.tokens(text);
    const between = found.reduce((left, token) => left.replace(token.text, ""), text);
    assert.equal(between.trim(), "", text);
    for (const token of found) assert.equal(text.slice(token.from, token.to), token.text);
  }
});

const at = (text: string): filter.Caret => filter.caretIn(text.replace("|", ""), text.indexOf("|"));

test("the place in a filter says what may come", () => {
  assert.equal(at("|").expects, "field");
  assert.deepEqual(at("met|"), { expects: "field", written: "met", from: 0, to: 3, field: "" });
  assert.deepEqual(at("status |").expects, "operator");
  assert.equal(at("status = |").expects, "value");
  assert.deepEqual(at("status = 'RU|"), { expects: "value", written: "'RU", from: 9, to: 12, field: "status" });
  assert.equal(at("status = 'RUNNING' |").expects, "join");
  assert.equal(at("status = 'RUNNING' AND |").expects, "field");
  assert.equal(at("status IN ('A', |").expects, "value");
  assert.equal(at("status IN ('A') |").expects, "join");
  assert.equal(at("(metrics.loss > 3 or |").expects, "field");
  assert.equal(at("params.lr |= 3").field, "params.lr");
});

test("names that fit are offered, the best first", () => {
  const names = ["status", "metrics.val_loss", "metrics.loss", "params.lr"].map((text) => ({ text, insert: text }));
  const offered = (written: string): string[] => filter.matching(names, written).map((one) => one.text);
  assert.deepEqual(offered("metrics.l"), ["metrics.loss"]);
  assert.deepEqual(offered("loss"), ["metrics.val_loss", "metrics.loss"]);
  assert.deepEqual(offered("zzz"), []);
  assert.equal(offered("").length, 4);
});

test("fields and texts are quoted where they need it, and read back", () => {
  for (const key of ["loss", "val loss", "a.b", "system/cpu", "über"]) {
    assert.deepEqual(filter.keyOf(filter.field("metrics", key)), ["metrics", key]);
    assert.equal(filter.tokens(filter.field("metrics", key)).length, 1);
  }
  for (const value of ["a", "it's", 'say "x"', `both ' and "`, ""]) {
    assert.equal(filter.facetValues(filter.withFacet("", "tags.t", [value]), "tags.t")[0], value);
  }
});

test("a click sets a condition beside what was typed", () => {
  assert.equal(filter.withFacet("", "status", ["FAILED"]), "status = 'FAILED'");
  assert.equal(filter.withFacet("metrics.a > 1", "status", ["FAILED", "KILLED"]), "metrics.a > 1 AND status IN ('FAILED', 'KILLED')");
  assert.equal(filter.withFacet("status = 'FAILED' AND metrics.a > 1", "status", []), "metrics.a > 1");
  assert.equal(filter.withFacet("a = 1 OR b = 2", "status", ["X"]), "(a = 1 OR b = 2) AND status = 'X'");
  assert.deepEqual(filter.facetValues("x = 1 AND status IN ('A', 'B')", "status"), ["A", "B"]);
  assert.deepEqual(filter.facetValues("x = 1 OR status = 'A'", "status"), []);
  assert.deepEqual(filter.facetValues("(status = 'A' OR x = 1) AND y = 2", "status"), []);
  assert.equal(filter.withCondition("a = 1 OR b = 2", "c = 3"), "(a = 1 OR b = 2) AND c = 3");
});

test("what is half written is not sent", () => {
  for (const text of ["", "a = 1", "a = 'x' AND b > 2", "status IN ('A')", "a IS NULL", "(a = 1)"]) assert.ok(filter.isWhole(text), text);
  for (const text of ["metrics.v", "a =", "a = 'x", "a = 1 AND", "(a = 1", "status IN ('A'", "NOT"]) assert.ok(!filter.isWhole(text), text);
});
