// One chart of a metric over many runs: lines with bands, gaps hatched, end marks, labels at the lines; its cursor
// and zoom are shared with the charts beside it; a table stands behind a button. Drawn by uPlot.
import { useSignalEffect } from "@preact/signals";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { JSX } from "preact";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { clock, day, duration, inColumn, number } from "../pure/format.ts";
import { caption, dashes, ends, sentence, smooth, spread, type ChartData, type Values } from "../pure/series.ts";
import { theme } from "../state/theme.ts";
import { Menu, type MenuItem } from "./menu.tsx";
import { colourOf } from "./values.tsx";

export interface Zoom {
  from: number;
  to: number;
}

export interface ChartProps {
  data: ChartData;
  /** What x is: "step", "time", "relative", or the key of a metric. */
  x: string;
  /** The name of a run. */
  nameOf: (runId: string) => string;
  title?: string;
  height?: number;
  smoothing?: number;
  log?: boolean;
  onLog?: (log: boolean) => void;
  zoom?: Zoom | null;
  onZoom?: (zoom: Zoom | null) => void;
  /** Charts with one key share the cursor. */
  sync?: string;
  /** The run to bring out, as the one under the pointer in a table. */
  focus?: string | null;
  /** More entries of the menu. */
  menu?: readonly MenuItem[];
}

const LABELS_MAX = 6;
const LABEL_WIDTH = 84;
const TIP_ROWS = 8;

interface Tip {
  left: number;
  x: string;
  rows: { key: string; colour: string; name: string; value: string }[];
  more: number;
}

/** Colours of the theme, as a canvas takes them. */
function ink(): (name: string) => string {
  const probe = document.createElement("span");
  probe.className = "sr";
  document.body.append(probe);
  const found = new Map<string, string>();
  const style = getComputedStyle(probe);
  const names = ["--ink", "--ink-2", "--ink-3", "--hair", "--line", "--surface", "--bad", ...Array.from({ length: 8 }, (_, i) => `--s${i + 1}`)];
  for (const name of names) {
    probe.style.color = `var(${name})`;
    found.set(name, style.color);
  }
  probe.remove();
  return (name) => found.get(name) ?? "#888";
}

function faint(colour: string, share: number): string {
  return `color-mix(in oklab, ${colour} ${share * 100}%, transparent)`;
}

