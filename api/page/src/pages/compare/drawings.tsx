// Drawings that compare runs by their params and metrics: parallel coordinates with a brush, scatter, boxes.
import { useMemo, useRef, useState } from "preact/hooks";
import type { JSX } from "preact";
import { colourOf } from "../../parts/values.tsx";
import { asNumber, axis, box, type Cell, type Difference } from "../../pure/compare.ts";
import { number } from "../../pure/format.ts";
import { titleOf } from "../../pure/runs-query.ts";
import { place, setQuery } from "../../state/location.ts";
import { nameOfRun, openRun, type Run } from "./index.tsx";

const WIDTH = 1120;
const HEIGHT = 240;
const TOP = 28;
const FOOT = 12;
const AXES_MAX = 9;

const short = (value: number): string => number(value, 3);
const colour = (run: Run): string => colourOf(String(run.run_id));
const y = (share: number): number => TOP + (1 - share) * (HEIGHT - TOP - FOOT);

function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** A line a run through an axis a param or metric. Drag along an axis to bring out the runs there. */
export function Parallel({ runs, axes }: { runs: readonly Run[]; axes: readonly Difference[] }): JSX.Element {
  // Params first, results last, as one leads to the other.
  const ordered = [...axes.filter((one) => one.id.startsWith("params.")), ...axes.filter((one) => one.id.startsWith("metrics."))];
  const params = ordered.filter((one) => one.id.startsWith("params.")).slice(0, AXES_MAX - 4);
  const drawn = [...params, ...ordered.filter((one) => one.id.startsWith("metrics.")).slice(0, AXES_MAX - params.length)];
  const scales = useMemo(() => drawn.map((one) => axis(one.id, one.values, short)), [axes]);
  const [brush, setBrush] = useState<{ axis: number; from: number; to: number } | null>(null);
  const drawing = useRef<SVGSVGElement>(null);
  const [pointed, setPointed] = useState<number | null>(null);
  const x = (i: number): number => 60 + (i * (WIDTH - 140)) / Math.max(1, drawn.length - 1);
  const isIn = (i: number): boolean => {
    if (!brush) return true;
    const at = scales[brush.axis]!.at(drawn[brush.axis]!.values[i]);
    return at !== null && at >= Math.min(brush.from, brush.to) && at <= Math.max(brush.from, brush.to);
  };
  const brushed = runs.filter((_, i) => isIn(i));
  function shareAt(event: PointerEvent): number {
    const bounds = drawing.current!.getBoundingClientRect();
    const inside = ((event.clientY - bounds.top) / bounds.height) * HEIGHT;
    return Math.min(1, Math.max(0, 1 - (inside - TOP) / (HEIGHT - TOP - FOOT)));
  }
  function pull(event: PointerEvent, i: number): void {
    const element = event.currentTarget as SVGElement;
    element.setPointerCapture(event.pointerId);
    const from = shareAt(event);
    element.onpointermove = (move) => setBrush({ axis: i, from, to: shareAt(move) });
    element.onpointerup = (end) => {
      element.onpointermove = element.onpointerup = null;
      const to = shareAt(end);
      setBrush(Math.abs(to - from) < 0.02 ? null : { axis: i, from, to });
    };
  }
  const path = (i: number): string => {
    let text = "";
    let last: [number, number] | null = null;
    scales.forEach((scale, k) => {
      const at = scale.at(drawn[k]!.values[i]);
      if (at === null) return void (last = null);
      const [px, py] = [x(k), y(at)];
      if (last === null) text += `M${px.toFixed(1)} ${py.toFixed(1)}`;
      else {
        const half = (last[0] + px) / 2;
        text += `C${half.toFixed(1)} ${last[1].toFixed(1)} ${half.toFixed(1)} ${py.toFixed(1)} ${px.toFixed(1)} ${py.toFixed(1)}`;
      }
      last = [px, py];
    });
    return text;
  };
  return (
    <figure class="chart drawing" tabIndex={0}>
      <svg ref={drawing} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={`${runs.length} runs over ${drawn.map((one) => titleOf(one.id)).join(", ")}`}>
        {runs.map((run, i) => !isIn(i) && <path key={String(run.run_id)} class="ln dim-ln" d={path(i)} />)}
        {runs.map((run, i) => isIn(i) && (
          <path key={String(run.run_id)} class={`ln ${colour(run)}${pointed !== null && pointed !== i ? " faint-ln" : ""}`} d={path(i)} onPointerEnter={() => setPointed(i)} onPointerLeave={() => setPointed(null)} onClick={() => openRun(run)}>
            <title>{nameOfRun(run)}</title>
          </path>
        ))}
        {scales.map((scale, i) => (
          <g key={scale.id}>
            <line class="axis" x1={x(i)} x2={x(i)} y1={y(1)} y2={y(0)} />
            <text class="in" x={x(i)} y={14} text-anchor="middle">{cut(titleOf(scale.id), 16)}<title>{scale.id}</title></text>
            {scale.marks.map((mark) => <text key={mark.text} class="halo" x={x(i) + (i === scales.length - 1 ? 8 : -8)} y={y(mark.at) + 4} text-anchor={i === scales.length - 1 ? "start" : "end"}>{cut(mark.text, 12)}</text>)}
            {brush?.axis === i && <rect class="brush" x={x(i) - 6} width={12} y={y(Math.max(brush.from, brush.to))} height={Math.max(2, y(Math.min(brush.from, brush.to)) - y(Math.max(brush.from, brush.to)))} />}
            <rect class="grip" x={x(i) - 10} width={20} y={TOP} height={HEIGHT - TOP - FOOT} onPointerDown={(event) => pull(event, i)} />
          </g>
        ))}
      </svg>
      <figcaption>
        {brush
          ? <>{brushed.length} of {runs.length} runs in the brush on {titleOf(drawn[brush.axis]!.id)}: {brushed.slice(0, 8).map(nameOfRun).join(", ")}{brushed.length > 8 && " …"} <button type="button" class="btn bare s" onClick={() => setBrush(null)}>Clear</button> <button type="button" class="btn bare s" onClick={() => setQuery({ runs: brushed.map((run) => String(run.run_id)).join(","), q: null })}>Only these</button></>
          : <>Drag along an axis to bring out the runs there. {drawn.length < ordered.length && `${drawn.length} of ${ordered.length} axes.`} {scales.some((scale) => scale.log) && `Logarithmic: ${scales.filter((scale) => scale.log).map((scale) => titleOf(scale.id)).join(", ")}.`}</>}
      </figcaption>
    </figure>
  );
}

