// The timeline of a model, drawn: a lane an alias and a stage, a bar an interval, a cross a refusal.
import type { ComponentChildren, JSX } from "preact";
import { Fragment } from "preact";
import { useRef, useState } from "preact/hooks";
import { linear, roundValues, ticks } from "../../pure/calendar.ts";
import { count, duration, number, time } from "../../pure/format.ts";
import { laneSentence, layOut, mainLane, shorten, steps, type Bar, type Lane, type Refusal, type Span, type Timeline } from "../../pure/timeline.ts";
import { Icon } from "../../parts/icon.tsx";
import { Actor, Position, Reason, Time } from "../../parts/values.tsx";
import { Holds, laneName, Version, versionColour } from "../../parts/version.tsx";
import { useWidth } from "../../parts/width.ts";
import { linkTo } from "../../state/location.ts";

interface Card {
  at: { x: number; y: number };
  of: { bar: Bar; lane: Lane } | { refusal: Refusal };
  /** It stays until it is closed. */
  pinned: boolean;
}

const METRIC = 88;
const CARD = 376;
const say = (at: string): string => time(new Date(at), { seconds: false });

export function Gantt({ timeline, span, now, looked, zoom }: {
  timeline: Timeline;
  span: Span;
  /** The moment that is shown, if the window holds it. */
  now: { at: number; text: string } | null;
  /** The time of the reader's visit before. */
  looked: number | null;
  zoom: (span: Span) => void;
}): JSX.Element {
  const [frame, width] = useWidth<HTMLDivElement>();
  const [card, setCard] = useState<Card | null>(null);
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const leaving = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const left = width < 560 ? 84 : 120;
  const right = Math.max(width - 16, left + 80);
  const x = linear(span.from, span.to, left, right);
  const back = linear(left, right, span.from, span.to);
  const main = mainLane(timeline.lanes);
  const line = main && timeline.metric ? steps(main, timeline.versions, span) : [];
  const top = line.length ? METRIC : 0;
  const drawn = layOut(timeline, span, left, right, top);
  const bottom = drawn.height;
  const inside = (at: number): boolean => at >= span.from && at <= span.to;

  const show = (at: Card["at"], of: Card["of"]): void => {
    clearTimeout(leaving.current);
    if (!card?.pinned) setCard({ at, of, pinned: false });
  };
  const hide = (): void => {
    clearTimeout(leaving.current);
    leaving.current = setTimeout(() => setCard((shown) => (shown?.pinned ? shown : null)), 120);
  };
  const acts = (at: Card["at"], of: Card["of"]) => ({
    role: "button" as const,
    tabIndex: 0,
    onMouseEnter: () => show(at, of),
    onMouseLeave: hide,
    onFocus: () => show(at, of),
    onBlur: hide,
    onClick: () => setCard({ at, of, pinned: true }),
    onKeyDown: (event: KeyboardEvent) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        setCard({ at, of, pinned: true });
      } else if (event.key === "Escape" && card) {
        event.preventDefault();
        setCard(null);
      }
    },
  });

  const pointer = (event: PointerEvent): number => {
    const box = frame.current!.getBoundingClientRect();
    return Math.min(Math.max(event.clientX - box.left, left), right);
  };
  const shown = card && "bar" in card.of ? card.of.bar : null;
  return (
    <div class="gantt" ref={frame}>
      {width > 0 && (
        <svg
          width={width} height={bottom + 24} role="group" aria-label={`Timeline of ${timeline.model}. ${timeline.lanes.map((lane) => laneSentence(lane, say)).join(" ")}`}
          onPointerDown={(event) => { if (event.button === 0 && event.pointerType === "mouse" && pointer(event) > left) setDrag({ from: pointer(event), to: pointer(event) }); }}
          onPointerMove={(event) => { if (drag) setDrag({ from: drag.from, to: pointer(event) }); }}
          onPointerUp={() => {
            if (drag && Math.abs(drag.to - drag.from) > 8) zoom({ from: back(Math.min(drag.from, drag.to)), to: back(Math.max(drag.from, drag.to)) });
            setDrag(null);
          }}
          onPointerLeave={() => setDrag(null)}
        >
          {ticks(span.from, span.to, Math.max(2, Math.floor((right - left) / 84))).map((tick) => (
            <Fragment key={tick.at}>
              <path class="grid" d={`M${Math.round(x(tick.at)) + 0.5} 8V${bottom}`} />
              {x(tick.at) + 4 + 7 * tick.text.length < (now && inside(now.at) ? x(now.at) - 7 * now.text.length - 8 : width) && <text x={x(tick.at) + 4} y={bottom + 18}>{tick.text}</text>}
            </Fragment>
          ))}
          {line.length > 0 && <MetricLine key="metric" timeline={timeline} main={main!} line={line} x={x} left={left} right={right} />}
          {drawn.groups.map((group) => (
            <Fragment key={group.title}>
              <text x={0} y={group.y}>{group.title}</text>
              {group.lanes.map(({ lane, y, height, bars }) => (
                <Fragment key={lane.name}>
                  <text class={lane.kind === "alias" ? "in b" : "in"} x={0} y={y + height / 2 + 4}>
                    <title>{laneName(lane)}</title>{shorten(laneName(lane), left < 100 ? 11 : 16)}
                  </text>
                  <path class="lane" d={`M0 ${y + height - 0.5}H${right}`} />
                  {bars.map((one) => (
                    <g
                      key={`${one.bar.from_offset}-${one.bar.version}`} class={`bar-of ${versionColour(one.bar.version)}`}
                      aria-label={`${laneName(lane)}: version ${one.bar.version} from ${say(one.bar.valid_from)}${one.bar.valid_to ? ` to ${say(one.bar.valid_to)}` : " until now"}`}
                      {...acts({ x: one.x, y: one.y + one.height }, { bar: one.bar, lane })}
                    >
                      <rect class={`barv${shown === one.bar ? " hot" : ""}`} x={one.x} y={one.y} width={one.width} height={one.height} />
                      {one.begins && <rect class="edgev" x={one.x} y={one.y} width={2} height={one.height} />}
                      {one.labelled
                        ? <text class="in b" x={one.x + 8} y={one.y + 14}>{one.bar.version}</text>
                        : one.height < 10 && one.begins && <text class="in b thin" x={one.x - 5} y={one.y + 7} text-anchor="end">{one.bar.version}</text>}
                      {one.bar.override && <path class="override" d={`M${one.x + 9} ${one.y - 16}l-5 9h4l-1.5 7 6-9.5h-4z`} />}
                    </g>
                  ))}
                </Fragment>
              ))}
            </Fragment>
          ))}
          {looked !== null && inside(looked) && (
            <g class="looked">
              <path class="cursor" d={`M${Math.round(x(looked)) + 0.5} 8V${bottom}`} />
              <text class="halo" x={x(looked) - 5} y={12} text-anchor="end">you last looked</text>
            </g>
          )}
          {now && inside(now.at) && (
            <g class="now-line">
              <path d={`M${Math.round(x(now.at)) + 0.5} 4V${bottom + 4}`} />
              <text class="b" x={Math.min(x(now.at), width - 4)} y={bottom + 18} text-anchor="end">{now.text}</text>
            </g>
          )}
          {drawn.crosses.map(({ refusal, x: at, y }) => (
            <g
              key={refusal.log_offset} class="cross-of"
              aria-label={`refused: version ${refusal.version ?? ""} for ${refusal.alias ? `@${refusal.alias}` : refusal.stage}, asked by ${refusal.actor ?? "somebody"}, ${say(refusal.appended_at)}`}
              {...acts({ x: at, y: y + 10 }, { refusal })}
            >
              <circle class="nodisc" cx={at} cy={y} r={9} />
              <path class="no" d={`M${at - 4} ${y - 4}l8 8M${at + 4} ${y - 4}l-8 8`} />
            </g>
          ))}
          {drag && <rect class="drag" x={Math.min(drag.from, drag.to)} y={4} width={Math.abs(drag.to - drag.from)} height={bottom - 4} />}
        </svg>
      )}
      {card && (
        <CardBox card={card} width={width} close={() => setCard(null)} enter={() => clearTimeout(leaving.current)} leave={hide}>
          {"bar" in card.of ? <BarCard model={timeline.model} {...card.of} /> : <RefusalCard model={timeline.model} refusal={card.of.refusal} />}
        </CardBox>
      )}
    </div>
  );
}

