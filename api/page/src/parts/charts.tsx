// Charts of some runs, one for each metric, with one cursor and one zoom. From `POST /api/v1/charts`.
// Fetched when it is shown: uPlot and Arrow are not in the first load.
import { useEffect, useRef } from "preact/hooks";
import type { JSX } from "preact";
import { askCharts } from "../client/charts.ts";
import { useLive } from "../client/live.ts";
import { place, setQuery } from "../state/location.ts";
import { moment } from "../state/moment.ts";
import { useAnswer } from "./answer.ts";
import { Boundary } from "./boundary.tsx";
import { Chart, type Zoom } from "./chart.tsx";
import { Failed, Skeleton } from "./states.tsx";

export interface ChartsProps {
  runs: readonly string[];
  /** Absent: all keys, or with `system` those of the machine. */
  keys?: readonly string[];
  system?: boolean;
  nameOf: (runId: string) => string;
  /** Side by side where there is room. */
  columns?: boolean;
  height?: number;
  focus?: string | null;
  /** Keys to begin with; the others are asked for as they come into sight. */
  sync?: string;
  controls?: boolean;
}

const LIVE_MS = 1_000;
const SMOOTHINGS = [0, 0.3, 0.6, 0.9, 0.97];

export default function Charts(props: ChartsProps): JSX.Element {
  const { runs, keys, system, nameOf } = props;
  const query = place.value.query;
  const x = query.get("x") ?? "step";
  const smoothing = Math.min(0.99, Math.max(0, Number(query.get("smooth")) || 0));
  const logs = new Set((query.get("log") ?? "").split(",").filter(Boolean));
  const zoom = zoomOf(query.get("zoom"));
  const asOf = moment.value;
  const width = props.columns ? 400 : 300;
  const body = {
    runs, width, x,
    ...(keys ? { keys } : {}), ...(system ? { system } : {}), ...(zoom ? { from: zoom.from, to: zoom.to } : {}),
  };
  const answer = useAnswer(runs.length ? JSON.stringify(body) : null, (signal) => askCharts(body, signal));

  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  const mine = new Set(runs);
  useLive(asOf === null && runs.length ? { runs } : null, {
    runs: (grew) => {
      if (!grew.run_ids.some((id) => mine.has(id))) return;
      timer.current ??= setTimeout(() => {
        timer.current = null;
        answer.again();
      }, LIVE_MS);
    },
    resumed: answer.again,
  });
  useEffect(() => () => { if (timer.current) clearTimeout(timer.current); }, []);

  const onZoom = (next: Zoom | null): void => setQuery({ zoom: next && `${short(next.from)},${short(next.to)}` });
  const found = answer.data;
  const shown = found && (keys ? keys.filter((key) => found.has(key)) : [...found.keys()].sort());
  return (
    <div class={props.columns ? "charts side-by-side" : "charts"}>
      {props.controls !== false && <Controls x={x} smoothing={smoothing} />}
      {asOf !== null && runs.length > 0 && <p class="note">Charts show all points up to now, also those that came after this moment.</p>}
      {answer.error && <Failed error={answer.error} again={answer.again} at={answer.at} />}
      {shown
        ? shown.length === 0
          ? <p class="q">{runs.length ? "No points of these runs." : "Select runs to see their charts."}</p>
          : shown.map((key) => (
            <Boundary key={key}>
              <Chart
                data={found.get(key)!} x={x} nameOf={nameOf} smoothing={smoothing} zoom={zoom} onZoom={onZoom} sync={props.sync ?? "charts"} focus={props.focus}
                title={system ? key.replace(/^system\//, "") : key} height={props.height}
                log={logs.has(key)} onLog={(on) => setQuery({ log: [...logs].filter((one) => one !== key).concat(on ? [key] : []).join(",") || null }, { replace: true })}
              />
            </Boundary>
          ))
        : runs.length > 0 && !answer.error ? <Skeleton rows={6} /> : <p class="q">Select runs to see their charts.</p>}
    </div>
  );
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
