// The API reference, from the server's own `GET /openapi.json`, with a form that sends the request.
// The address holds the operation that is shown: `?op=GET /api/v1/runs`.
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { ApiError, ask, get } from "../../client/api.ts";
import { useAnswer } from "../../parts/answer.ts";
import { CopyButton } from "../../parts/copy.tsx";
import { Page } from "../../parts/page.tsx";
import { Loaded, NothingFound } from "../../parts/states.tsx";
import { duration } from "../../pure/format.ts";
import { curl, filled, nameOf, operations, spans, type Document, type Field, type Operation } from "../../pure/openapi.ts";
import { linkTo, place, setQuery } from "../../state/location.ts";
import { me } from "../../state/session.ts";

const SHOWN_MAX = 100_000;

export default function Docs(): JSX.Element {
  const answer = useAnswer("openapi", (signal) => get<Document>("/openapi.json", {}, signal));
  return (
    <Page crumbs={[{ text: "API" }]} fill>
      <Loaded answer={answer} rows={16}>{(document) => <Reference document={document} />}</Loaded>
    </Page>
  );
}

function Reference({ document }: { document: Document }): JSX.Element {
  const all = useMemo(() => operations(document), [document]);
  const [wanted, setWanted] = useState("");
  const name = place.value.query.get("op");
  const shown = name === null ? undefined : [...all.values()].flat().find((one) => nameOf(one) === name);
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (one: Operation): boolean => words.every((word) => `${nameOf(one)} ${one.summary}`.toLowerCase().includes(word));
  const groups = [...all].map(([tag, list]) => [tag, list.filter(fits)] as const).filter(([, list]) => list.length > 0);
  return (
    <div class={shown ? "api-cols one" : "api-cols"}>
      <nav class="api-side" aria-label="Operations" tabIndex={0}>
        <input class="field" type="search" data-filter placeholder="Find a route" aria-label="Find a route" value={wanted} onInput={(event) => setWanted(event.currentTarget.value)} />
        {groups.map(([tag, list]) => (
          // MLflow's hundred routes are closed until somebody looks for one.
          <details key={tag} open={tag !== "mlflow" || words.length > 0}>
            <summary><h2>{tag}</h2><span class="q">{list.length}</span></summary>
            <ul>
              {list.map((one) => (
                <li key={nameOf(one)}>
                  <a href={linkTo("/docs", { op: nameOf(one) })} aria-current={one === shown ? "true" : undefined} title={nameOf(one)}>
                    <span class="method">{one.method}</span><span class="cut">{one.path.replace("/api/v1", "")}</span>
                  </a>
                </li>
              ))}
            </ul>
          </details>
        ))}
        {groups.length === 0 && <p class="q">No route fits.</p>}
      </nav>
      <div class="scroll api-main" tabIndex={0} role="region" aria-label="Operation">
        {shown ? <Details key={nameOf(shown)} one={shown} />
          : name !== null ? <NothingFound what="There is no such route" drop={() => setQuery({ op: null })}><code>{name}</code></NothingFound>
          : <Overview document={document} />}
      </div>
    </div>
  );
}

function Overview({ document }: { document: Document }): JSX.Element {
  const { origin } = location;
  return (
    <div class="api-text">
      <h2 class="big">{document.info.title} {document.info.version}</h2>
      {(document.info.description ?? "").trim().split("\n\n").map((part) => <p key={part}><Marked text={part} /></p>)}
      <h3>Begin</h3>
      <pre class="code">{`curl ${origin}/api/v1/runs${me.value?.auth ? ' -H "Authorization: Bearer $MODELTRAIL_TOKEN"' : ""}`}</pre>
      <pre class="code">{`from modeltrail.api import query\n\nquery("FROM runs LIMIT 10", url="${origin}").df()`}</pre>
      <pre class="code">{`export MLFLOW_TRACKING_URI=${origin}    # MLflow's clients work as they are`}</pre>
      <p class="q2">The whole description, for generators of clients: <a class="a" href="/openapi.json" target="_blank" rel="noopener">openapi.json</a></p>
    </div>
  );
}

function Marked({ text }: { text: string }): JSX.Element {
  return <>{spans(text).map((part, at) => (at % 2 ? <code key={at}>{part}</code> : part))}</>;
}

function Details({ one }: { one: Operation }): JSX.Element {
  return (
    <article class="api-text">
      <p class="phone-only"><a class="a" href={linkTo("/docs")}>All routes</a></p>
      <h2 class="big">{one.summary}</h2>
      <p class="mono api-path"><b>{one.method}</b> {one.path}</p>
      {one.description && one.description !== `${one.summary}.` && <p><Marked text={one.description} /></p>}
      <Try one={one} />
      {one.body.length > 0 && <><h3>Body</h3><Fields of={one.body} /></>}
      {one.answers.map((answer) => (
        <section key={answer.status}>
          <h3>Answer {answer.status}</h3>
          {answer.description && <p><Marked text={answer.description} /></p>}
          {answer.example && <pre class="code" tabIndex={0}>{answer.example}</pre>}
        </section>
      ))}
    </article>
  );
}

