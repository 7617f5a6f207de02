// What differs in the registry between two moments, and the events that made it so.
import type { JSX } from "preact";
import { ask, get } from "../../client/api.ts";
import { useAnswer } from "../../parts/answer.ts";
import { copyText } from "../../parts/copy.tsx";
import { Menu } from "../../parts/menu.tsx";
import { MomentField } from "../../parts/moment-field.tsx";
import { Page } from "../../parts/page.tsx";
import { saveText } from "../../parts/save.ts";
import { Empty, Loaded } from "../../parts/states.tsx";
import { Actor, Position, Reason, Time } from "../../parts/values.tsx";
import { counts, groups, name, type Change } from "../../pure/diff.ts";
import { count } from "../../pure/format.ts";
import { linkTo, place, setQuery } from "../../state/location.ts";
import { moment } from "../../state/moment.ts";

interface End {
  position: string | null;
  offset: number;
  time: string | null;
}
interface Diff {
  from: End;
  to: End;
  changes: Change[];
  more: boolean;
}

const DAYS: [string, number][] = [["1 h", 3.6e6], ["1 d", 8.64e7], ["7 d", 6.048e8], ["30 d", 2.592e9]];

export default function DiffPage(): JSX.Element {
  const query = place.value.query;
  const model = query.get("model");
  // The time bar's moment is where the comparison ends, unless the address says it.
  const to = query.get("to") ?? moment.value;
  const from = query.get("from") ?? "registry:0:0";
  const asking = { from, to };
  const answer = useAnswer(`diff ${from} ${to ?? ""}`, (signal) => get<Diff>("/api/v1/diff", asking, signal));
  const markdown = async (): Promise<string> => (await ask("GET", "/api/v1/diff", { query: { ...asking, format: "markdown" }, accept: "text/markdown" })).text();
  return (
    <Page
      crumbs={[{ text: "Audit", href: "/audit" }, { text: "Diff of two moments" }]}
      acts={<>
        <Menu label="Export" icon="load" items={[
          { text: "Copy Markdown", run: () => void markdown().then(copyText) },
          { text: "Save Markdown", hint: ".md", run: () => void markdown().then((text) => saveText("registry-diff.md", text, "text/markdown")) },
          { text: "Save JSON", hint: ".json", disabled: !answer.data, run: () => saveText("registry-diff.json", JSON.stringify(answer.data, null, 2), "application/json") },
        ]} />
        <button class="btn desk" type="button" onClick={() => print()}>Print</button>
      </>}
    >
      <h1>What differs between two moments</h1>
      <div class="ask-moments">
        <MomentField label="From" at={from} change={(at) => setQuery({ from: at })} />
        <MomentField label="To" at={to} change={(at) => setQuery({ to: at })} />
        <span class="group" role="group" aria-label="From">
          {DAYS.map(([text, size]) => <button key={text} class="btn" type="button" onClick={() => setQuery({ from: new Date(Date.now() - size).toISOString(), to: null })}>{text}</button>)}
          <button class="btn" type="button" aria-pressed={query.get("from") === null} onClick={() => setQuery({ from: null })}>All</button>
        </span>
      </div>
      <Loaded answer={answer}>
        {(diff) => {
          const changes = model === null ? diff.changes : diff.changes.filter((change) => change.model === model);
          return (
            <>
              <Summary diff={diff} changes={changes} />
              {model !== null && <p class="section-gap"><span class="chip">model <b><bdi>{model}</bdi></b></span> <button class="btn s" type="button" onClick={() => setQuery({ model: null })}>All models</button></p>}
              {changes.length === 0
                ? <Empty title="Nothing differs">The registry was the same at both moments{diff.to.offset - diff.from.offset > 0 && ": what happened between them was refused, repeated or taken back"}.</Empty>
                : groups(changes).map((group) => (
                  <section key={group.title} aria-label={group.title}>
                    <div class="head"><h2>{group.model !== null ? <a href={linkTo(`/models/${encodeURIComponent(group.model)}`)}><bdi>{group.model}</bdi></a> : <bdi>{group.title}</bdi>}</h2><span class="q">{group.model !== null ? "model" : ""}</span></div>
                    <Table changes={group.changes} />
                  </section>
                ))}
              {diff.more && <p class="note warn section-gap">There are more changes than are shown: choose moments that are closer to each other.</p>}
              <p class="print-foot">{location.href} · printed {new Date().toISOString()}</p>
            </>
          );
        }}
      </Loaded>
    </Page>
  );
}

function Summary({ diff, changes }: { diff: Diff; changes: readonly Change[] }): JSX.Element {
  const { added, changed, removed } = counts(changes);
  return (
    <p class="q2 section-gap">
      From <Where end={diff.from} /> to <Where end={diff.to} />: {count(changes.length)} {changes.length === 1 ? "value differs" : "values differ"}
      {changes.length > 0 && <span class="q"> · {count(changed)} changed, {count(added)} new, {count(removed)} gone</span>}
    </p>
  );
}

function Where({ end }: { end: End }): JSX.Element {
  if (end.position === null) return <b class="b5">before the first event</b>;
  return <><b class="b5"><Time at={end.time} /></b> <span class="q">offset <Position offset={end.offset} /></span></>;
}

function Table({ changes }: { changes: readonly Change[] }): JSX.Element {
  return (
    <table class="tbl flush open rows diff-table">
      <colgroup><col class="c-what" /><col class="c-values" /><col /></colgroup>
      <thead><tr><th>What</th><th>Before → after</th><th>Made so by</th></tr></thead>
      <tbody>
        {changes.map((change) => (
          <tr key={`${name(change)} ${change.entity}`}>
            <td class="value">{name(change).startsWith("@") ? <span class="chip alias"><bdi class="cut">{name(change)}</bdi></span> : <bdi>{name(change)}</bdi>}</td>
            <td class="value"><Value text={change.before} old /><span class="arrow" aria-label="became">→</span><Value text={change.after} /></td>
            <td>
              <ul class="causes">
                {change.events.slice(-3).map((event) => (
                  <li key={event.log_offset}><Position offset={event.log_offset} /> <Time at={event.appended_at} /> <Actor name={event.actor} verified={event.verified} /> <Reason text={event.reason} /></li>
                ))}
                {change.events.length > 3 && <li class="q">after {count(change.events.length - 3)} more</li>}
              </ul>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Value({ text, old = false }: { text: string | null; old?: boolean }): JSX.Element {
  if (text === null) return <span class="q">none</span>;
  return old ? <del class="before"><bdi>{text}</bdi></del> : <ins class="after"><bdi>{text}</bdi></ins>;
}