export function Chart(props: ChartProps): JSX.Element {
  const { data, x, nameOf, smoothing = 0, log = false, onLog, zoom, sync, focus } = props;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const latest = useRef(props);
  latest.current = props;
  const [tip, setTip] = useState<Tip | null>(null);
  const [asTable, setAsTable] = useState(false);
  const [themed, setThemed] = useState(theme());
  useSignalEffect(() => setThemed(theme()));

  const colours = useMemo(() => data.lines.map((line) => `--s${colourOf(line.about.run_id).slice(1)}`), [data]);
  const labels = data.lines.length > 1 && data.lines.length <= LABELS_MAX;
  const height = props.height ?? 220;
  // A plot is made again if its lines are others; new points of the same lines are put into it.
  const shape = JSON.stringify([data.key, data.lines.map((line) => [line.about.run_id, line.about.model_id]), data.exact, x, log, smoothing > 0, themed, height]);

  const drawn = useMemo(() => {
    const columns: Values[] = [];
    for (const line of data.lines) {
      columns.push(smooth(line.mid, smoothing));
      if (smoothing > 0) columns.push(line.mid);
      if (!data.exact) columns.push(line.hi, line.lo);
    }
    return [data.x, ...columns] as uPlot.AlignedData;
  }, [data, smoothing]);

  useEffect(() => {
    const element = box.current;
    if (!element || asTable) return;
    const colour = ink();
    const perLine = 1 + (smoothing > 0 ? 1 : 0) + (data.exact ? 0 : 2);
    const lineAt = (i: number): number => 1 + i * perLine;
    const dash = dashes(colours);
    const series: uPlot.Series[] = [{}];
    const bands: uPlot.Band[] = [];
    data.lines.forEach((_, i) => {
      const stroke = colour(colours[i]!);
      series.push({ stroke, width: 1.5, dash: [...dash[i]!], spanGaps: false, points: { show: data.x.length < 2, size: 5, fill: stroke } });
      if (smoothing > 0) series.push({ stroke: faint(stroke, 0.28), width: 1, points: { show: false } });
      if (!data.exact) {
        const at = series.length;
        // The edge of the band is drawn as well: a spike of one bucket is too thin to be seen as an area.
        const edge = { stroke: faint(stroke, 0.3), width: 1, points: { show: false } };
        series.push(edge, { ...edge });
        bands.push({ series: [at, at + 1], fill: faint(stroke, 0.13) });
      }
    });
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const made = new uPlot(
      {
        width: Math.max(120, element.clientWidth),
        height,
        ms: 1,
        padding: [8, labels ? LABEL_WIDTH : 12, 0, 0],
        legend: { show: false },
        focus: { alpha: 0.25 },
        cursor: {
          sync: { key: sync ?? data.key, setSeries: false },
          drag: { x: true, y: false, setScale: false },
          focus: { prox: data.lines.length > 1 ? 16 : -1 },
          points: { size: 6 },
          y: false,
        },
        scales: {
          x: { time: x === "time", range: (_, least, most) => {
            const asked = latest.current.zoom;
            return asked ? [asked.from, asked.to] : least === most ? [least - 1, most + 1] : [least, most];
          } },
          y: log ? { distr: 3 } : { range: (_, least, most) => {
            if (least === null || most === null) return [0, 1];
            const pad = (most - least) * 0.06 || Math.abs(most) * 0.1 || 1;
            return [least - pad, most + pad];
          } },
        },
        axes: [
          {
            stroke: colour("--ink-3"), font, grid: { show: false }, ticks: { stroke: colour("--line"), size: 4 }, size: 28, space: 64,
            ...(x === "time" ? {} : { values: (_, splits) => splits.map((split) => (x === "relative" ? duration(split / 1000) || "0" : number(split))) }),
          },
          { stroke: colour("--ink-3"), font, grid: { stroke: colour("--hair"), width: 1 }, ticks: { show: false }, size: 56, space: 32, values: (_, splits, __, ___, step) => splits.map((split) => (split === null ? "" : log ? number(split, 3) : inColumn(split, stepPlaces(step)))) },
        ],
        series,
        bands,
        hooks: {
          drawClear: [(u) => hatch(u, data, colour("--ink-3"))],
          draw: [(u) => {
            data.lines.forEach((line, i) => endMark(u, line.about.status, u.data[lineAt(i)] as Values, colour(colours[i]!)));
            if (labels) nameLines(u, data, lineAt, colours.map(colour), latest.current.nameOf, font, colour("--ink"));
          }],
          setSelect: [(u) => {
            const { left, width } = u.select;
            if (width < 4) return;
            latest.current.onZoom?.({ from: u.posToVal(left, "x"), to: u.posToVal(left + width, "x") });
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          }],
          setCursor: [(u) => setTip(tipAt(u, data, lineAt, colours, latest.current))],
        },
      },
      drawn,
      element,
    );
    plot.current = made;
    made.over.addEventListener("dblclick", () => latest.current.onZoom?.(null));
    const observer = new ResizeObserver(() => {
      if (element.clientWidth > 0 && Math.abs(element.clientWidth - made.width) > 1) made.setSize({ width: element.clientWidth, height });
    });
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, asTable]);

  const first = useRef(true);
  useEffect(() => {
    if (first.current) return void (first.current = false);
    plot.current?.setData(drawn);
  }, [drawn, zoom?.from, zoom?.to]);
  useEffect(() => {
    const u = plot.current;
    if (!u) return;
    const perLine = (u.series.length - 1) / Math.max(1, data.lines.length);
    const i = focus ? data.lines.findIndex((line) => line.about.run_id === focus) : -1;
    u.setSeries(i < 0 ? null : 1 + i * perLine, { focus: true });
  }, [focus]);

  const missing = data.lines.filter((line) => line.about.gaps.length > 0);
  return (
    <figure class="chart" aria-label={sentence(data)}>
      <div class="head">
        <h2 title={data.key}><bdi>{props.title ?? data.key}</bdi></h2>
        <span class="q">by {x}</span>
        <span class="gap" />
        {zoom && <button type="button" class="btn bare s" onClick={() => props.onZoom?.(null)}>All of it</button>}
        <Menu
          icon="more" title={`More of ${data.key}`} quiet small
          items={[
            { text: asTable ? "As a chart" : "As a table", run: () => setAsTable(!asTable) },
            ...(onLog ? [{ text: log ? "Linear scale" : "Logarithmic scale", run: () => onLog(!log) }] : []),
            ...(props.menu ?? []),
          ]}
        />
      </div>
      {asTable
        ? <ChartTable data={data} nameOf={nameOf} />
        : (
          <div class="plot" ref={box} onPointerLeave={() => setTip(null)}>
            {tip && tip.rows.length > 0 && (
              <div class={tip.left > 0.5 ? "tip left" : "tip"} style={tip.left > 0.5 ? { right: `${(1 - tip.left) * 100}%` } : { left: `${tip.left * 100}%` }}>
                <div class="q">{tip.x}</div>
                {tip.rows.map((row) => (
                  <div key={row.key} class="tip-row"><span class={`dot ${row.colour}`} /><bdi class="cut">{row.name}</bdi><span>{row.value}</span></div>
                ))}
                {tip.more > 0 && <div class="q">{tip.more} more</div>}
              </div>
            )}
          </div>
        )}
      <figcaption>
        {caption(data, smoothing, x)}
        {missing.length > 0 && ` Hatched: events of ${missing.slice(0, 3).map((line) => nameOf(line.about.run_id)).join(", ")}${missing.length > 3 ? ` and ${missing.length - 3} more` : ""} are missing.`}
      </figcaption>
    </figure>
  );
}

