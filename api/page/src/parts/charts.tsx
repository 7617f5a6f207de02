// Charts of some runs, one for each metric, with one cursor and one zoom. From `POST /api/v1/charts`.
// Fetched when it is shown: uPlot and Arrow are not in the first load.
import { useEffect, useRef, useState } from "preact/hooks";
import type { JSX, RefObject } from "preact";
import { askCharts, type ChartsQuery } from "../client/charts.ts";
import { useLive } from "../client/live.ts";
import { place, setQuery } from "../state/location.ts";
import { moment } from "../state/moment.ts";
import { useAnswer } from "./answer.ts";
import { Boundary } from "./boundary.tsx";
import { Chart, type Zoom } from "./chart.tsx";
import { Failed, Skeleton } from "./states.tsx";

export interface ChartsProps {
  runs: readonly string[];
  keys: readonly string[];
  /** The keys begin with `system/`, which the titles leave out. */
  system?: boolean;
  nameOf: (runId: string) => string;
  /** Side by side where there is room. */
  columns?: boolean;
  height?: number;
  focus?: string | null;
  /** Charts with one name share the cursor. */
  sync?: string;
  controls?: boolean;
}

const LIVE_MS = 1_000;
const SMOOTHINGS = [0, 0.3, 0.6, 0.9, 0.97];
/** How far below the window a chart is asked for, so that it is there when it comes into sight. */
const AHEAD = "400px";

export default function Charts(props: ChartsProps): JSX.Element {
  const { runs, keys } = props;
  const asOf = moment.value;
  /** Goes up when the runs have grown: the charts ask again. */
  const [round, setRound] = useState(0);
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  const mine = new Set(runs);
  useLive(asOf === null && runs.length ? { runs } : null, {
    runs: (grew) => {
      if (!grew.run_ids.some((id) => mine.has(id))) return;
      timer.current ??= setTimeout(() => {
        timer.current = null;
        setRound((last) => last + 1);
      }, LIVE_MS);
    },
    resumed: () => setRound((last) => last + 1),
  });
  useEffect(() => () => { if (timer.current) clearTimeout(timer.current); }, []);

  const query = place.value.query;
  const smoothing = Math.min(0.99, Math.max(0, Number(query.get("smooth")) || 0));
  return (
    <div class={props.columns ? "charts side-by-side" : "charts"}>
      {props.controls !== false && <Controls x={query.get("x") ?? "step"} smoothing={smoothing} />}
      {runs.length === 0
        ? <p class="q">Select runs to see their charts.</p>
        : keys.length === 0
          ? <p class="q">No points of these runs.</p>
          : keys.map((key) => (
            <Boundary key={key}>
              <OneChart {...props} metric={key} smoothing={smoothing} round={round} />
            </Boundary>
          ))}
    </div>
  );
}

/** A chart with a question of its own, so that its buckets are as wide as its own points want. */
function OneChart(props: ChartsProps & { metric: string; smoothing: number; round: number }): JSX.Element {
  const { runs, metric, system, nameOf } = props;
  const query = place.value.query;
  const x = query.get("x") ?? "step";
  const logs = new Set((query.get("log") ?? "").split(",").filter(Boolean));
  const zoom = zoomOf(query.get("zoom"));
  const asOf = moment.value;
  const box = useRef<HTMLDivElement>(null);
  const seen = useSight(box);
  const body: ChartsQuery = {
    runs, keys: [metric], width: props.columns ? 400 : 300, x,
    ...(zoom ? { from: zoom.from, to: zoom.to } : {}), ...(asOf === null ? {} : { as_of: asOf }),
  };
  const answer = useAnswer(seen ? `${JSON.stringify(body)} ${props.round}` : null, (signal) => askCharts(body, signal));
  const title = system ? metric.replace(/^system\//, "") : metric;
  const data = answer.data?.get(metric);
  const onZoom = (next: Zoom | null): void => setQuery({ zoom: next && `${short(next.from)},${short(next.to)}` });
  return (
    <div class="one-chart" ref={box}>
      {answer.error && <Failed error={answer.error} again={answer.again} at={answer.at} />}
      {data
        ? (
          <Chart
            data={data} x={x} nameOf={nameOf} smoothing={props.smoothing} zoom={zoom} onZoom={onZoom} sync={props.sync ?? "charts"} focus={props.focus}
            title={title} height={props.height}
            log={logs.has(metric)} onLog={(on) => setQuery({ log: [...logs].filter((one) => one !== metric).concat(on ? [metric] : []).join(",") || null }, { replace: true })}
          />
        )
        : answer.data
          ? <p class="q">No points of {title}{asOf === null ? "" : " at this moment"}.</p>
          : !answer.error && <Skeleton rows={6} />}
    </div>
  );
}

/** True from when an element comes near the window. */
function useSight(box: RefObject<HTMLElement | null>): boolean {
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    if (seen || box.current === null) return;
    const observer = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) setSeen(true);
    }, { rootMargin: AHEAD });
    observer.observe(box.current);
    return () => observer.disconnect();
  }, [seen]);
  return seen;
}

function Controls({ x, smoothing }: { x: string; smoothing: number }): JSX.Element {
  return (
    <div class="chart-controls">
      <label><span class="q">x</span>{" "}
        <select class="pick" value={["step", "time", "relative"].includes(x) ? x : "step"} onChange={(event) => setQuery({ x: event.currentTarget.value === "step" ? null : event.currentTarget.value, zoom: null })}>
          <option value="step">step</option><option value="time">time</option><option value="relative">time since the start</option>
        </select>
      </label>
      <label><span class="q">Smoothing</span>{" "}
        <select class="pick" value={String(smoothing)} onChange={(event) => setQuery({ smooth: event.currentTarget.value === "0" ? null : event.currentTarget.value }, { replace: true })}>
          {[...new Set([...SMOOTHINGS, smoothing])].sort().map((one) => <option key={one} value={String(one)}>{one === 0 ? "off" : one}</option>)}
        </select>
      </label>
    </div>
  );
}

function zoomOf(text: string | null): Zoom | null {
  const [from, to] = (text ?? "").split(",").map(Number);
  return from !== undefined && to !== undefined && Number.isFinite(from) && Number.isFinite(to) && from < to ? { from, to } : null;
}

function short(value: number): string {
  return Number(value.toPrecision(15)).toString();
}
