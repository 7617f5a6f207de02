// The dialogs that promote and roll back. Nothing is shown as done before the log has accepted it.
import type { ComponentChildren, JSX, TargetedSubmitEvent } from "preact";
import { useEffect, useId, useState } from "preact/hooks";
import { ApiError, get, put } from "../client/api.ts";
import { race, type Race, type TrailEvent } from "../pure/events.ts";
import { count, duration } from "../pure/format.ts";
import { archived, laneOf, rollbacks, setAlias, setStage, stageToMove, type Asking } from "../pure/promote.ts";
import { holder, type Timeline } from "../pure/timeline.ts";
import { me } from "../state/session.ts";
import { Dialog } from "./dialog.tsx";
import { Icon } from "./icon.tsx";
import { Failed, Skeleton } from "./states.tsx";
import { Actor, Num, Position, Reason, Time } from "./values.tsx";
import { Version } from "./version.tsx";

/** What somebody wants to do. */
export type Wish =
  | { act: "promote"; version?: number }
  | { act: "roll back"; alias: string };

interface Verdict {
  asking: Asking;
  state: "asked" | "accepted" | "refused" | "unknown";
  /** Offset of the request in the registry's log. */
  offset?: number;
  ms?: number;
  error?: ApiError;
  race?: Race | null;
}

const REASON_MAX = 10_000;

/** Asks for a promotion or a rollback, and shows what became of it. */
export function ChangeDialog({ model, wish, close }: { model: string; wish: Wish; close: () => void }): JSX.Element {
  // What the reader sees is what the request expects: it stays as it was when they looked.
  const [seen, setSeen] = useState<Timeline | null>(null);
  const [error, setError] = useState<ApiError | null>(null);
  const [verdicts, setVerdicts] = useState<readonly Verdict[]>([]);
  const [looks, setLooks] = useState(0);
  useEffect(() => {
    let here = true;
    setSeen(null);
    setError(null);
    get<Timeline>(`/api/v1/models/${encodeURIComponent(model)}/timeline`).then(
      (found) => here && setSeen(found),
      (failed: unknown) => here && setError(failed instanceof ApiError ? failed : new ApiError(0, { message: String(failed) }, null)),
    );
    return () => void (here = false);
  }, [model, looks]);

  async function ask(askings: readonly Asking[]): Promise<void> {
    const done: Verdict[] = [];
    for (const asking of askings) {
      setVerdicts([...done, { asking, state: "asked" }]);
      const verdict = await decide(model, asking);
      done.push(verdict);
      setVerdicts([...done]);
      if (verdict.state !== "accepted") break;
    }
  }
  const lookAgain = (): void => {
    setVerdicts([]);
    setLooks(looks + 1);
  };
  const title = wish.act === "promote" ? `Promote a version of ${model}` : `Roll back @${wish.alias} of ${model}`;
  const last = verdicts[verdicts.length - 1];
  if (last) {
    const settled = last.state !== "asked";
    return (
      <Dialog title={title} close={close} footer={settled && (
        <>
          <span class="gap" />
          {last.state !== "accepted" && <button class="btn" type="button" onClick={lookAgain}>Look again</button>}
          <button class="btn main-act" type="button" onClick={close} ref={(button) => button?.focus()}>{last.state === "accepted" ? "Done" : "Close"}</button>
        </>
      )}>
        <ol class="verdicts" aria-live="polite">{verdicts.map((one) => <li key={one.asking.text}><VerdictLine verdict={one} /></li>)}</ol>
      </Dialog>
    );
  }
  if (!seen) {
    return <Dialog title={title} close={close}>{error ? <Failed error={error} again={lookAgain} /> : <Skeleton rows={4} />}</Dialog>;
  }
  return wish.act === "promote"
    ? <Promote key={looks} timeline={seen} first={wish.version} title={title} close={close} ask={(askings) => void ask(askings)} />
    : <RollBack key={looks} timeline={seen} alias={wish.alias} title={title} close={close} ask={(askings) => void ask(askings)} />;
}

async function decide(model: string, asking: Asking): Promise<Verdict> {
  const began = performance.now();
  try {
    const { position } = await put<{ position: string }>(asking.path, asking.body);
    return { asking, state: "accepted", offset: Number(position.split(":")[2]), ms: performance.now() - began };
  } catch (failed) {
    const error = failed instanceof ApiError ? failed : new ApiError(0, { message: String(failed) }, null);
    if (error.status === 0 || error.status >= 500) return { asking, state: "unknown", error };
    const offset = typeof error.body.position === "string" ? Number(error.body.position.split(":")[2]) : undefined;
    return { asking, state: "refused", error, offset, race: await faster(model, asking, offset) };
  }
}

/** Who was faster, if the request was refused because somebody was. */
async function faster(model: string, asking: Asking, offset: number | undefined): Promise<Race | null> {
  if (asking.alias === null || offset === undefined) return null;
  try {
    const { events } = await get<{ events: TrailEvent[] }>("/api/v1/audit", { model, alias: asking.alias, limit: 100 });
    const lost = events.find((event) => event.log_offset === offset);
    return lost ? race(lost, events) : null;
  } catch {
    return null; // the refusal itself is shown; this only adds to it
  }
}