/** Hatching where events are missing. */
function hatch(u: uPlot, data: ChartData, colour: string): void {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  const gaps = data.lines.flatMap((line) => line.about.gaps);
  if (gaps.length === 0) return;
  ctx.save();
  ctx.beginPath();
  for (const [from, to] of gaps) {
    const a = from === null ? left : Math.max(left, u.valToPos(from, "x", true));
    const b = to === null ? left + width : Math.min(left + width, u.valToPos(to, "x", true));
    if (b > a) ctx.rect(a, top, Math.max(b - a, 2), height);
  }
  ctx.clip();
  ctx.strokeStyle = colour;
  ctx.globalAlpha = 0.4;
  ctx.lineWidth = devicePixelRatio;
  ctx.beginPath();
  const step = 6 * devicePixelRatio;
  for (let at = left - height; at < left + width; at += step) {
    ctx.moveTo(at, top + height);
    ctx.lineTo(at + height, top);
  }
  ctx.stroke();
  ctx.restore();
}

/** The decimal places that the lines of an axis need: 0 for steps of 2, 1 for 2.5, 2 for 0.05. */
function stepPlaces(step: number): number | null {
  if (step < 1e-4 || step >= 1e9) return null;
  for (let n = 0; n < 8; n += 1) if (Math.abs(step * 10 ** n - Math.round(step * 10 ** n)) < 1e-6) return n;
  return 8;
}

function lastOf(u: uPlot, values: Values): { x: number; y: number } | null {
  for (let i = values.length - 1; i >= 0; i -= 1) {
    const value = values[i];
    const at = u.data[0][i]!;
    if (typeof value === "number" && at <= u.scales.x!.max! && at >= u.scales.x!.min!) {
      return { x: u.valToPos(at, "x", true), y: u.valToPos(value, "y", true) };
    }
  }
  return null;
}

/** A short upright where a run ended early. */
function endMark(u: uPlot, status: string, values: Values, colour: string): void {
  if (status !== "FAILED" && status !== "KILLED") return;
  const at = lastOf(u, values);
  if (!at) return;
  const { ctx } = u;
  const half = 5 * devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.5 * devicePixelRatio;
  ctx.beginPath();
  ctx.moveTo(at.x, at.y - half);
  ctx.lineTo(at.x, at.y + half);
  ctx.stroke();
  ctx.restore();
}