function Fields({ of }: { of: readonly Field[] }): JSX.Element {
  return (
    <dl class="kv fields">
      {of.map((field) => [
        <dt key={`${field.name}-t`}><code>{field.name}</code>{field.required && <span class="q"> needed</span>}</dt>,
        <dd key={`${field.name}-d`}><span class="q">{field.type}{field.default !== null && `, else ${field.default}`}</span> <Marked text={field.description} /></dd>,
      ])}
    </dl>
  );
}

interface Came {
  status: number;
  ms: number;
  type: string;
  text: string;
  requestId: string | null;
}

/** The form of an operation, and what came back. */
function Try({ one }: { one: Operation }): JSX.Element {
  const [values, setValues] = useState<Record<string, string>>({});
  const [body, setBody] = useState(one.example);
  const [came, setCame] = useState<Came | null>(null);
  const [wrong, setWrong] = useState<string | null>(null);
  const [waiting, setWaiting] = useState<AbortController | null>(null);
  const inputs = one.parameters.filter((parameter) => parameter.in === "path" || parameter.in === "query");
  const isJson = one.bodyType === null || one.bodyType === "application/json";
  const target = filled(one, values);
  useEffect(() => () => waiting?.abort(), [waiting]);

  async function send(): Promise<void> {
    if ("missing" in target) return setWrong(`Fill in ${target.missing}.`);
    let parsed: unknown;
    try {
      parsed = one.bodyType === null ? undefined : JSON.parse(body || "{}");
    } catch (error) {
      return setWrong(`The body is not JSON: ${error instanceof Error ? error.message : String(error)}`);
    }
    const mine = new AbortController();
    setWrong(null);
    setWaiting(mine);
    const began = performance.now();
    try {
      const answer = await ask(one.method, target.path, { body: parsed, signal: mine.signal, accept: "*/*" });
      const type = answer.headers.get("content-type") ?? "";
      setCame({ status: answer.status, ms: performance.now() - began, type, text: await readable(answer, type), requestId: answer.headers.get("x-request-id") });
    } catch (error) {
      if (error instanceof ApiError) setCame({ status: error.status, ms: performance.now() - began, type: "application/json", text: JSON.stringify(error.body, null, 2), requestId: error.requestId });
      else if (!mine.signal.aborted) throw error;
    } finally {
      setWaiting(null);
    }
  }

  return (
    <form class="try" aria-label="Try it" onSubmit={(event) => { event.preventDefault(); void send(); }}>
      {inputs.map((parameter) => (
        <label key={parameter.name} class="try-row">
          <span><code>{parameter.name}</code>{parameter.required && <span class="q"> needed</span>}</span>
          <span>
            <input
              class="field" value={values[parameter.name] ?? ""} placeholder={parameter.default ?? undefined} required={parameter.in === "path"}
              onInput={(event) => setValues({ ...values, [parameter.name]: event.currentTarget.value })}
            />
            <span class="q s12">{parameter.type}. <Marked text={parameter.description} /></span>
          </span>
        </label>
      ))}
      {one.bodyType !== null && isJson && (
        <label class="try-row">
          <span>body</span>
          <textarea class="field mono" rows={Math.min(14, body.split("\n").length + 1)} spellcheck={false} value={body} onInput={(event) => setBody(event.currentTarget.value)} />
        </label>
      )}
      <div class="try-acts">
        {isJson
          ? waiting ? <button class="btn" type="button" onClick={() => waiting.abort()}>Cancel</button> : <button class={one.method === "GET" ? "btn" : "btn main-act"} type="submit">{one.method === "GET" ? "Try it" : `Send this ${one.method}`}</button>
          : <span class="q2">The body is <code>{one.bodyType}</code>: send it with curl.</span>}
        <CopyButton label="Copy as curl" text={curl(one.method, location.origin + ("path" in target ? target.path : one.path), one.bodyType === null || !isJson ? null : body, me.value?.auth ?? false)} />
        {wrong && <span class="st bad" role="alert">{wrong}</span>}
      </div>
      {came && (
        <section aria-label="What came" class="came">
          <p role="status"><b class={came.status >= 400 || came.status === 0 ? "st bad" : ""}>{came.status || "No answer"}</b> <span class="q">in {duration(came.ms / 1000)}, {came.type || "empty"}{came.requestId && <>, request <code>{came.requestId}</code></>}</span></p>
          {came.text && <pre class="code" tabIndex={0}>{came.text}</pre>}
        </section>
      )}
    </form>
  );
}

async function readable(answer: Response, type: string): Promise<string> {
  if (!/json|text|xml|csv/.test(type)) {
    await answer.body?.cancel();
    return type ? "(not text: it is not shown here)" : "";
  }
  const text = await answer.text();
  let shown = text;
  try {
    if (type.includes("json")) shown = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // several documents, or cut: shown as it came
  }
  return shown.length > SHOWN_MAX ? `${shown.slice(0, SHOWN_MAX)}\n… ${shown.length - SHOWN_MAX} more characters` : shown;
}
