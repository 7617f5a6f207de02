// Status: lag and positions, dead letters with retry, webhooks and their deliveries, disk, and what doctor finds.
// From `GET /api/v1/status`, `/dead-letters`, `/webhooks` and `/webhooks/deliveries`, every five seconds.
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { ApiError, get, post } from "../../client/api.ts";
import { useAnswer } from "../../parts/answer.ts";
import { Icon } from "../../parts/icon.tsx";
import { Page, Writes } from "../../parts/page.tsx";
import { usePoll } from "../../parts/poll.ts";
import { Loaded } from "../../parts/states.tsx";
import { toast } from "../../parts/toast.tsx";
import { Actor, Text, Time } from "../../parts/values.tsx";
import { bytes, count } from "../../pure/format.ts";
import { lagOf, troubles, type Check, type Delivery, type ServerStatus } from "../../pure/status.ts";
import { linkTo } from "../../state/location.ts";
import { may, me } from "../../state/session.ts";

const EVERY_MS = 5_000;
const SHOWN = 20;

interface DeadLetter {
  stream: string;
  partition: number;
  log_offset: number;
  appended_at: string;
  event_type: string | null;
  error: string;
  payload_bytes: number;
  payload_hex: string;
}

interface Webhook {
  webhook_id: string;
  name: string;
  endpoint: string;
  events: string[];
  status: string;
  created_by: string | null;
  pending?: number;
  dead?: number;
}

interface OneDelivery {
  delivery_id: string;
  webhook_id: string;
  position: string;
  event: string;
  state: string;
  tries: number;
  status: number | null;
  error: string | null;
  next_try_ms: number | null;
  updated_ms: number;
}

export default function Status(): JSX.Element {
  const answer = useAnswer("status", (signal) => get<ServerStatus>("/api/v1/status", {}, signal));
  usePoll(answer.again, EVERY_MS);
  const isAdmin = me.value !== null && may("admin");
  return (
    <Page crumbs={[{ text: "Status" }]}>
      <Loaded answer={answer}>
        {(status) => (
          <>
            <Verdict status={status} />
            <Partitions status={status} />
            {isAdmin && <DeadLetters total={status.dead_letters} />}
            {isAdmin && <Webhooks delivery={status.webhooks} />}
            {status.checks && <Checks checks={status.checks} />}
            <Server status={status} />
          </>
        )}
      </Loaded>
    </Page>
  );
}