/** Names at the ends of the lines, pushed apart, with a thin lead. */
function nameLines(u: uPlot, data: ChartData, lineAt: (i: number) => number, colours: readonly string[], nameOf: (id: string) => string, font: string, text: string): void {
  const { ctx } = u;
  const ratio = devicePixelRatio;
  const found = data.lines.flatMap((line, i) => {
    const at = lastOf(u, u.data[lineAt(i)] as Values);
    return at ? [{ at, colour: colours[i]!, name: nameOf(line.about.run_id) }] : [];
  });
  const { top, height, left, width } = u.bbox;
  const places = spread(found.map((one) => one.at.y), 15 * ratio, top + 6 * ratio, top + height - 6 * ratio);
  ctx.save();
  ctx.font = font.replace("12px", `${12 * ratio}px`);
  ctx.textBaseline = "middle";
  ctx.textAlign = "left";
  const right = left + width;
  found.forEach(({ at, colour, name }, i) => {
    const y = places[i]!;
    ctx.strokeStyle = colour;
    ctx.globalAlpha = 0.55;
    ctx.lineWidth = ratio;
    ctx.beginPath();
    ctx.moveTo(at.x + 2 * ratio, at.y);
    ctx.lineTo(right + 8 * ratio, y);
    ctx.stroke();
    ctx.globalAlpha = 1;
    ctx.fillStyle = text;
    let shown = name;
    const room = (LABEL_WIDTH - 14) * ratio;
    while (shown.length > 1 && ctx.measureText(shown === name ? shown : `${shown}…`).width > room) shown = shown.slice(0, -1);
    ctx.fillText(shown === name ? shown : `${shown}…`, right + 11 * ratio, y);
  });
  ctx.restore();
}

function xText(value: number, x: string): string {
  if (x === "time") return `${day(new Date(value))} ${clock(new Date(value))}`;
  return x === "relative" ? duration(value / 1000) || "0 s" : `${x} ${number(value)}`;
}

function tipAt(u: uPlot, data: ChartData, lineAt: (i: number) => number, colours: readonly string[], props: ChartProps): Tip | null {
  const { idx, left } = u.cursor;
  // Only in the chart under the pointer: in the others the cursor is enough.
  if (idx === null || idx === undefined || left === undefined || left < 0 || !u.over.matches(":hover")) return null;
  const top = u.cursor.top ?? 0;
  const all = data.lines.flatMap((line, i) => {
    const values = u.data[lineAt(i)] as Values;
    // The nearest point at or before the cursor: series have points at different steps.
    let at = idx;
    while (at > 0 && values[at] === undefined) at -= 1;
    const value = values[at];
    if (typeof value !== "number") return [];
    const y = u.valToPos(value, "y");
    const [lo, hi] = [line.lo[at], line.hi[at]];
    const range = !data.exact && typeof lo === "number" && typeof hi === "number" && lo !== hi ? ` (${number(lo, 3)} to ${number(hi, 3)})` : "";
    return [{ key: `${i}`, colour: colours[i]!.replace("--s", "c"), name: props.nameOf(line.about.run_id), value: number(value) + range, far: Math.abs(y - top), order: -value }];
  });
  const near = [...all].sort((a, b) => a.far - b.far).slice(0, TIP_ROWS).sort((a, b) => a.order - b.order);
  const share = (left + u.bbox.left / devicePixelRatio) / u.width;
  return { left: share, x: xText(u.data[0][idx]!, props.x), rows: near, more: all.length - near.length };
}

function ChartTable({ data, nameOf }: { data: ChartData; nameOf: (id: string) => string }): JSX.Element {
  const bound = (value: number | string | null): string => (value === null ? "–" : number(Number(value)));
  return (
    <div class="chart-table" tabIndex={0} role="region" aria-label={`${data.key} as a table`}>
      <table class="tbl flush">
        <thead><tr><th>Run</th><th class="num">Points</th><th class="num">First</th><th class="num">Last</th><th class="num">Least</th><th class="num">Greatest</th></tr></thead>
        <tbody>
          {data.lines.map((line, i) => {
            const found = ends(line);
            return (
              <tr key={i}>
                <td><span class="v"><span class={`dot ${colourOf(line.about.run_id)}`} /></span> <bdi>{nameOf(line.about.run_id)}</bdi></td>
                <td class="num">{number(line.about.points)}</td>
                <td class="num">{found ? number(found[0]) : "–"}</td>
                <td class="num">{found ? number(found[1]) : "–"}</td>
                <td class="num">{bound(line.about.min)}</td>
                <td class="num">{bound(line.about.max)}</td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