function Pick({ label, value, ids, onPick }: { label: string; value: string; ids: readonly string[]; onPick: (id: string) => void }): JSX.Element {
  return (
    <label><span class="q">{label}</span>{" "}
      <select class="pick" value={value} onChange={(event) => onPick(event.currentTarget.value)}>{ids.map((id) => <option key={id} value={id}>{titleOf(id)}</option>)}</select>
    </label>
  );
}

function chosen(name: string, ids: readonly string[], otherwise: string | undefined): string {
  const asked = place.value.query.get(name);
  return asked && ids.includes(asked) ? asked : otherwise ?? ids[0]!;
}

/** A mark a run, by two of its values. */
export function Scatter({ runs, axes }: { runs: readonly Run[]; axes: readonly Difference[] }): JSX.Element {
  const ids = axes.map((one) => one.id);
  const of = (id: string): readonly Cell[] => axes.find((one) => one.id === id)!.values;
  const [across, up] = [chosen("sx", ids, ids.find((id) => id.startsWith("params."))), chosen("sy", ids, ids.find((id) => id.startsWith("metrics.")))];
  const [sx, sy] = [axis(across, of(across), short), axis(up, of(up), short)];
  const px = (share: number): number => 90 + share * (WIDTH - 150);
  const [tall, top, foot] = [320, 12, 40];
  const py = (share: number): number => top + (1 - share) * (tall - top - foot);
  return (
    <figure class="chart drawing" tabIndex={0}>
      <div class="chart-controls"><Pick label="across" value={across} ids={ids} onPick={(id) => setQuery({ sx: id }, { replace: true })} /><Pick label="up" value={up} ids={ids} onPick={(id) => setQuery({ sy: id }, { replace: true })} /></div>
      <svg viewBox={`0 0 ${WIDTH} ${tall}`} role="img" aria-label={`${titleOf(up)} by ${titleOf(across)} of ${runs.length} runs`}>
        {sy.marks.map((mark) => <g key={mark.text}><line class="grid" x1={90} x2={WIDTH - 40} y1={py(mark.at)} y2={py(mark.at)} /><text x={82} y={py(mark.at) + 4} text-anchor="end">{cut(mark.text, 12)}</text></g>)}
        {sx.marks.map((mark) => <text key={mark.text} x={px(mark.at)} y={tall - 16} text-anchor="middle">{cut(mark.text, 14)}</text>)}
        {runs.map((run, i) => {
          const [a, b] = [sx.at(of(across)[i]), sy.at(of(up)[i])];
          return a !== null && b !== null && (
            <circle key={String(run.run_id)} class={`end mark ${colour(run)}`} cx={px(a)} cy={py(b)} r={4.5} onClick={() => openRun(run)}>
              <title>{`${nameOfRun(run)}\n${titleOf(across)} ${String(of(across)[i])}\n${titleOf(up)} ${String(of(up)[i])}`}</title>
            </circle>
          );
        })}
      </svg>
      <figcaption>{titleOf(up)} by {titleOf(across)}{sx.log && ", logarithmic"}. A mark opens its run.</figcaption>
    </figure>
  );
}

