import assert from "node:assert/strict";
import { test } from "node:test";
import { BAR, changes, formerHolders, holder, laneSentence, layOut, mainLane, stack, steps, wholeSpan, type Bar, type Lane, type Timeline } from "../src/pure/timeline.ts";

const START = Date.UTC(2026, 10, 14);
const HOUR = 3_600_000;
const iso = (hours: number): string => new Date(START + hours * HOUR).toISOString();
const bar = (version: number, from: number, to: number | null): Bar => ({
  version, valid_from: iso(from), valid_to: to === null ? null : iso(to), from_offset: from, to_offset: to, set_by: "ada", verified: true, reason: null,
});
const champion: Lane = { kind: "alias", name: "champion", bars: [bar(1, 0, 10), bar(2, 10, 16), bar(4, 16, 19), bar(2, 19, null)] };
const archived: Lane = { kind: "stage", name: "Archived", bars: [bar(1, 10, null), bar(4, 19, null)] };
const timeline: Timeline = {
  model: "fraud", lanes: [archived, champion], metric: "auc", metrics: ["auc"],
  refused: [{ log_offset: 12, appended_at: iso(12), type: "SetRegisteredModelAlias", actor: "ci", verified: true, alias: "champion", stage: null, version: 3, code: "RESOURCE_CONFLICT", message: "", reason: null }],
  versions: [1, 2, 4].map((version) => ({ version, created_at: iso(0), run_id: null, metric: version === 4 ? "NaN" : 0.9 + version / 100, stage: null, aliases: [] })),
};
const span = { from: START, to: START + 20 * HOUR };

test("bars stand where their times are, and touch without overlapping", () => {
  const drawn = layOut(timeline, span, 100, 300);
  const [aliases, stages] = drawn.groups;
  assert.deepEqual([aliases!.title, stages!.title], ["Aliases", "Stages"]);
  const bars = aliases!.lanes[0]!.bars;
  assert.deepEqual(bars.map((one) => [one.bar.version, one.x, one.width]), [[1, 100, 99], [2, 200, 59], [4, 260, 29], [2, 290, 10]]);
  assert.ok(bars.every((one) => one.height === BAR && one.begins));
});

test("a refusal is a cross in the lane that it asked for", () => {
  const drawn = layOut(timeline, span, 100, 300);
  assert.deepEqual(drawn.crosses.map((cross) => cross.x), [220]);
  const lane = drawn.groups[0]!.lanes[0]!;
  assert.ok(drawn.crosses[0]!.y > lane.y && drawn.crosses[0]!.y < lane.y + lane.height);
});

test("what is cut by the window goes to its edge; what is outside is not drawn", () => {
  const drawn = layOut(timeline, { from: START + 12 * HOUR, to: START + 14 * HOUR }, 0, 100);
  const bars = drawn.groups[0]!.lanes[0]!.bars;
  assert.deepEqual(bars.map((one) => [one.bar.version, one.x, one.width, one.begins]), [[2, 0, 99, false]]);
});

test("the shortest bar is still seen", () => {
  const drawn = layOut(timeline, { from: START, to: START + 8760 * HOUR }, 0, 1000);
  assert.ok(drawn.groups[0]!.lanes[0]!.bars.every((one) => one.width >= 3));
});

test("versions that share a stage stand in rows of their own", () => {
  assert.deepEqual(stack(archived.bars), [0, 1]);
  assert.deepEqual(stack(champion.bars), [0, 0, 0, 0]);
  const bars = layOut(timeline, span, 0, 100).groups[1]!.lanes[0]!.bars;
  assert.ok(bars[0]!.y + bars[0]!.height < bars[1]!.y);
});

test("the metric's steps follow the holders, without those that have none", () => {
  assert.deepEqual(steps(champion, timeline.versions, span).map((step) => [step.version, step.value]), [[1, 0.91], [2, 0.92], [2, 0.92]]);
});

test("before the holder: each former holder once, what was rolled back from comes last", () => {
  const back = (...versions: number[]): [number, boolean][] => formerHolders({
    kind: "alias", name: "x", bars: versions.map((version, i) => bar(version, i, i === versions.length - 1 ? null : i + 1)),
  }).map((one) => [one.bar.version, one.undone]);
  assert.deepEqual(back(1, 2, 4, 2), [[1, false], [4, true]]);
  assert.deepEqual(back(1, 2, 4), [[2, false], [1, false]]);
  assert.deepEqual(back(1, 2, 3, 2, 3), [[2, false], [1, false]]);
  assert.deepEqual(back(1, 2, 1), [[2, true]]);
  assert.deepEqual(back(1), []);
  assert.deepEqual(formerHolders({ kind: "alias", name: "x", bars: [bar(1, 0, 2)] }).map((one) => one.bar.version), [1]);
  assert.equal(holder(champion)?.version, 2);
  assert.equal(holder({ kind: "alias", name: "x", bars: [bar(1, 0, 2)] }), null);
  assert.equal(mainLane(timeline.lanes), champion);
});

test("a burst of changes long ago is not squeezed to the left edge", () => {
  const times = changes(timeline);
  assert.equal(times.length, 5);
  const soon = wholeSpan(times, START + 24 * HOUR);
  assert.equal(soon.to, START + 24 * HOUR);
  const late = wholeSpan(times, START + 9000 * HOUR);
  assert.ok(late.to < START + 30 * HOUR);
  const none = wholeSpan([], START);
  assert.ok(none.from < none.to);
});

test("a lane can be read", () => {
  assert.equal(laneSentence({ ...champion, bars: champion.bars.slice(0, 2) }, (at) => at.slice(11, 16)), "@champion was version 1 from 00:00 to 10:00, then version 2 from 10:00 to 16:00.");
});
