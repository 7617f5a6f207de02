import assert from "node:assert/strict";
import { test } from "node:test";
import { lagOf, troubles, type ServerStatus } from "../src/pure/status.ts";

const well: ServerStatus = {
  version: "0.1.0", projection_version: 7, log: "./data", pid: 1, events_folded: 10, dead_letters: 0, fold_error: null,
  folded_at_ms: 0, disk: { free_bytes: 50, total_bytes: 100 }, webhooks: null, positions: { "runs:0": 10 }, lag: { "runs:0": 0 },
};

test("a server that is well has no troubles", () => {
  assert.deepEqual(troubles(well), []);
  assert.equal(lagOf(well), 0);
  assert.equal(lagOf({ ...well, lag: null }), null);
});

test("what is worse comes first, and each says what to do", () => {
  const ill = troubles({
    ...well, dead_letters: 1, fold_error: "disk full", lag: { "runs:0": 9_000, "registry:0": 2_000 }, disk: { free_bytes: 1, total_bytes: 100 },
    webhooks: { position: "registry:0:1", lag: 0, pending: 0, dead: 2, replays: 0, error: null },
    checks: [{ name: "clock", ok: false, found: "an hour off", repair: "set it" }, { name: "log", ok: true, found: "fine", repair: null }],
  });
  assert.deepEqual(ill.map((one) => one.kind), ["bad", "bad", "warn", "warn", "warn", "warn"]);
  assert.match(ill[0]!.what, /disk full/);
  assert.equal(ill[1]!.repair, "set it");
  assert.ok(ill.some((one) => one.what === "1 event is a dead letter"));
  assert.ok(ill.some((one) => one.what.startsWith("The tables are 11\u2009000 events behind")));
});
