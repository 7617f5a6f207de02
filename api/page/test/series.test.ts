import assert from "node:assert/strict";
import { test } from "node:test";
import * as series from "../src/pure/series.ts";

interface Row { series: number; bucket: number; lo: number | null; hi: number | null; sum: number; n: number; nan?: number }

function chart(rows: Row[], about: Partial<series.SeriesAbout>[], exact = true, width = 1): Map<string, series.ChartData> {
  const column = <K extends keyof Row>(name: K): Row[K][] => rows.map((row) => row[name]);
  const zeros = rows.map(() => 0);
  return series.charts(
    {
      bucket_width: width, exact,
      series: about.map((one) => ({ run_id: "r", key: "loss", points: 1, min: 0, max: 1, gaps: [], ended_at_step: null, status: "FINISHED", ...one })),
    },
    {
      series: column("series"), bucket: column("bucket"), lo: column("lo"), hi: column("hi"), last: column("hi"), sum: column("sum"), n: column("n"),
      nan: rows.map((row) => row.nan ?? 0), pos_inf: zeros, neg_inf: zeros,
    },
  );
}
const point = (s: number, bucket: number, value: number): Row => ({ series: s, bucket, lo: value, hi: value, sum: value, n: 1 });

test("series share x, and have no value where they have no point", () => {
  const made = chart([point(0, 0, 5), point(0, 2, 3), point(1, 1, 7)], [{ run_id: "a" }, { run_id: "b" }]).get("loss")!;
  assert.deepEqual(made.x, [0, 1, 2]);
  assert.deepEqual(made.lines[0]!.mid, [5, undefined, 3]);
  assert.deepEqual(made.lines[1]!.mid, [undefined, 7, undefined]);
});

test("every drawn bucket holds the true least and greatest value", () => {
  let state = 7;
  const random = (): number => (state = (state * 48_271) % 2_147_483_647) / 2_147_483_647;
  for (let round = 0; round < 50; round += 1) {
    const rows: Row[] = [];
    for (let s = 0; s < 3; s += 1) {
      for (let bucket = 0; bucket < 64; bucket += 8) {
        if (random() < 0.2) continue;
        const values = Array.from({ length: 1 + Math.floor(random() * 9) }, () => (random() < 0.1 ? 1e9 * random() : random()));
        rows.push({ series: s, bucket, lo: Math.min(...values), hi: Math.max(...values), sum: values.reduce((a, b) => a + b, 0), n: values.length });
      }
    }
    const made = chart(rows, [{ run_id: "a" }, { run_id: "b" }, { run_id: "c" }], false, 8).get("loss")!;
    for (const row of rows) {
      const line = made.lines[row.series]!;
      const at = made.x.indexOf(row.bucket + 4);
      assert.equal(line.lo[at], row.lo);
      assert.equal(line.hi[at], row.hi);
      assert.ok(line.mid[at]! >= row.lo! && line.mid[at]! <= row.hi!);
    }
    const drawn = made.lines.reduce((sum, line) => sum + line.mid.filter((value) => value !== undefined).length, 0);
    assert.equal(drawn, rows.length);
  }
});

test("a line breaks where events are missing, and where there is no number", () => {
  const gap = chart([point(0, 0, 1), point(0, 10, 2)], [{ gaps: [[0, 10]] }]).get("loss")!;
  assert.deepEqual(gap.x, [0, 5, 10]);
  assert.deepEqual(gap.lines[0]!.mid, [1, null, 2]);
  const nan = chart([point(0, 0, 1), { series: 0, bucket: 1, lo: null, hi: null, sum: 0, n: 1, nan: 1 }, point(0, 2, 2)], [{}]).get("loss")!;
  assert.deepEqual(nan.lines[0]!.mid, [1, null, 2]);
  assert.equal(nan.lines[0]!.notNumbers, 1);
  assert.match(series.caption(nan, 0, "step"), /1 point is NaN/);
});

test("smoothing begins at the first value and keeps breaks", () => {
  assert.deepEqual(series.smooth([1, 1, 1], 0.9).map((value) => Number(value!.toFixed(9))), [1, 1, 1]);
  assert.deepEqual(series.smooth([2, null, undefined, 4], 0.5), [2, null, undefined, (2 * 0.25 + 4 * 0.5) / 0.75]);
  const values = [1, 2];
  assert.equal(series.smooth(values, 0), values);
});

test("labels stand apart, in order, and inside", () => {
  const placed = series.spread([50, 52, 51, 10], 14, 0, 60);
  assert.ok(placed.every((at) => at >= 0 && at <= 60));
  const order = [3, 0, 2, 1];
  for (let i = 1; i < 4; i += 1) assert.ok(placed[order[i]!]! - placed[order[i - 1]!]! >= 13.99);
});

test("lines of one colour have dashes of their own", () => {
  const found = series.dashes(["c1", "c2", "c1"]);
  assert.deepEqual([found[0], found[1]], [[], []]);
  assert.notDeepEqual(found[2], []);
});

test("a chart says in one sentence what it shows", () => {
  const made = chart([point(0, 0, 1), point(0, 1, 0.03)], [{}]).get("loss")!;
  assert.equal(series.sentence(made), "loss of 1 run, falling from 1 to 0.030");
  assert.match(series.caption(chart([point(0, 0, 1)], [{}], false, 256).get("loss")!, 0.6, "step"), /each 256 steps.*Smoothed by 0.6/);
});

test("a sparkline stays in its box", () => {
  const made = series.sparkline([1, undefined, 3, 2], 48, 16)!;
  assert.ok(made.end[0] <= 48 && made.end[1] <= 16 && made.end[1] >= 0);
  assert.equal(series.sparkline([null, undefined], 48, 16), null);
  assert.ok(series.sparkline([5], 48, 16)!.path.startsWith("M0.0 8.0"));
});
