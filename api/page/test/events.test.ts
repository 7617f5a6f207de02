import assert from "node:assert/strict";
import { test } from "node:test";
import { asked, blame, body, claimedAt, eventSentence, evidence, outcome, race, valueSet, words, type TrailEvent } from "../src/pure/events.ts";

const event = (log_offset: number, more: Partial<TrailEvent> = {}): TrailEvent => ({
  log_offset, appended_at: new Date(Date.UTC(2026, 2, 12, 14, 0, 0, log_offset)).toISOString(), event_id: `e${log_offset}`,
  type: "SetRegisteredModelAlias", actor: "ada", actor_verified: true, client: null, reason: null, entity: "alias", model: "fraud",
  version: 1, alias: "champion", experiment_id: null, about: "model fraud@champion version 1", accepted: true, code: null, message: null,
  request: { model: "fraud", alias: "champion", version: 1 }, hash: "", ...more,
});

test("outcomes", () => {
  assert.equal(outcome(event(1)), "accepted");
  assert.equal(outcome(event(1, { accepted: false, code: "RESOURCE_CONFLICT" })), "refused");
  assert.equal(outcome(event(1, { type: null, accepted: null })), "dead letter");
  assert.equal(outcome(event(1, { outcome: "dead_letter" })), "dead letter");
});

test("what was asked, in words", () => {
  assert.equal(asked(event(1)), "@champion → 1");
  assert.equal(eventSentence(event(1)), "ada asked for @champion → 1");
  assert.equal(asked(event(1, { type: "TransitionModelVersionStage", request: { stage: "Staging" } })), "version 1 → Staging");
  assert.equal(eventSentence(event(1, { type: "CreateExperiment", about: "experiment digits", version: null })), "ada: create experiment, experiment digits");
  assert.equal(words(null), "not decoded");
});

test("the body is what the client sent, the envelope apart", () => {
  const one = event(1, { request: { envelope: { occurred_at_ms: 0 }, model: "fraud" } });
  assert.deepEqual(body(one), { model: "fraud" });
  assert.equal(claimedAt(one), "1970-01-01T00:00:00.000Z");
  assert.equal(claimedAt(event(1, { request: { envelope: { occurred_at_ms: 1e300 } } })), null);
});

test("evidence that is not as expected is left out", () => {
  assert.deepEqual(evidence(event(1, { request: { evidence: [{ kind: "metric", key: "auc", value: "0.9" }, 3, null] } })), [{ kind: "metric", key: "auc", value: "0.9", position: null }]);
  assert.deepEqual(evidence(event(1, { request: null })), []);
});

test("a race names the request that came first, and by how much", () => {
  const lost = event(30, { accepted: false, code: "RESOURCE_CONFLICT", actor: "ci" });
  const found = race(lost, [event(31), event(29, { actor: "bob" }), event(28, { alias: "other" }), event(12)]);
  assert.deepEqual([found?.won.actor, found?.ms, found?.offsets], ["bob", 1, 1]);
  assert.equal(race(event(30), [event(29)]), null);
  assert.equal(race(lost, []), null);
});

test("blame finds who set an alias, a stage, a tag, a description", () => {
  const events = [
    event(1), event(2, { accepted: false }), event(3, { version: 2 }),
    event(4, { type: "SetModelVersionTag", alias: null, entity: "version", request: { key: "owner", value: "risk" } }),
    event(5, { type: "UpdateModelVersion", alias: null, request: { description: "new" } }),
    event(6, { type: "TransitionModelVersionStage", alias: null, request: { stage: "Production" } }),
  ];
  assert.deepEqual(blame(events, { what: "alias", name: "champion" }).map((one) => one.log_offset), [3, 1]);
  assert.deepEqual(blame(events, { what: "tag", version: 1, name: "owner" }).map((one) => one.log_offset), [4]);
  assert.deepEqual(blame(events, { what: "tag", version: 2, name: "owner" }), []);
  assert.equal(valueSet(events[2]!, { what: "alias", name: "champion" }), "version 2");
  assert.equal(valueSet(events[3]!, { what: "tag", version: 1, name: "owner" }), "risk");
  assert.equal(valueSet(events[4]!, { what: "description", version: 1 }), "new");
  assert.equal(blame(events, { what: "stage", version: 1 })[0]!.log_offset, 6);
});
