// The chart beside a result: guessed from the types of its columns, changed by hand.
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { useWidth } from "../../parts/width.ts";
import { linear, roundValues, ticks } from "../../pure/calendar.ts";
import { draw, guess, scaleOf, sentence, type Chart, type Drawn, type Kind, type Table } from "../../pure/chart.ts";
import { count, number } from "../../pure/format.ts";
import { place, setQuery } from "../../state/location.ts";

const HEIGHT = 200;
const [LEFT, RIGHT, TOP, BOTTOM] = [48, 8, 10, 24];
const COLOURS = 8;
const KINDS: readonly [Kind, string][] = [["lines", "Lines"], ["steps", "Steps"], ["points", "Points"], ["bars", "Bars"]];

/** The chart of the address, or else the guess; null if the table has nothing to draw. */
function wanted(table: Table): Chart | null {
  const found = guess(table);
  if (!found) return null;
  const { query } = place.value;
  const column = (name: string): string | null => {
    const value = query.get(name);
    return value !== null && table.columns.includes(value) ? value : null;
  };
  const kind = KINDS.find(([one]) => one === query.get("kind"))?.[0];
  const by = query.get("by");
  return {
    kind: kind ?? found.kind,
    x: column("x") ?? found.x,
    y: column("y") ?? found.y,
    colour: by === "" ? null : (column("by") ?? found.colour),
  };
}

export function ChartOf({ table }: { table: Table }): JSX.Element {
  const chart = wanted(table);
  const text = JSON.stringify(chart);
  const drawn = useMemo(() => chart && draw(table, chart), [table, text]);
  const [element, width] = useWidth<HTMLDivElement>();
  if (!chart) {
    return <div class="chart-side"><div class="head"><h2>Chart</h2></div><p class="q s12">A chart needs two rows and a column of numbers.</p></div>;
  }
  const columns = (numbers: boolean) => table.columns.filter((_, at) => !numbers || scaleOf(table.types[at] ?? "") === "number");
  return (
    <section class="chart-side" aria-label="Chart">
      <div class="head">
        <h2>Chart</h2><span class="gap" />
        <span class="group" role="group" aria-label="Kind of chart">
          {KINDS.map(([kind, word]) => (
            <button key={kind} class="btn s" type="button" aria-pressed={chart.kind === kind} onClick={() => setQuery({ kind }, { replace: true })}>{word}</button>
          ))}
        </span>
      </div>
      <div ref={element}>
        {drawn && width > 0 ? <Picture chart={chart} drawn={drawn} width={width} isTime={scaleOf(table.types[table.columns.indexOf(chart.x)] ?? "") === "time"} />
          : <p class="q s12">No row has a number in both columns.</p>}
      </div>
      {drawn && <Legend chart={chart} drawn={drawn} />}
      <div class="axes">
        <Choice name="x" value={chart.x} of={columns(false)} />
        <Choice name="y" value={chart.y} of={columns(true)} />
        <Choice name="by" label="colour" value={chart.colour ?? ""} of={["", ...columns(false)]} />
      </div>
    </section>
  );
}

function Choice({ name, label = name, value, of }: { name: string; label?: string; value: string; of: readonly string[] }): JSX.Element {
  return (
    <label class="choice-row">
      <span class="q">{label}</span>
      <select class="field" value={value} onChange={(event) => setQuery({ [name]: event.currentTarget.value }, { replace: true })}>
        {of.map((one) => <option key={one} value={one}>{one || "one colour"}</option>)}
      </select>
    </label>
  );
}

function Legend({ chart, drawn }: { chart: Chart; drawn: Drawn }): JSX.Element | null {
  const left = drawn.series.reduce((sum, one) => sum + one.left, 0);
  return (
    <>
      {chart.colour && (
        <div class="legend">
          {drawn.series.slice(0, COLOURS).map((one, at) => <span key={one.name} class={`c${at + 1}`}><i class="dot" /><bdi class="cut">{one.name}</bdi></span>)}
          {drawn.series.length > COLOURS && <span>{drawn.series.length - COLOURS} more in grey</span>}
          {drawn.more > 0 && <span>{count(drawn.more)} more are not drawn</span>}
        </div>
      )}
      {left > 0 && <p class="q s12">Left out as NULL, NaN or infinite: {count(left)}.</p>}
    </>
  );
}

