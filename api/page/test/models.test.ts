import assert from "node:assert/strict";
import { test } from "node:test";
import { byModel, type Refused } from "../src/pure/models.ts";

const one = { model: "m", version: 1, kind: "alias" as const, name: "champion", set_at: "", set_by: "ada", verified: true, reason: null, from_offset: 1 };
const refusal = (log_offset: number, model: string | null): Refused => ({ log_offset, model, appended_at: "", actor: null, actor_verified: null, code: null, message: null });

test("holders are gathered by model, in their order", () => {
  const { holdings } = byModel([one, { ...one, kind: "stage", name: "Production" }, { ...one, model: "n" }], []);
  assert.deepEqual(holdings.get("m")!.map((held) => held.name), ["champion", "Production"]);
  assert.equal(holdings.get("n")!.length, 1);
});

test("the newest refusal of each model", () => {
  const { refused } = byModel([], [refusal(3, "m"), refusal(9, "m"), refusal(10, null)]);
  assert.equal(refused.get("m")!.log_offset, 9);
  assert.equal(refused.size, 1);
});
