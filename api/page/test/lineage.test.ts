import assert from "node:assert/strict";
import { test } from "node:test";
import { place, type Node } from "../src/pure/lineage.ts";

const node = (id: string, column: number): Node => ({ id, column, title: id, note: "" });

test("columns are centred, and no two nodes overlap", () => {
  const graph = place([node("data", 0), node("commit", 0), node("run", 1), node("v", 3)], [["data", "run"], ["run", "v"], ["x", "v"]], 900);
  const [data, commit, run, version] = graph.nodes;
  assert.ok(data!.y + data!.height < commit!.y);
  assert.equal(run!.y + run!.height / 2, graph.height / 2);
  assert.ok(data!.x + data!.width < run!.x && run!.x + run!.width < version!.x);
  assert.equal(graph.edges.length, 2); // an edge of a node that is not there is left out
  assert.ok(graph.width <= 900);
});

test("an empty graph is empty", () => assert.deepEqual(place([], [], 900).nodes, []));
