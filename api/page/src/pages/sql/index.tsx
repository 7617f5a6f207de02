// SQL over the public views: an editor with completion, the result as a table and a chart, downloads and links.
// From `POST /api/v1/sql`; the address holds the query (`q`) and what was changed of the chart.
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ApiError, ask, signedOut, withQuery } from "../../client/api.ts";
import { useAnswer } from "../../parts/answer.ts";
import { copyText } from "../../parts/copy.tsx";
import { Icon } from "../../parts/icon.tsx";
import { Page } from "../../parts/page.tsx";
import { useLate } from "../../parts/states.tsx";
import { Actor } from "../../parts/values.tsx";
import type { Table } from "../../pure/chart.ts";
import { count, duration, position } from "../../pure/format.ts";
import { asPython } from "../../pure/copies.ts";
import { asCommand, asCurl, errorPlace, errorText, lineOf, titleOf, type Span } from "../../pure/sql.ts";
import { useKeys } from "../../state/keys.ts";
import { place, setQuery } from "../../state/location.ts";
import { moment } from "../../state/moment.ts";
import { may, me } from "../../state/session.ts";
import { ChartOf } from "./chart.tsx";
import type { Editor } from "./editor.ts";
import { Rows } from "./result.tsx";
import { macrosAt, readViews, type Macro, type View } from "./schema.ts";

const ROWS_MAX = 10_000;
const TIMEOUT_S = 30;
const LINK_CHARACTERS_MAX = 30_000;

const EXAMPLES: readonly [title: string, statement: string][] = [
  ["Newest runs", `-- newest runs
SELECT run_id, name, experiment_name, status, start_time, duration_s
FROM runs
ORDER BY start_time DESC
LIMIT 100`],
  ["Best of each metric", `-- the best run of each metric
SELECT key, arg_max(run_id, value) AS run_id, max(value) AS best, count(*) AS runs
FROM latest_metrics
GROUP BY key
ORDER BY key`],
  ["Curves of a metric", `-- the curves of one metric
SELECT m.step, r.name, m.value
FROM metrics m JOIN runs r USING (run_id)
WHERE m.key = (SELECT key FROM latest_metrics GROUP BY key ORDER BY count(*) DESC LIMIT 1)
ORDER BY r.name, m.step`],
  ["Holders of aliases", `-- who held which alias, and why
SELECT model, alias, version, valid_from, valid_to, set_by, reason
FROM aliases_history
ORDER BY valid_from`],
  ["Refusals", `-- what was refused
SELECT appended_at, actor, type, model, code, message
FROM audit
WHERE NOT accepted
ORDER BY appended_at DESC`],
];

interface Result extends Table {
  truncated: boolean;
}

type Outcome =
  | { state: "none" }
  | { state: "running" }
  | { state: "cancelled" }
  | { state: "done"; result: Result; statement: string; ms: number }
  | { state: "failed"; error: ApiError; statement: string };

export default function Sql(): JSX.Element {
  if (me.value && !may("sql")) {
    return (
      <Page crumbs={[{ text: "SQL" }]}>
        <div class="state">
          <h2>SQL is for those who may read everything</h2>
          <p class="q2">A query can join all runs and models, so it needs the right to read all of them. Runs, models and the audit trail show what you may read.</p>
        </div>
      </Page>
    );
  }
  return <Workbench />;
}