function CardBox({ card, width, close, enter, leave, children }: {
  card: Card;
  width: number;
  close: () => void;
  enter: () => void;
  leave: () => void;
  children: ComponentChildren;
}): JSX.Element {
  const place = { left: `${Math.max(0, Math.min(card.at.x - 40, width - CARD))}px`, top: `${card.at.y + 8}px` };
  return (
    <div
      class="hovercard" role="dialog" aria-label="What happened here" style={place} onMouseEnter={enter} onMouseLeave={leave}
      onKeyDown={(event) => { if (event.key === "Escape") { event.preventDefault(); close(); } }}
    >
      {children}
      {card.pinned && <button class="btn bare s sq shut" type="button" aria-label="Close" ref={(button) => button?.focus()} onClick={close}><Icon name="cross" /></button>}
    </div>
  );
}

function MetricLine({ timeline, main, line, x, left, right }: {
  timeline: Timeline;
  main: Lane;
  line: ReturnType<typeof steps>;
  x: (at: number) => number;
  left: number;
  right: number;
}): JSX.Element {
  const values = line.map((step) => step.value);
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const margin = (most - least) * 0.25 || Math.abs(most) * 0.01 || 1;
  const y = linear(least - margin, most + margin, METRIC - 8, 22);
  let labelled = -Infinity;
  return (
    <g aria-hidden="true">
      <text x={0} y={34}>{shorten(timeline.metric!, left < 100 ? 7 : 10)}<title>{timeline.metric}</title></text>
      <text class="in b" x={0} y={56}>{shorten(laneName(main), left < 100 ? 7 : 10)}</text>
      {roundValues(least - margin, most + margin, 3).map((value) => (
        <Fragment key={value}>
          <path class="grid" d={`M${left} ${Math.round(y(value)) + 0.5}H${right}`} />
          <text x={left - 8} y={y(value) + 4} text-anchor="end">{number(value, 3)}</text>
        </Fragment>
      ))}
      {line.map((step, i) => {
        const before = line[i - 1];
        const text = `${step.version} · ${number(step.value)}`;
        const at = x(step.from) + 4;
        const fits = at > labelled && at + 7 * text.length < right;
        if (fits) labelled = at + 7 * text.length;
        return (
          <Fragment key={step.from}>
            {before && before.to === step.from && <path class="ln dim-ln" d={`M${x(step.from)} ${y(before.value)}V${y(step.value)}`} />}
            <path class={`ln ${versionColour(step.version)} held`} d={`M${x(step.from)} ${y(step.value)}H${Math.max(x(step.to), x(step.from) + 2)}`} />
            {fits && <text class="in2 halo" x={at} y={y(step.value) - 6}>{text}</text>}
          </Fragment>
        );
      })}
    </g>
  );
}

