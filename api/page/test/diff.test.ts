import assert from "node:assert/strict";
import { test } from "node:test";
import { counts, groups, name, type Change } from "../src/pure/diff.ts";

const change = (more: Partial<Change>): Change => ({
  entity: "model", experiment_id: null, model: "digits", version: null, attribute: "tag", key: "k", before: "a", after: "b", events: [], ...more,
});

test("changes are grouped by model, then experiment; what serves comes first", () => {
  const found = groups([
    change({ model: null, experiment_id: "1", entity: "experiment" }), change({}), change({ attribute: "alias", key: "champion" }), change({ model: "ants" }),
  ]);
  assert.deepEqual(found.map((group) => group.title), ["model ants", "model digits", "experiment 1"]);
  assert.deepEqual(found[1]!.changes.map(name), ["@champion", "tag k"]);
});

test("what changed, in words", () => {
  assert.equal(name(change({ version: 2, attribute: "stage", key: null })), "version 2 · stage");
  assert.equal(name(change({ version: 2 })), "version 2 · tag k");
  assert.equal(name(change({ attribute: "description", key: null })), "description");
});

test("counts", () => {
  assert.deepEqual(counts([change({}), change({ before: null }), change({ after: null })]), { added: 1, changed: 1, removed: 1 });
});