function Verdict({ status }: { status: ServerStatus }): JSX.Element {
  const found = troubles(status);
  const lag = lagOf(status);
  return (
    <>
      <h1 class="status-title">
        {found.length === 0
          ? <><span class="st"><Icon name="check" /></span> All is well{lag === 0 ? ": every event of the log is in the tables" : ""}</>
          : <><span class={`st ${found[0]!.kind}`}><Icon name="warn" /></span> {found.length === 1 ? "One thing wants" : `${found.length} things want`} attention</>}
      </h1>
      {found.length > 0 && (
        <ul class="troubles">
          {found.map((one) => (
            <li key={one.what} class={`note ${one.kind}`}>
              <p><Text>{one.what}</Text></p>
              {one.repair && <p class="q2">{one.repair}</p>}
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function Partitions({ status }: { status: ServerStatus }): JSX.Element {
  return (
    <section>
      <div class="head"><h2>Log and tables</h2><span class="q">how far each partition of the log is folded into the tables</span></div>
      <div class="wide" tabIndex={0} role="region" aria-label="Partitions">
        <table class="tbl flush fit">
          <thead><tr><th>Partition</th><th class="num">Next offset</th><th class="num">Lag<span class="u"> events</span></th><th>State</th></tr></thead>
          <tbody>
            {Object.entries(status.positions).map(([partition, next]) => {
              const lag = status.lag?.[partition] ?? null;
              return (
                <tr key={partition}>
                  <td class="mono">{partition}</td>
                  <td class="num">{count(next)}</td>
                  <td class="num">{lag === null ? "–" : count(lag)}</td>
                  <td>{lag === null ? <span class="st warn"><Icon name="warn" />unknown</span>
                    : lag === 0 ? <span class="st"><Icon name="check" />complete</span>
                    : <span class="st run"><Icon name="clock" />behind</span>}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** A button that asks for something and says what became of it. */
function Act({ what, act, label }: { what: () => Promise<string>; act: string; label?: string }): JSX.Element {
  const [waiting, setWaiting] = useState(false);
  async function ask(): Promise<void> {
    setWaiting(true);
    try {
      toast(await what(), { kind: "pass" });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      toast(error.message, { kind: "bad" });
    } finally {
      setWaiting(false);
    }
  }
  return <button class="btn s" type="button" disabled={waiting} aria-label={label} onClick={() => void ask()}><Icon name="again" />{act}</button>;
}

function DeadLetters({ total }: { total: number }): JSX.Element {
  const answer = useAnswer(total > 0 ? `dead ${total}` : null, (signal) => get<{ dead_letters: DeadLetter[] }>("/api/v1/dead-letters", { limit: SHOWN }, signal));
  async function retry(): Promise<string> {
    const { applied, left } = await post<{ applied: number; left: number }>("/api/v1/dead-letters/retry");
    return `${count(applied)} applied, ${count(left)} left.`;
  }
  return (
    <section>
      <div class="head">
        <h2>Dead letters</h2><span class="q">events that the log took and that could not be applied; nothing is skipped silently</span><span class="gap" />
        {total > 0 && <Writes><Act what={retry} act="Try again" label="Try again: the dead letters" /></Writes>}
      </div>
      {total === 0 ? <p class="q2">None.</p> : (
        <Loaded answer={answer} rows={3}>
          {({ dead_letters: letters }) => (
            <ul class="letters">
              {letters.map((letter) => <li key={`${letter.stream}:${letter.partition}:${letter.log_offset}`}><Letter letter={letter} /></li>)}
              {total > letters.length && <li class="q">and {count(total - letters.length)} more: <a class="a" href={linkTo("/sql", { q: "FROM dead_letters" })}>FROM dead_letters</a></li>}
            </ul>
          )}
        </Loaded>
      )}
    </section>
  );
}

function Letter({ letter }: { letter: DeadLetter }): JSX.Element {
  return (
    <details>
      <summary>
        <span class="mono">{letter.stream}:{letter.partition}:{letter.log_offset}</span>
        <span>{letter.event_type ?? "unknown type"}</span>
        <span class="q2"><Time at={letter.appended_at} /></span>
        <span class="why"><Text>{letter.error}</Text></span>
      </summary>
      <p class="q s12">{count(letter.payload_bytes)} bytes{letter.payload_hex.length < letter.payload_bytes * 2 ? ", the first of them" : ""}</p>
      <pre class="code bytes" tabIndex={0}>{letter.payload_hex.toLowerCase().replace(/(..)/g, "$1 ").trim()}</pre>
    </details>
  );
}

function Webhooks({ delivery }: { delivery: Delivery | null }): JSX.Element {
  const answer = useAnswer(`webhooks ${delivery?.pending} ${delivery?.dead}`, (signal) => get<{ webhooks: Webhook[] }>("/api/v1/webhooks", {}, signal));
  return (
    <section>
      <div class="head">
        <h2>Webhooks</h2>
        <span class="q">{delivery
          ? <>delivered up to <span class="mono">{delivery.position}</span>, {count(delivery.pending)} pending, {count(delivery.dead)} given up</>
          : "this server does not deliver them"}</span>
      </div>
      <Loaded answer={answer} rows={2}>
        {({ webhooks }) => webhooks.length === 0
          ? <p class="q2">None. <code>modeltrail webhooks create</code> makes one.</p>
          : (
            <>
              <div class="wide" tabIndex={0} role="region" aria-label="Webhooks">
                <table class="tbl flush">
                  <thead><tr><th>Name</th><th>Endpoint</th><th>Events</th><th>State</th><th class="num">Pending</th><th class="num">Given up</th><th>Made by</th></tr></thead>
                  <tbody>
                    {webhooks.map((hook) => (
                      <tr key={hook.webhook_id}>
                        <td><Text title={hook.webhook_id}>{hook.name}</Text></td>
                        <td class="mono"><Text>{hook.endpoint}</Text></td>
                        <td class="q2">{hook.events.join(", ")}</td>
                        <td><span class={hook.status === "ACTIVE" ? "st" : "st warn"}><Icon name={hook.status === "ACTIVE" ? "check" : "stop"} />{hook.status.toLowerCase()}</span></td>
                        <td class="num">{count(hook.pending ?? 0)}</td>
                        <td class="num">{count(hook.dead ?? 0)}</td>
                        <td><Actor name={hook.created_by} /></td>
                      </tr>
                    ))}
                  </tbody>
                </table>
              </div>
              {delivery && <Deliveries names={new Map(webhooks.map((hook) => [hook.webhook_id, hook.name]))} delivery={delivery} />}
            </>
          )}
      </Loaded>
    </section>
  );
}

function Deliveries({ names, delivery }: { names: ReadonlyMap<string, string>; delivery: Delivery }): JSX.Element {
  const key = `deliveries ${delivery.pending} ${delivery.dead} ${delivery.position}`;
  const answer = useAnswer(key, (signal) => get<{ deliveries: OneDelivery[] }>("/api/v1/webhooks/deliveries", { limit: SHOWN }, signal));
  async function retry(what: { delivery?: string }): Promise<string> {
    const { retried } = await post<{ retried: number }>("/api/v1/webhooks/retry", what);
    return `${count(retried)} will be tried again.`;
  }
  const [icons, kinds] = [{ delivered: "check", pending: "clock", dead: "cross" } as const, { delivered: "", pending: "run", dead: "bad" }];
  return (
    <>
      <div class="head sub">
        <h3>Newest deliveries</h3><span class="gap" />
        {delivery.dead > 0 && <Writes><Act what={() => retry({})} act="Try all given up again" /></Writes>}
      </div>
      <Loaded answer={answer} rows={3}>
        {({ deliveries }) => deliveries.length === 0 ? <p class="q2">None yet.</p> : (
          <div class="wide" tabIndex={0} role="region" aria-label="Deliveries">
            <table class="tbl flush">
              <thead><tr><th>State</th><th>Webhook</th><th>Event</th><th>Position</th><th class="num">Tries</th><th>Answer</th><th>At</th><td /></tr></thead>
              <tbody>
                {deliveries.map((one) => {
                  const state = one.state as keyof typeof icons;
                  return (
                    <tr key={one.delivery_id}>
                      <td><span class={`st ${kinds[state]}`}><Icon name={icons[state]} />{state === "dead" ? "given up" : state}</span></td>
                      <td><Text>{names.get(one.webhook_id) ?? one.webhook_id}</Text></td>
                      <td class="q2">{one.event}</td>
                      <td class="mono">{one.position}</td>
                      <td class="num">{one.tries}</td>
                      <td class="q2"><Text title={one.error ?? undefined}>{[one.status, one.error].filter(Boolean).join(" ") || "–"}</Text></td>
                      <td><Time at={new Date(one.updated_ms).toISOString()} /></td>
                      <td>{state === "dead" && <Writes><Act what={() => retry({ delivery: one.delivery_id })} act="Try again" label={`Try again: the delivery of ${one.position}`} /></Writes>}</td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </div>
        )}
      </Loaded>
    </>
  );
}

function Checks({ checks }: { checks: readonly Check[] }): JSX.Element {
  return (
    <section>
      <div class="head"><h2>Checks</h2><span class="q">what <code>modeltrail doctor</code> finds</span></div>
      <dl class="kv checks">
        {checks.map((check) => [
          <dt key={`${check.name}-t`}><span class={check.ok ? "st" : "st bad"}><Icon name={check.ok ? "check" : "cross"} />{check.name}</span></dt>,
          <dd key={`${check.name}-d`}><Text>{check.found}</Text>{check.repair && <p class="q2 s12">{check.repair}</p>}</dd>,
        ])}
      </dl>
    </section>
  );
}

function Server({ status }: { status: ServerStatus }): JSX.Element {
  const { disk } = status;
  const used = disk && disk.total_bytes - disk.free_bytes;
  return (
    <section>
      <div class="head"><h2>Server</h2></div>
      <dl class="kv">
        <dt>Version</dt><dd>{status.version} <span class="q">tables of version {status.projection_version}, process {status.pid}</span></dd>
        <dt>Log</dt><dd class="mono"><Text>{status.log}</Text></dd>
        <dt>Folded</dt><dd>{count(status.events_folded)} events since the start{status.folded_at_ms && <span class="q">, the last <Time at={new Date(status.folded_at_ms).toISOString()} relative /></span>}</dd>
        {disk && used !== null && (
          <>
            <dt>Disk</dt>
            <dd>
              <meter class="disk" min={0} max={disk.total_bytes} value={used} high={disk.total_bytes * 0.95} aria-label="Disk in use">{bytes(used)}</meter>
              {bytes(disk.free_bytes)} of {bytes(disk.total_bytes)} free
            </dd>
          </>
        )}
      </dl>
    </section>
  );
}