function VerdictLine({ verdict }: { verdict: Verdict }): JSX.Element {
  const { asking, state, offset, ms, error, race: found } = verdict;
  return (
    <>
      <p class="verdict">
        <span class="b5">{asking.text}</span>
        {state === "asked" && <span class="st"><Icon name="clock" />asked, waiting for the log</span>}
        {state === "accepted" && <span class="st pass"><Icon name="check" />accepted at {offset !== undefined && <Position offset={offset} />}{ms !== undefined && <span class="q">in {duration(ms / 1000)}</span>}</span>}
        {state === "refused" && <span class="st bad"><Icon name="cross" />refused{offset !== undefined && <> at <Position offset={offset} /></>}</span>}
        {state === "unknown" && <span class="st warn"><Icon name="warn" />no answer</span>}
      </p>
      {state === "refused" && (
        <div class="note bad" role="alert">
          <p><bdi>{error!.message}</bdi></p>
          <p class="q2"><code>{error!.code}</code>{error!.requestId && <> · request <code>{error!.requestId}</code></>}</p>
          {found && (
            <p class="faster">
              <Actor name={found.won.actor} verified={found.won.actor_verified} /> was faster by {duration(found.ms / 1000)} and {count(found.offsets)} {found.offsets === 1 ? "offset" : "offsets"}:{" "}
              version {found.won.version} at <Position offset={found.won.log_offset} />, <Time at={found.won.appended_at} />, <Reason text={found.won.reason} />
            </p>
          )}
          <p>Nothing was changed by this request.</p>
        </div>
      )}
      {state === "unknown" && (
        <div class="note warn" role="alert">
          <p><bdi>{error!.message}</bdi></p>
          <p>The log may have accepted the request. Look again before you ask once more.</p>
        </div>
      )}
    </>
  );
}

function versionsText(versions: readonly number[]): string {
  return `version${versions.length === 1 ? "" : "s"} ${versions.join(", ")}`;
}

interface FormProps {
  timeline: Timeline;
  title: string;
  close: () => void;
  ask: (askings: readonly Asking[]) => void;
}

/** The frame of both forms: reason, what will happen, what is expected, who asks, the buttons. */
function Form({ title, close, ask, children, askings, reason, setReason, act, expected }: {
  title: string;
  close: () => void;
  ask: FormProps["ask"];
  children: ComponentChildren;
  /** The requests, or why there are none. */
  askings: readonly Asking[] | string;
  reason: string;
  setReason: (text: string) => void;
  act: string;
  expected: ComponentChildren;
}): JSX.Element {
  const id = useId();
  function submit(event: TargetedSubmitEvent<HTMLFormElement>): void {
    event.preventDefault();
    if (typeof askings !== "string") ask(askings);
  }
  return (
    <Dialog title={title} close={close} footer={
      <>
        <span class="s12 q">Asked as <Actor name={me.value?.actor ?? "anonymous"} verified={me.value?.verified} />. Nothing changes until the log has accepted it.</span>
        <span class="gap" />
        <button class="btn" type="button" onClick={close}>Cancel</button>
        <button class="btn main-act" type="submit" form={id} disabled={typeof askings === "string"}>{act}</button>
      </>
    }>
      <form id={id} class="change" onSubmit={submit}>
        {children}
        <div>
          <label class="l" for={`${id}-why`}>Why <span class="q plain">· kept in the log for ever, read by auditors</span></label>
          <textarea
            class="field" id={`${id}-why`} rows={2} required maxLength={REASON_MAX} value={reason}
            onInput={(event) => setReason(event.currentTarget.value)}
            onKeyDown={(event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.form?.requestSubmit(); }}
          />
        </div>
        <div class="two">
          <div>
            <h3>This will happen</h3>
            {typeof askings === "string" ? <p class="s12 q2">{askings}</p> : <ul class="s12 will">{askings.map((one) => <li key={one.text}>{one.text}</li>)}</ul>}
          </div>
          <div><h3>Expected</h3><p class="s12">{expected}</p></div>
        </div>
      </form>
    </Dialog>
  );
}