function Workbench(): JSX.Element {
  const asked = place.value.query.get("q");
  const [text, setText] = useState(asked ?? EXAMPLES[0]![1]);
  const [outcome, setOutcome] = useState<Outcome>({ state: "none" });
  const [showsViews, setShowsViews] = useState(false);
  const editor = useRef<Editor | null>(null);
  const running = useRef<AbortController | null>(null);
  const views = useAnswer("views", readViews);
  const macros = useMemo(() => macrosAt(moment.value, new Date()), [moment.value]);

  // The answer may come before the editor's code.
  const wrong = useRef<Span | null>(null);
  function show(place: Span | null): void {
    wrong.current = place;
    editor.current?.mark(place);
  }
  async function run(statement: string): Promise<void> {
    running.current?.abort();
    const mine = new AbortController();
    running.current = mine;
    show(null);
    setOutcome({ state: "running" });
    const began = performance.now();
    try {
      const body = { statement, limit: ROWS_MAX, timeout_s: TIMEOUT_S };
      const result = (await (await ask("POST", "/api/v1/sql", { body, signal: mine.signal })).json()) as Result;
      if (running.current === mine) setOutcome({ state: "done", result, statement, ms: performance.now() - began });
    } catch (error) {
      if (mine.signal.aborted || running.current !== mine) return;
      if (!(error instanceof ApiError)) throw error;
      setOutcome({ state: "failed", error, statement });
      if (error.code === "SQL_ERROR") show(errorPlace(statement, error.message));
    }
  }
  function runText(): void {
    const statement = (editor.current?.text() ?? text).trim();
    if (!statement) return;
    // The address changes first: what it says is run, also when somebody goes back to it.
    if (statement === place.value.query.get("q")) void run(statement);
    else setQuery({ q: statement, kind: null, x: null, y: null, by: null });
  }
  function cancel(): void {
    running.current?.abort(); // the server stops a query whose client is gone
    setOutcome({ state: "cancelled" });
  }
  const latest = useRef(runText);
  latest.current = runText;
  useEffect(() => {
    if (asked === null) return;
    if (editor.current && editor.current.text().trim() !== asked) editor.current.show(asked);
    setText(asked);
    void run(asked);
  }, [asked, signedOut.value]);
  useEffect(() => () => running.current?.abort(), []);
  useEffect(() => { if (views.data) editor.current?.complete({ views: views.data, macros }); }, [views.data, macros, editor.current]);
  useKeys("SQL", [
    { key: "Ctrl+Enter", what: "Run the query", run: runText, always: true },
    { key: "/", what: "Go to the query", run: () => editor.current?.focus() },
    ...(outcome.state === "running" ? [{ key: "Escape", what: "Cancel the query", run: cancel, always: true }] : []),
  ]);
  const done = outcome.state === "done" ? outcome : null;
  return (
    <Page crumbs={asked === null ? [{ text: "SQL" }] : [{ text: "SQL", href: "/sql" }, { text: titleOf(asked) }]} fill>
      <div class="sql-cols">
        <Side views={views.data} macros={macros} text={text} isShown={showsViews} insert={(one) => editor.current?.insert(one)} show={(one) => { editor.current?.show(one); latest.current(); }} />
        <div class="sql-main">
          <Writing text={text} setText={setText} run={() => latest.current()} made={(one) => {
            editor.current = one;
            if (one && views.data) one.complete({ views: views.data, macros });
            one?.mark(wrong.current);
          }} />
          <div class="run-row">
            {outcome.state === "running"
              ? <button class="btn" type="button" onClick={cancel}><Icon name="stop" />Cancel <kbd>Esc</kbd></button>
              : <button class="btn main-act" type="button" onClick={runText}>Run <kbd>Ctrl ↵</kbd></button>}
            <button class="btn phone-only" type="button" aria-expanded={showsViews} onClick={() => setShowsViews(!showsViews)}>Views</button>
            <span class="q s12" role="status"><Said outcome={outcome} /></span>
            <span class="gap" />
            {me.value && <span class="q s12 desk">runs as <Actor name={me.value.actor} verified={me.value.verified} /> for at most {TIMEOUT_S} s, {count(ROWS_MAX)} rows here</span>}
          </div>
          {moment.value !== null && <p class="note warn sql-note">A query reads what is now. For {position(moment.value)}, read <code>{macros[0]!.text}</code> and the others under “At a moment”.</p>}
          {outcome.state === "failed" && <Wrong outcome={outcome} />}
          {done
            ? done.result.rows.length === 0
              ? <div class="state sql-note"><h2>No rows</h2><p class="q2">The query is right, and nothing matches it.</p></div>
              : <div class="res"><Rows table={done.result} question={done.statement} /><ChartOf table={done.result} /></div>
            : <div class="res-none">{outcome.state === "none" && <p class="q">The result is a table here, with a chart where there are numbers. <kbd>Ctrl ↵</kbd> runs the query.</p>}</div>}
          <Foot statement={(done?.statement ?? text).trim()} />
        </div>
      </div>
    </Page>
  );
}

function Said({ outcome }: { outcome: Outcome }): JSX.Element | null {
  switch (outcome.state) {
    case "running": return <Running />;
    case "cancelled": return <>cancelled</>;
    case "done": {
      const { result, ms } = outcome;
      const rows = `${count(result.rows.length)} ${result.rows.length === 1 ? "row" : "rows"}`;
      return <>{result.truncated ? `the first ${rows}, downloads have all,` : rows} in {duration(ms / 1000)}</>;
    }
    default: return null;
  }
}

function Running(): JSX.Element | null {
  return useLate() ? <>running…</> : null;
}

