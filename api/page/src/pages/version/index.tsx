// A version: why it is in production, on what evidence, where it comes from, and what it can be proved by.
import type { JSX, TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import { ApiError, get, post } from "../../client/api.ts";
import type { PageProps } from "../../frame/match.ts";
import { useAnswer } from "../../parts/answer.ts";
import { Blame } from "../../parts/blame.tsx";
import { ChangeDialog, type Wish } from "../../parts/change.tsx";
import { Icon } from "../../parts/icon.tsx";
import { CopyAs } from "../../parts/menu.tsx";
import { Page, Writes } from "../../parts/page.tsx";
import { Failed, Loaded } from "../../parts/states.tsx";
import { Actor, Duration, Num, Position, Reason, Status, Text, Time } from "../../parts/values.tsx";
import { Holds, Version } from "../../parts/version.tsx";
import { useWidth } from "../../parts/width.ts";
import { shellText, sqlText } from "../../pure/copies.ts";
import { betterIs, differing, weigh, type RunValues } from "../../pure/evidence.ts";
import { bytes, count, duration, number, position } from "../../pure/format.ts";
import { place as placeGraph } from "../../pure/lineage.ts";
import { formerHolders, shorten, type Timeline } from "../../pure/timeline.ts";
import { linkTo, place, setQuery } from "../../state/location.ts";
import { moment } from "../../state/moment.ts";
import { graph, type Asked, type Hold, type Why } from "./why.ts";

export default function VersionPage({ params }: PageProps): JSX.Element {
  const model = params.model!;
  const version = Number(params.version);
  const at = moment.value;
  const path = `/api/v1/models/${encodeURIComponent(model)}`;
  const url = `${path}/versions/${encodeURIComponent(params.version!)}/why`;
  const why = useAnswer(`${url} ${at ?? ""}`, (signal) => get<Why>(url, { as_of: at }, signal));
  const timeline = useAnswer(`${path} ${at ?? ""}`, (signal) => get<Timeline>(`${path}/timeline`, { to: at }, signal));
  const [wish, setWish] = useState<Wish | null>(null);
  const held = why.data?.holds.find((one) => one.kind === "alias");
  const lane = timeline.data?.lanes.find((one) => one.kind === "alias" && one.name === held?.name);
  const query = at === null ? "" : `?as_of=${at}`;
  return (
    <Page
      crumbs={[{ text: "Models", href: "/models" }, { text: model, href: `/models/${encodeURIComponent(model)}` }, { text: `version ${params.version}` }]}
      acts={<>
        <span class="desk"><CopyAs texts={{
          curl: () => `curl -s ${shellText(`${location.origin}${url}${query}`)}`,
          SQL: () => `SELECT * FROM aliases_history WHERE model = ${sqlText(model)} AND version = ${version} ORDER BY from_offset`,
          MLflow: () => `mlflow.MlflowClient("${location.origin}").get_model_version(${JSON.stringify(model)}, "${version}")`,
        }} /></span>
        <button class="btn desk" type="button" onClick={() => print()}>Print</button>
        <Writes>
          {held && lane && formerHolders(lane).length > 0
            ? <button class="btn main-act" type="button" onClick={() => setWish({ act: "roll back", alias: held.name })}>Roll back…</button>
            : <button class="btn main-act" type="button" onClick={() => setWish({ act: "promote", version })}>Promote…</button>}
        </Writes>
      </>}
    >
      <Loaded answer={why}>
        {(data) => (
          <>
            <Sentence why={data} />
            <div class="why-cols">
              <div>
                <Evidence why={data} />
                <RaceLens why={data} />
                <Refusals refused={data.refused} />
                <Against why={data} versions={timeline.data?.versions ?? []} />
                <Comments why={data} path={`${path}/versions/${version}/comments`} />
              </div>
              <aside class="lean" aria-label="About this version">
                <Proof why={data} />
                <About why={data} />
                <Files why={data} />
                {lane && <Former model={model} lane={lane} />}
              </aside>
            </div>
            <Lineage why={data} />
            <p class="print-foot">
              {model} version {version} {at === null ? "as it is now" : `as of ${position(at)}`} · decision at registry:0:{data.holds[0]?.from_offset ?? "–"} · chain {data.proof.hash ?? "–"} · printed {new Date().toISOString()}
            </p>
          </>
        )}
      </Loaded>
      {wish && <ChangeDialog model={model} wish={wish} close={() => setWish(null)} />}
    </Page>
  );
}

/** The sentence is the page's title. It says what the server's `sentence` says, with links and the reader's zone. */
function Sentence({ why }: { why: Why }): JSX.Element {
  const [main, ...others] = why.holds;
  if (!main) return <><p class="s12 q why-q">Why is it where it is?</p><h1 class="lede">{why.sentence}</h1></>;
  return (
    <>
      <p class="s12 q why-q">{isServing(main) ? "Why is this in production?" : "Why is it where it is?"}</p>
      <h1 class="lede">
        <b>Version {why.version}</b> of <bdi>{why.model}</bdi> is {main.kind === "stage" && "in "}<Holds kind={main.kind} name={main.name} /> since{" "}
        <b><Time at={main.since} seconds={false} /></b> {main.reason ? <>because <Reason text={main.reason} />, </> : ""}set by <b><bdi>{main.set_by}</bdi></b>
        {main.before ? <>; before it, <a href={linkTo(`/models/${encodeURIComponent(why.model)}/versions/${main.before.version}`)}>version {main.before.version}</a>{main.before.held_s !== null && <> for {duration(main.before.held_s)}</>}.</> : "."}
      </h1>
      <p class="q2 s12 under-lede">
        <Actor name={main.set_by} verified={main.verified} /> · {main.verified ? "verified" : "a claimed name"} · event at offset <Position offset={main.from_offset} />
        {others.length > 0 && <> · also {others.map((one, i) => <span key={`${one.kind}${one.name}`}>{i > 0 && ", "}<Holds kind={one.kind} name={one.name} /> since <Time at={one.since} seconds={false} /></span>)}</>}
      </p>
    </>
  );
}

function isServing(hold: Hold): boolean {
  return hold.kind === "stage" ? hold.name === "Production" : /^(champion|production|prod|live)$/i.test(hold.name);
}

function Evidence({ why }: { why: Why }): JSX.Element {
  const main = why.holds[0];
  const against = why.evidence.find((one) => one.against)?.against?.version ?? null;
  const at = why.evidence[0]?.position;
  return (
    <section aria-label="Evidence">
      <div class="head"><h2>Evidence</h2><span class="q">{at ? <>as it stood at {position(at)}{against !== null && ", against the holder before"}</> : ""}</span></div>
      {why.evidence.length === 0
        ? <p class="q">{main ? "The request carried no evidence." : "No decision, hence no evidence."}</p>
        : (
          <table class="tbl flush open">
            <thead><tr><th>Metric</th><th class="num"><Version model={why.model} version={why.version} word link={false} /></th>{against !== null && <>
              <th class="num"><Version model={why.model} version={against} word link={false} /></th><th class="num desk">difference</th><th class="scale desk">worse&ensp;better</th><th class="desk">Better is</th></>}</tr></thead>
            <tbody>
              {why.evidence.map((one) => {
                const weighed = weigh(one.key, Number(one.value), one.against ? Number(one.against.value) : null);
                const plain = one.kind !== "metric" || Number.isNaN(weighed.value) && one.value !== "NaN";
                return (
                  <tr key={`${one.kind} ${one.key}`}>
                    <td class="cut key-cell"><Text title={`${one.kind} ${one.key}`}>{one.key}</Text></td>
                    <td class="num b5">{plain ? <Text>{one.value}</Text> : <Num value={weighed.value} />}</td>
                    {against !== null && <>
                      <td class="num q2">{one.against ? plain ? <Text>{one.against.value}</Text> : <Num value={weighed.against} /> : <span class="q">–</span>}</td>
                      <td class="num desk">{weighed.difference === null ? "" : `${weighed.difference > 0 ? "+" : ""}${number(weighed.difference)}`}</td>
                      <td class="scale desk"><Scale better={weighed.better} /></td>
                      <td class="q desk">{betterIs(one.key) ?? ""}</td></>}
                  </tr>
                );
              })}
            </tbody>
          </table>
        )}
    </section>
  );
}

function Scale({ better }: { better: number | null }): JSX.Element {
  const width = Math.abs(better ?? 0) * 52;
  return (
    <svg width={112} height={12} aria-hidden="true">
      <path class="zero" d="M56.5 0v12" />
      {better !== null && better !== 0 && <rect class={better > 0 ? "better" : "worse"} x={better > 0 ? 57 : 56 - width} y={3} width={width} height={6} />}
    </svg>
  );
}

/** Requests that expected the same: who won, by how much, and what the other was answered. */
function RaceLens({ why: { race, model } }: { why: Why }): JSX.Element | null {
  if (!race) return null;
  return (
    <section aria-label="Race">
      <div class="head"><h2>Race</h2><span class="q">requests that expected {race.expected === 0 ? "no holder" : typeof race.expected === "number" ? `version ${race.expected}` : race.expected}; the log took one</span></div>
      {race.lost.map((lost) => (
        <div class="race" key={lost.log_offset}>
          <p class="lead-by s12 q2"><Actor name={race.won.actor} verified={race.won.verified} /> was first by <b class="b6">{duration((lost.by_ms ?? 0) / 1000)}</b>, {count(lost.by_offsets ?? 0)} {lost.by_offsets === 1 ? "offset" : "offsets"}</p>
          <Side title="Accepted" icon="check" one={race.won} model={model} />
          <Side title="Refused" icon="cross" one={lost} model={model} />
        </div>
      ))}
    </section>
  );
}

function Side({ title, icon, one, model }: { title: string; icon: "check" | "cross"; one: Asked; model: string }): JSX.Element {
  return (
    <div>
      <h3><span class={icon === "cross" ? "st bad" : "st"}><Icon name={icon} />{title} at <Position offset={one.log_offset} /></span></h3>
      <dl class="kv">
        <dt>Who</dt><dd><Actor name={one.actor} verified={one.verified} /></dd>
        <dt>Asked</dt><dd>{one.version !== null && <Version model={model} version={one.version} word />}</dd>
        <dt>When</dt><dd><Time at={one.appended_at} /></dd>
        <dt>Why</dt><dd><Reason text={one.reason} /></dd>
        {one.message && <><dt>Answer</dt><dd><bdi>{one.message}</bdi></dd></>}
      </dl>
    </div>
  );
}

function Refusals({ refused }: { refused: readonly Asked[] }): JSX.Element | null {
  if (refused.length === 0) return null;
  return (
    <section aria-label="Refused">
      <div class="head"><h2>Refused</h2><span class="q">about this version, or what it holds</span></div>
      <table class="tbl flush open rows">
        <thead><tr><th>Offset</th><th>When</th><th>By</th><th>Refused because</th></tr></thead>
        <tbody>
          {[...refused].sort((a, b) => b.log_offset - a.log_offset).map((one) => (
            <tr key={one.log_offset}>
              <td><Position offset={one.log_offset} /></td><td><Time at={one.appended_at} /></td>
              <td><Actor name={one.actor} verified={one.verified} /></td><td class="wrap because"><bdi title={one.code ?? ""}>{one.message}</bdi></td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** What differs from any other version: params and last metrics of their runs. */
function Against({ why, versions }: { why: Why; versions: Timeline["versions"] }): JSX.Element | null {
  const others = versions.filter((one) => one.version !== why.version && one.run_id !== null);
  const asked = Number(place.value.query.get("against") ?? why.holds[0]?.before?.version ?? others[0]?.version);
  const other = others.find((one) => one.version === asked);
  const mine = why.run?.run_id;
  const both = useAnswer(mine && other ? `${mine} ${other.run_id}` : null, async (signal) => {
    const [a, b] = await Promise.all([mine!, other!.run_id!].map((id) => get<RunValues>(`/api/v1/runs/${id}`, {}, signal)));
    return differing(a!, b!);
  });
  if (!mine || others.length === 0) return null;
  return (
    <section aria-label="Against another version">
      <div class="head">
        <h2>Against</h2>
        <label><span class="sr">Another version</span>
          <select class="field s" value={other ? String(other.version) : ""} onChange={(event) => setQuery({ against: event.currentTarget.value })}>
            {!other && <option value="">choose…</option>}
            {others.map((one) => <option key={one.version} value={String(one.version)}>version {one.version}</option>)}
          </select></label>
        <span class="q">only what differs between their runs, as they are now</span>
      </div>
      {other && <Loaded answer={both} rows={3}>
        {(rows) => rows.length === 0 ? <p class="q">Their runs have the same params and the same last values.</p> : (
          <table class="tbl flush open">
            <thead><tr><th>What</th><th class="num"><Version model={why.model} version={why.version} word link={false} /></th><th class="num"><Version model={why.model} version={other.version} word /></th></tr></thead>
            <tbody>
              {rows.map((row) => (
                <tr key={`${row.kind} ${row.key}`}>
                  <td class="cut key-cell"><Text>{row.key}</Text> <span class="q s12">{row.kind}</span></td>
                  {[row.a, row.b].map((value, i) => (
                    <td key={i} class="num value">{value === null ? <span class="q">–</span> : row.kind === "metric" ? <Num value={Number(value)} /> : <Text title={value}>{value}</Text>}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </Loaded>}
    </section>
  );
}

function Comments({ why, path }: { why: Why; path: string }): JSX.Element {
  const [error, setError] = useState<ApiError | null>(null);
  async function add(event: TargetedSubmitEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    const form = event.currentTarget;
    setError(null);
    try {
      await post(path, { text: String(new FormData(form).get("text")) });
      form.reset();
    } catch (failed) {
      setError(failed instanceof ApiError ? failed : new ApiError(0, { message: String(failed) }, null));
    }
  }
  return (
    <section aria-label="Comments">
      <div class="head"><h2>Comments</h2></div>
      <ul class="comments">
        {why.comments.map((one) => (
          <li key={one.log_offset}>
            <p class="s12"><Actor name={one.added_by} verified={one.verified} /> <span class="q"><Time at={one.added_at} relative /> · offset <Position offset={one.log_offset} /></span></p>
            <p class="said"><bdi>{one.comment}</bdi></p>
          </li>
        ))}
      </ul>
      {why.comments.length === 0 && <p class="q">No comments.</p>}
      <Writes>
        <form class="comment" onSubmit={(event) => void add(event)}>
          <textarea class="field" name="text" rows={1} required maxLength={10_000} aria-label="Comment" placeholder="What should the next reader know?" />
          <button class="btn" type="submit">Comment</button>
        </form>
      </Writes>
      {error && <Failed error={error} />}
    </section>
  );
}

function Proof({ why: { proof } }: { why: Why }): JSX.Element {
  const { checkpoint } = proof;
  return (
    <section aria-label="Proof">
      <div class="head"><h2>Proof</h2></div>
      {proof.contradiction !== null
        ? <p class="note bad"><Icon name="warn" /> The chain contradicts the log: {proof.contradiction}</p>
        : proof.verified_to !== null && (
          <p class="note pass proof"><Icon name="seal" /><span>Chain verified to {count(proof.verified_to)}{checkpoint && <>, checkpoint signed <Time at={checkpoint.signed_at} seconds={false} /></>}</span></p>
        )}
      {checkpoint && !checkpoint.covers && <p class="s12 q2">The checkpoint is older than this decision; the next one will cover it.</p>}
      {proof.hash && <p class="s12 q proof-hash">Its event's hash is <code class="hash">{proof.hash}</code>. <code>modeltrail audit verify</code> checks it against the log, offline.</p>}
    </section>
  );
}

function About({ why }: { why: Why }): JSX.Element {
  const { run } = why;
  return (
    <section aria-label="Version">
      <div class="head"><h2>Version</h2></div>
      <dl class="kv">
        <dt>Made</dt><dd><Time at={why.created_at} seconds={false} /> by <bdi>{why.created_by}</bdi></dd>
        {run && <><dt>Run</dt><dd>{run.run_id
          ? <><a class="a" href={linkTo(`/runs/${run.run_id}`)}><Text>{run.name ?? run.run_id}</Text></a> {run.status && <Status status={run.status} />} {run.duration_s != null && <span class="q"><Duration seconds={run.duration_s} /></span>}</>
          : <span class="q">one that you may not read</span>}</dd></>}
        {run?.experiment_name && <><dt>Experiment</dt><dd><Text>{run.experiment_name}</Text></dd></>}
        {why.source && !run?.run_id && <><dt>Source</dt><dd><code>{why.source}</code></dd></>}
        {why.description && <><dt>Description</dt><dd><Blame model={why.model} target={{ what: "description", version: why.version }}><bdi>{why.description}</bdi></Blame></dd></>}
        {Object.entries(why.tags).map(([key, value]) => (
          <><dt key={`${key}-k`}><Text>{key}</Text></dt><dd key={key}><Blame model={why.model} target={{ what: "tag", version: why.version, name: key }}><bdi>{value}</bdi></Blame></dd></>
        ))}
        {why.lineage.siblings.length > 0 && <><dt>Same run</dt><dd>{why.lineage.siblings.map((one) => <span key={`${one.model} ${one.version}`}><Version model={one.model} version={one.version} /> <Text>{one.model}</Text> </span>)}</dd></>}
      </dl>
    </section>
  );
}

function Files({ why }: { why: Why }): JSX.Element | null {
  if (why.artifacts.length === 0) return null;
  return (
    <section aria-label="Files">
      <div class="head"><h2>Files</h2><span class="q">hashes as recorded in the log</span></div>
      <ul class="list s12">
        {why.artifacts.slice(0, 50).map((file) => (
          <li key={file.path}><span class="cut" title={file.sha256 ? `sha256 ${file.sha256}` : "no hash recorded"}><bdi>{file.path}</bdi></span><span class="gap" /><span class="q nowrap">{bytes(file.size_bytes)}</span></li>
        ))}
      </ul>
      {why.artifacts.length > 50 && <p class="q s12">and {count(why.artifacts.length - 50)} more</p>}
    </section>
  );
}

function Former({ model, lane }: { model: string; lane: Timeline["lanes"][number] }): JSX.Element | null {
  const bars = lane.bars.filter((bar) => bar.valid_to !== null).sort((a, b) => b.from_offset - a.from_offset).slice(0, 8);
  if (bars.length === 0) return null;
  return (
    <section aria-label="Held before by">
      <div class="head"><h2>@{lane.name} held before by</h2></div>
      <ul class="list s12">
        {bars.map((bar) => (
          <li key={bar.from_offset}><Version model={model} version={bar.version} word /><span class="gap" /><span class="q nowrap"><Time at={bar.valid_from} seconds={false} />, {duration((Date.parse(bar.valid_to!) - Date.parse(bar.valid_from)) / 1000)}</span></li>
        ))}
      </ul>
    </section>
  );
}

function Lineage({ why }: { why: Why }): JSX.Element {
  const [frame, width] = useWidth<HTMLDivElement>();
  const { nodes, edges } = graph(why, linkTo);
  const drawn = placeGraph(nodes, edges, width - 4);
  const words = nodes.map((node) => node.title).join(", ");
  return (
    <section aria-label="Where it comes from" class="lineage-section">
      <div class="head"><h2>Where it comes from</h2><span class="q">each name is an event of the log, or a hash that one carries</span></div>
      <div class="lineage" ref={frame} tabIndex={0} role="group" aria-label={`From left to right: ${words}`}>
        {width > 0 && (
          <svg width={drawn.width + 2} height={drawn.height + 2}>
            {drawn.edges.map((edge) => <path key={`${edge.from} ${edge.to}`} class="edge" d={edge.path} />)}
            {drawn.nodes.map((node) => {
              const body = (
                <>
                  <rect class={node.here ? "node it" : "node"} x={node.x + 0.5} y={node.y + 0.5} width={node.width} height={node.height} rx={4} />
                  <text class="in b" x={node.x + 10} y={node.y + 18}><title>{node.title}</title>{shorten(node.title, Math.floor(node.width / 7.6))}</text>
                  <text x={node.x + 10} y={node.y + 35}><title>{node.note}</title>{shorten(node.note, Math.floor(node.width / 7.2))}</text>
                </>
              );
              return node.href ? <a key={node.id} class="node-link" href={node.href}>{body}</a> : <g key={node.id}>{body}</g>;
            })}
          </svg>
        )}
      </div>
    </section>
  );
}