function BarCard({ model, bar, lane }: { model: string; bar: Bar; lane: Lane }): JSX.Element {
  const next = lane.bars.find((one) => one.from_offset === bar.to_offset && one !== bar);
  const took = (bar.valid_to === null ? Date.now() : Date.parse(bar.valid_to)) - Date.parse(bar.valid_from);
  return (
    <>
      <div class="card-head">
        <Holds kind={lane.kind} name={lane.name} /><Version model={model} version={bar.version} word link={false} />
        <span class="gap" /><span class="q s12">{duration(took / 1000)}{bar.valid_to === null && ", still"}</span>
      </div>
      <p class="s12 q2">
        <Time at={bar.valid_from} /> to {bar.valid_to === null ? "now" : <Time at={bar.valid_to} />} · offset {count(bar.from_offset)}
        {bar.to_offset !== null && <> to {count(bar.to_offset)}</>}
      </p>
      <dl class="kv">
        <dt>Who</dt><dd><Actor name={bar.set_by} verified={bar.verified} /></dd>
        <dt>Why</dt><dd><Reason text={bar.reason} /></dd>
        {bar.override && <><dt>Rule</dt><dd><span class="st warn"><Icon name="bolt" />overridden</span></dd></>}
        {next && <><dt>Ended by</dt><dd><Actor name={next.set_by} verified={next.verified} /> <Reason text={next.reason} /></dd></>}
      </dl>
      <p class="card-links">
        <a class="a" href={linkTo(`/models/${encodeURIComponent(model)}/versions/${bar.version}`, { at: `registry:0:${bar.from_offset}` })}>Why, and on what evidence</a>
        <a class="a" href={linkTo(`/audit/${bar.from_offset}`)}>The event</a>
      </p>
    </>
  );
}

function RefusalCard({ model, refusal }: { model: string; refusal: Refusal }): JSX.Element {
  return (
    <>
      <div class="card-head">
        <span class="st bad"><Icon name="cross" />refused</span>
        {refusal.version !== null && <Version model={model} version={refusal.version} word link={false} />}
        <span class="gap" /><span class="q s12">offset {count(refusal.log_offset)}</span>
      </div>
      <p class="s12 q2"><Time at={refusal.appended_at} relative /></p>
      <dl class="kv">
        <dt>Who</dt><dd><Actor name={refusal.actor} verified={refusal.verified} /></dd>
        <dt>Why</dt><dd><Reason text={refusal.reason} /></dd>
        <dt>Refused</dt><dd><bdi>{refusal.message}</bdi> <code class="q">{refusal.code}</code></dd>
      </dl>
      <p class="card-links"><a class="a" href={linkTo(`/audit/${refusal.log_offset}`)}>The event</a></p>
    </>
  );
}

/** What the drawing shows, as a table. */
export function GanttTable({ timeline }: { timeline: Timeline }): JSX.Element {
  return (
    <div class="wide">
      <table class="tbl flush open rows">
        <thead><tr><th>Holds</th><th>Version</th><th>From</th><th>To</th><th>By</th><th>Why</th><th class="num">Offset</th></tr></thead>
        <tbody>
          {timeline.lanes.flatMap((lane) => [...lane.bars].reverse().map((bar) => (
            <tr key={`${lane.kind} ${lane.name} ${bar.from_offset} ${bar.version}`}>
              <td><Holds kind={lane.kind} name={lane.name} /></td>
              <td><Version model={timeline.model} version={bar.version} /></td>
              <td><Time at={bar.valid_from} /></td>
              <td>{bar.valid_to === null ? <span class="q">now</span> : <Time at={bar.valid_to} />}</td>
              <td><Actor name={bar.set_by} verified={bar.verified} /></td>
              <td class="cut why"><Reason text={bar.reason} /></td>
              <td class="num"><Position offset={bar.from_offset} /></td>
            </tr>
          )))}
        </tbody>
      </table>
    </div>
  );
}