function Picture({ chart, drawn, width, isTime }: { chart: Chart; drawn: Drawn; width: number; isTime: boolean }): JSX.Element {
  const isNamed = drawn.names.length > 0;
  const y = linear(drawn.y[0], drawn.y[1], HEIGHT - BOTTOM, TOP);
  const inner = width - LEFT - RIGHT;
  const slot = inner / Math.max(drawn.names.length, 1);
  const x = isNamed ? (at: number) => LEFT + slot * (at + 0.5) : linear(drawn.x[0], drawn.x[1], LEFT, width - RIGHT);
  const marks = isNamed
    ? drawn.names.map((name, at) => ({ at, text: name })).filter((_, at) => at % Math.ceil(56 / slot) === 0)
    : isTime ? ticks(drawn.x[0], drawn.x[1], Math.floor(inner / 72))
    : roundValues(drawn.x[0], drawn.x[1], Math.max(2, Math.floor(inner / 72))).map((at) => ({ at, text: tick(at) }));
  return (
    <svg width={width} height={HEIGHT} viewBox={`0 0 ${width} ${HEIGHT}`} role="img" aria-label={sentence(chart, drawn)}>
      {roundValues(drawn.y[0], drawn.y[1]).map((value) => (
        <g key={value}>
          <path class={value === 0 ? "zero" : "grid"} d={`M${LEFT} ${Math.round(y(value)) + 0.5}H${width - RIGHT}`} />
          <text x={LEFT - 8} y={y(value) + 4} text-anchor="end">{tick(value)}</text>
        </g>
      ))}
      {marks.map((mark) => (
        <text key={mark.at} x={x(mark.at)} y={HEIGHT - 6} text-anchor="middle">{cut(mark.text, isNamed ? (slot * Math.ceil(56 / slot)) / 7 : 12)}</text>
      ))}
      {drawn.series.map((one, at) => ({ one, at })).reverse().map(({ one, at }) => (
        <g key={one.name} class={at < COLOURS ? `c${at + 1}` : "c-rest"}>
          {chart.kind === "bars"
            ? one.points.map((point, i) => {
              const wide = Math.max(1, Math.min(40, (slot * 0.7) / drawn.series.length));
              const from = x(point.x) + (at - drawn.series.length / 2) * wide;
              const top = Math.min(y(point.y), y(0));
              return <rect key={i} class="end" x={from} y={top} width={wide} height={Math.max(1, Math.abs(y(point.y) - y(0)))}><title>{`${drawn.names[point.x] ?? ""} ${number(point.y)}`}</title></rect>;
            })
            : <path class={chart.kind === "points" ? "dots" : "ln"} d={path(one.points, chart.kind, x, y)} />}
          {chart.kind === "lines" && one.points.length < 40 && <path class="dots" d={path(one.points, "points", x, y)} />}
        </g>
      ))}
    </svg>
  );
}

function path(points: readonly { x: number; y: number }[], kind: Kind, x: (v: number) => number, y: (v: number) => number): string {
  // A line of no length with round ends is a dot; thousands of them are one element.
  if (kind === "points") return points.map((point) => `M${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}h0`).join("");
  return points.map((point, i) => {
    const [px, py] = [x(point.x).toFixed(1), y(point.y).toFixed(1)];
    return i === 0 ? `M${px} ${py}` : kind === "steps" ? `H${px}V${py}` : `L${px} ${py}`;
  }).join("");
}

/** A round value without digits that say nothing. */
function tick(value: number): string {
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-4 || size >= 1e6) ? number(value) : String(value).replace("-", "\u2212");
}

function cut(text: string, size: number): string {
  return text.length > size ? `${text.slice(0, Math.max(1, Math.floor(size) - 1))}…` : text;
}