function RollBack({ timeline, alias, title, close, ask }: FormProps & { alias: string }): JSX.Element {
  const { holder: now, former } = rollbacks(timeline, alias);
  const [to, setTo] = useState<number | null>(former[0]?.bar.version ?? null);
  const [reason, setReason] = useState("");
  const [withStage, setWithStage] = useState(true);
  const move = to === null ? null : stageToMove(timeline, now?.version ?? null, to);
  const askings = to === null ? "No other version has held it." : [
    setAlias(timeline.model, alias, to, now?.version ?? null, reason),
    ...(move && withStage ? [setStage(timeline.model, to, move.stage, move.expected, true, reason)] : []),
  ];
  const leaving = move && to !== null ? archived(timeline, move.stage, to) : [];
  const value = (version: number) => timeline.versions.find((one) => one.version === version)?.metric ?? null;
  return (
    <Form
      title={title} close={close} askings={askings} reason={reason} setReason={setReason} ask={ask}
      act={to === null ? "Roll back" : `Roll back to version ${to}`}
      expected={now
        ? <><Version model={timeline.model} version={now.version} word link={false} /> <span class="q">refused if it is not</span></>
        : <span class="q">no holder</span>}
    >
      <fieldset class="choices">
        <legend class="sr">Roll back to</legend>
        <div class="choice head-row"><span>To</span><span>Held it</span><span class="num">{timeline.metric && <bdi>{timeline.metric}</bdi>}</span></div>
        {former.map(({ bar, undone }) => (
          <label key={bar.version} class="choice">
            <span><input type="radio" name="to" checked={to === bar.version} onChange={() => setTo(bar.version)} /><Version model={timeline.model} version={bar.version} word link={false} /></span>
            <span class="q2">{undone ? "rolled back from, " : "until "}<Time at={bar.valid_to} seconds={false} relative /></span>
            <span class="num"><Num value={value(bar.version)} /></span>
          </label>
        ))}
        {now && (
          <div class="choice dim">
            <span><Version model={timeline.model} version={now.version} word link={false} /></span>
            <span>now, since <Time at={now.valid_from} seconds={false} /></span>
            <span class="num"><Num value={value(now.version)} /></span>
          </div>
        )}
      </fieldset>
      {move && to !== null && (
        <label class="check">
          <input type="checkbox" checked={withStage} onChange={(event) => setWithStage(event.currentTarget.checked)} />
          <span>Also move version {to} to {move.stage}{leaving.length > 0 && <>, and archive {versionsText(leaving)}</>}</span>
        </label>
      )}
    </Form>
  );
}

function Promote({ timeline, first, title, close, ask }: FormProps & { first?: number | undefined }): JSX.Element {
  const id = useId();
  const aliases = timeline.lanes.filter((lane) => lane.kind === "alias").map((lane) => lane.name);
  const [version, setVersion] = useState<number | null>(first ?? timeline.versions[0]?.version ?? null);
  const [target, setTarget] = useState(`alias ${aliases[0] ?? "champion"}`);
  const [own, setOwn] = useState("");
  const [archive, setArchive] = useState(true);
  const [reason, setReason] = useState("");
  const isStage = target.startsWith("stage ");
  const name = target === "other" ? own.trim().replace(/^@/, "") : target.slice(6);
  const now = isStage ? null : holder(laneOf(timeline, "alias", name));
  const stage = timeline.versions.find((one) => one.version === version)?.stage ?? "None";
  const others = isStage && version !== null ? archived(timeline, name, version) : [];
  const why = version === null ? "There is no version." : name === "" ? "Name the alias." : now?.version === version ? `@${name} is version ${version} already.`
    : isStage && stage === name ? `Version ${version} is in ${name} already.` : null;
  const askings = why !== null || version === null ? why ?? "" : [
    isStage ? setStage(timeline.model, version, name, stage, archive, reason) : setAlias(timeline.model, name, version, now?.version ?? null, reason),
  ];
  return (
    <Form
      title={title} close={close} askings={askings} reason={reason} setReason={setReason} ask={ask}
      act={version === null ? "Promote" : `Promote version ${version}`}
      expected={isStage ? <>{stage === "None" ? "no stage" : stage} <span class="q">refused if it is not</span></>
        : now ? <><Version model={timeline.model} version={now.version} word link={false} /> <span class="q">refused if it is not</span></>
        : <>no holder <span class="q">refused if there is one</span></>}
    >
      <div class="two">
        <div><label class="l" for={`${id}-version`}>Version</label>
          <select class="field" id={`${id}-version`} value={version ?? ""} onChange={(event) => setVersion(Number(event.currentTarget.value))}>
            {timeline.versions.map((one) => <option key={one.version} value={one.version}>version {one.version}{one.aliases.length ? ` (${one.aliases.map((alias) => `@${alias}`).join(", ")})` : ""}</option>)}
          </select></div>
        <div><label class="l" for={`${id}-target`}>Becomes</label>
          <select class="field" id={`${id}-target`} value={target} onChange={(event) => setTarget(event.currentTarget.value)}>
            {[...new Set([...aliases, "champion"])].map((alias) => <option key={alias} value={`alias ${alias}`}>@{alias}</option>)}
            <option value="stage Staging">Staging</option>
            <option value="stage Production">Production</option>
            <option value="other">another alias…</option>
          </select></div>
      </div>
      {target === "other" && (
        <div><label class="l" for={`${id}-own`}>Alias</label><input class="field" id={`${id}-own`} value={own} maxLength={255} onInput={(event) => setOwn(event.currentTarget.value)} /></div>
      )}
      {others.length > 0 && (
        <label class="check"><input type="checkbox" checked={archive} onChange={(event) => setArchive(event.currentTarget.checked)} /><span>Archive what is in {name} now: {versionsText(others)}</span></label>
      )}
    </Form>
  );
}