/** The editor, once its code is here; until then, and if it does not come, plain text. */
function Writing({ text, setText, run, made }: {
  text: string;
  setText: (text: string) => void;
  run: () => void;
  made: (editor: Editor | null) => void;
}): JSX.Element {
  const parent = useRef<HTMLDivElement>(null);
  const [isPlain, setIsPlain] = useState(true);
  const latest = useRef({ text, setText, run });
  latest.current = { text, setText, run };
  useEffect(() => {
    let mine: Editor | null = null;
    let here = true;
    import("./editor.ts").then(
      ({ edit }) => {
        if (!here || !parent.current) return;
        mine = edit(parent.current, latest.current.text, {
          label: "Query",
          changed: (changed) => latest.current.setText(changed),
          run: () => latest.current.run(),
        });
        setIsPlain(false);
        made(mine);
      },
      () => {}, // without it the query is written in plain text
    );
    return () => {
      here = false;
      mine?.close();
      made(null);
    };
  }, []);
  return (
    <div class="sql-editor">
      {isPlain && <textarea class="plain-sql" aria-label="Query" value={text} spellcheck={false} onInput={(event) => setText(event.currentTarget.value)} />}
      <div ref={parent} class={isPlain ? "hidden" : "sql-host"} />
    </div>
  );
}

function Side({ views, macros, text, isShown, insert, show }: {
  views: View[] | null;
  macros: readonly Macro[];
  text: string;
  isShown: boolean;
  insert: (text: string) => void;
  show: (statement: string) => void;
}): JSX.Element {
  const words = new Set(text.match(/\w+/g));
  return (
    <div class={isShown ? "sql-side shown" : "sql-side"} role="region" aria-label="What can be queried" tabIndex={0}>
      <h2>Examples</h2>
      <ul>
        {EXAMPLES.map(([title, statement]) => <li key={title}><button type="button" onClick={() => show(statement)}>{title}</button></li>)}
      </ul>
      <h2><span>Views</span><span>columns</span></h2>
      {views?.map((view) => (
        <details key={view.name}>
          <summary class={words.has(view.name) ? "used" : ""}><span class="mono cut">{view.name}</span><span class="q">{view.columns.length}</span></summary>
          <ul>
            {view.columns.map((column) => (
              <li key={column.name}><button type="button" onClick={() => insert(column.name)} title={`Insert ${column.name}`}><span class="mono cut">{column.name}</span><span class="q cut">{column.type.toLowerCase()}</span></button></li>
            ))}
          </ul>
        </details>
      ))}
      <h2>At a moment</h2>
      <ul>
        {macros.map((macro) => <li key={macro.name}><button type="button" title={`Insert ${macro.text}`} onClick={() => insert(macro.text)}><span class="mono cut">{macro.name}(…)</span></button></li>)}
      </ul>
    </div>
  );
}

function Wrong({ outcome: { error, statement } }: { outcome: Extract<Outcome, { state: "failed" }> }): JSX.Element {
  const at = error.code === "SQL_ERROR" ? errorPlace(statement, error.message) : null;
  const where = at && lineOf(statement, at.from);
  return (
    <div class="note bad sql-note" role="alert">
      <p class="said"><Icon name="warn" /> <span>{errorText(error.message)}</span></p>
      <p class="q2">
        {where && <>line {where.line}, column {where.column} · </>}
        <code>{error.status} {error.code}</code>{error.requestId && <> · request <code>{error.requestId}</code></>}
      </p>
    </div>
  );
}

function Foot({ statement }: { statement: string }): JSX.Element {
  const copy = (text: string) => () => void copyText(text);
  const link = `${location.origin}${withQuery("/sql", { q: statement })}`;
  const isShort = statement.length <= LINK_CHARACTERS_MAX;
  const file = (format: string) => withQuery("/api/v1/sql", { statement, format, timeout_s: 600 });
  return (
    <div class="foot">
      <span>Copy as</span>
      <button class="a" type="button" onClick={copy(link)}>link</button>
      <button class="a" type="button" onClick={copy(asCurl(statement, location.origin, me.value?.verified ?? false))}>curl</button>
      <button class="a" type="button" onClick={copy(asPython(statement, location.origin))}>Python</button>
      <button class="a" type="button" onClick={copy(asCommand(statement, location.origin))}>modeltrail sql</button>
      <span class="gap" />
      <span class="desk">Download</span>
      {isShort && statement && [["csv", "CSV"], ["parquet", "Parquet"], ["arrow", "Arrow"]].map(([format, word]) => (
        <a key={format} class="a" href={file(format!)} download={`result.${format}`}>{word}</a>
      ))}
    </div>
  );
}
