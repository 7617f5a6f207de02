import assert from "node:assert/strict";
import { test } from "node:test";
import { archived, rollbacks, setAlias, setStage, stageToMove } from "../src/pure/promote.ts";
import type { Bar, Timeline } from "../src/pure/timeline.ts";

const bar = (version: number, from: number, to: number | null): Bar => ({
  version, valid_from: "", valid_to: to === null ? null : "", from_offset: from, to_offset: to, set_by: null, verified: null, reason: null,
});
const timeline: Timeline = {
  model: "a/b", metric: null, metrics: [], refused: [],
  lanes: [
    { kind: "alias", name: "champion", bars: [bar(1, 0, 5), bar(3, 5, 7), bar(2, 7, 9), bar(4, 9, null)] },
    { kind: "stage", name: "Production", bars: [bar(4, 9, null), bar(2, 8, null)] },
  ],
  versions: [[1, "None"], [2, "Production"], [4, "Production"]].map(([version, stage]) => ({ version: version as number, stage: stage as string, created_at: "", run_id: null, metric: null, aliases: [] })),
};

test("a rollback offers former holders that exist still", () => {
  const found = rollbacks(timeline, "champion");
  assert.equal(found.holder?.version, 4);
  assert.deepEqual(found.former.map((one) => one.bar.version), [2, 1]);
  assert.deepEqual(rollbacks(timeline, "nobody"), { holder: null, former: [] });
});

test("what is asked names the holder that was seen; 0 means none", () => {
  const asked = setAlias("a/b", "x y", 2, 4, "why");
  assert.equal(asked.path, "/api/v1/models/a%2Fb/aliases/x%20y");
  assert.deepEqual(asked.body, { version: 2, expected: 4, reason: "why" });
  assert.equal(asked.text, "@x y: 4 → 2");
  assert.deepEqual(setAlias("m", "new", 1, null, "r").body, { version: 1, expected: 0, reason: "r" });
  assert.deepEqual(setStage("m", 1, "Production", "None", true, "r").body, { stage: "Production", expected: "None", archive_existing_versions: true, reason: "r" });
});

test("a stage moves with the alias unless the version is in it", () => {
  assert.deepEqual(stageToMove(timeline, 4, 1), { stage: "Production", expected: "None" });
  assert.equal(stageToMove(timeline, 4, 2), null);
  assert.equal(stageToMove(timeline, null, 2), null);
  assert.deepEqual(archived(timeline, "Production", 1), [4, 2]);
});
