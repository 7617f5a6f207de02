import assert from "node:assert/strict";
import { test } from "node:test";
import { match, type Route } from "../src/frame/match.ts";
import { fromMlflow } from "../src/pure/mlflow-links.ts";

const load = (): never => assert.fail("nothing is loaded");
const routes: Route[] = ["/runs", "/runs/:run", "/models/:model/versions/:version"].map((path) => ({ path, under: path, load }));

test("a path finds its page, and what its parts name", () => {
  assert.equal(match("/runs", routes)?.route.path, "/runs");
  assert.equal(match("/", routes)?.route.path, "/runs");
  assert.equal(match("/runs/", routes)?.route.path, "/runs");
  assert.deepEqual(match("/runs/ab12", routes)?.params, { run: "ab12" });
  assert.deepEqual(match("/models/a%2Fb%20c/versions/3", routes)?.params, { model: "a/b c", version: "3" });
  assert.equal(match("/runs/a/b", routes), null);
  assert.equal(match("/models/50%/versions/3", routes), null);
});

test("links that MLflow's clients print lead to the same thing here", () => {
  assert.equal(fromMlflow("#/experiments/12/runs/ab12"), "/runs/ab12");
  assert.equal(fromMlflow("#/experiments/12/runs/ab12/artifacts"), "/runs/ab12");
  assert.equal(fromMlflow("#/experiments/12"), "/runs?experiments=12");
  assert.equal(fromMlflow("#/experiments/12?searchFilter=x"), "/runs?experiments=12");
  assert.equal(fromMlflow("#/models/a%20b/versions/3"), "/models/a%20b/versions/3");
  assert.equal(fromMlflow("#/models/a"), "/models/a");
  assert.equal(fromMlflow("#/models"), "/models");
  assert.equal(fromMlflow("#content"), null);
  assert.equal(fromMlflow(""), null);
});