/** A metric by the values of a param: quartiles of the runs that share one. */
export function Boxes({ runs, axes, metrics }: { runs: readonly Run[]; axes: readonly Difference[]; metrics: readonly Difference[] }): JSX.Element {
  const params = axes.map((one) => one.id).filter((id) => id.startsWith("params."));
  if (params.length === 0 || metrics.length === 0) return <p class="q">Boxes need a param and a metric that differ.</p>;
  const [by, of] = [chosen("sx", params, params[0]), chosen("sy", metrics.map((one) => one.id), metrics[0]!.id)];
  const groups = new Map<string, number[]>();
  runs.forEach((run) => {
    const value = asNumber(run[of]);
    if (value !== null) groups.set(String(run[by] ?? "none"), [...(groups.get(String(run[by] ?? "none")) ?? []), value]);
  });
  const names = [...groups.keys()].sort((a, b) => (asNumber(a) ?? 0) - (asNumber(b) ?? 0) || a.localeCompare(b)).slice(0, 24);
  const scale = axis(of, [...groups.values()].flat(), short);
  const [tall, top, foot] = [300, 12, 40];
  const py = (value: number): number => top + (1 - scale.at(value)!) * (tall - top - foot);
  const px = (i: number): number => 130 + ((i + 0.5) * (WIDTH - 180)) / names.length;
  return (
    <figure class="chart drawing" tabIndex={0}>
      <div class="chart-controls"><Pick label="by" value={by} ids={params} onPick={(id) => setQuery({ sx: id }, { replace: true })} /><Pick label="of" value={of} ids={metrics.map((one) => one.id)} onPick={(id) => setQuery({ sy: id }, { replace: true })} /></div>
      <svg viewBox={`0 0 ${WIDTH} ${tall}`} role="img" aria-label={`${titleOf(of)} by ${titleOf(by)}: ${names.map((name) => `${name} middle ${short(box(groups.get(name)!)![2])}`).join(", ")}`}>
        {scale.marks.map((mark) => <g key={mark.text}><line class="grid" x1={90} x2={WIDTH - 40} y1={top + (1 - mark.at) * (tall - top - foot)} y2={top + (1 - mark.at) * (tall - top - foot)} /><text x={82} y={top + (1 - mark.at) * (tall - top - foot) + 4} text-anchor="end">{mark.text}</text></g>)}
        {names.map((name, i) => {
          const [least, lower, middle, upper, most] = box(groups.get(name)!)!;
          return (
            <g key={name} class="box-plot">
              <title>{`${titleOf(by)} ${name}: ${groups.get(name)!.length} runs, middle ${short(middle)}, ${short(least)} to ${short(most)}`}</title>
              <line class="stem" x1={px(i)} x2={px(i)} y1={py(least)} y2={py(most)} />
              <rect class="quartiles" x={px(i) - 16} width={32} y={py(upper)} height={Math.max(1, py(lower) - py(upper))} />
              <line class="middle" x1={px(i) - 16} x2={px(i) + 16} y1={py(middle)} y2={py(middle)} />
              {groups.get(name)!.map((value, k) => <circle key={k} class="point" cx={px(i) + 26} cy={py(value)} r={2} />)}
              <text x={px(i)} y={tall - 16} text-anchor="middle">{cut(name, 14)}</text>
            </g>
          );
        })}
      </svg>
      <figcaption>{titleOf(of)} by {titleOf(by)}: least, quartiles, greatest; each run is a dot beside.</figcaption>
    </figure>
  );
}
