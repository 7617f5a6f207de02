import assert from "node:assert/strict";
import { test } from "node:test";
import * as runs from "../src/pure/runs-query.ts";

test("an address says what is shown", () => {
  const view = runs.viewOf(new URLSearchParams("q=status = 'X'&sort=-metrics.loss&mode=flat&sel=a,b&cols=run_name,metrics.loss&experiments=1"));
  assert.equal(view.filter, "status = 'X'");
  assert.deepEqual(view.order, { column: "metrics.loss", descending: true });
  assert.deepEqual(view.selected, ["a", "b"]);
  assert.deepEqual(view.layout?.columns, ["run_name", "metrics.loss"]);
  assert.deepEqual(view.experiments, ["1"]);
  assert.equal(runs.viewOf(new URLSearchParams("mode=nonsense")).mode, "tree");
});

test("rows are asked for with what each of them needs", () => {
  const view = runs.viewOf(new URLSearchParams("sort=metrics.loss"));
  const query = runs.rowsQuery(view, ["run_name", "metrics.loss"], "registry:0:3");
  assert.equal(query.tree, true);
  assert.equal(query.as_of, "registry:0:3");
  assert.ok(query.columns?.includes("run_id") && query.columns.includes("children") && query.columns.includes("metrics.loss"));
  assert.equal(new Set(query.columns).size, query.columns?.length);
});

test("groups have metrics only, and an order that they know", () => {
  const view = runs.viewOf(new URLSearchParams("mode=group&group=params.lr&sort=-mean(metrics.loss)"));
  const query = runs.rowsQuery(view, ["run_name", "params.lr", "metrics.loss"], null);
  assert.deepEqual(query.columns, ["metrics.loss"]);
  assert.deepEqual(query.order, [{ column: "mean(metrics.loss)", descending: true }]);
  assert.equal(query.tree, undefined);
  const other = runs.viewOf(new URLSearchParams("mode=group&group=params.lr&sort=start_time"));
  assert.deepEqual(runs.rowsQuery(other, [], null).order, []);
});

test("columns have names for people", () => {
  assert.equal(runs.titleOf("metrics.val/loss"), "val/loss");
  assert.equal(runs.titleOf("metrics.loss.min"), "loss min");
  assert.equal(runs.titleOf(runs.columnOf("metrics", "loss.min")), "loss.min");
  assert.equal(runs.titleOf("mean(metrics.loss)"), "loss mean");
  assert.equal(runs.titleOf("start_time"), "Started");
  assert.equal(runs.titleOf("params.lr"), "lr");
});

test("columns at first are what most runs have", () => {
  const keys = {
    params: [{ key: "lr", runs: 90 }, { key: "rare", runs: 2 }],
    metrics: [{ key: "system/cpu", runs: 100 }, { key: "loss", runs: 100 }],
    tags: [], params_count: 2, metrics_count: 2, tags_count: 0,
  };
  const columns = runs.defaultColumns(keys, 100);
  assert.ok(columns.includes("metrics.loss") && columns.includes("params.lr"));
  assert.ok(!columns.includes("params.rare") && !columns.includes("metrics.system/cpu"));
});

test("the question can be copied for other tools, quoted", () => {
  const texts = runs.copies({ filter: `tags.t = 'it"s'`, order: [{ column: "metrics.loss", descending: true }] }, "SELECT 1", "http://host");
  assert.equal(texts.SQL?.(), "SELECT 1");
  assert.ok(texts.curl?.().includes(`'\\''it\\"s'\\''`));
  assert.ok(texts.MLflow?.().includes(`filter_string="tags.t = 'it\\"s'"`));
  assert.equal(runs.copies({ filter: "" }, null, "http://host").SQL, undefined);
});
