// Access: who may do what, now and at an earlier moment; tokens, which are made and revoked with a reason.
// From `/api/v1/whoami`, `/tokens`, `/permissions`, `/users`, `/roles`; for the past from the views `*_history`.
import type { ComponentChildren, JSX, TargetedSubmitEvent } from "preact";
import { useId, useState } from "preact/hooks";
import { ApiError, ask, get, query, remove, withQuery, writes } from "../../client/api.ts";
import { useAnswer } from "../../parts/answer.ts";
import { CopyButton } from "../../parts/copy.tsx";
import { Dialog } from "../../parts/dialog.tsx";
import { Icon } from "../../parts/icon.tsx";
import { Page, Writes } from "../../parts/page.tsx";
import { Loaded } from "../../parts/states.tsx";
import { toast } from "../../parts/toast.tsx";
import { Actor, Position, Reason, Text, Time } from "../../parts/values.tsx";
import { position } from "../../pure/format.ts";
import { moment } from "../../state/moment.ts";
import { may, me } from "../../state/session.ts";

interface Token {
  token_id: number;
  user: string;
  description: string | null;
  expires_at: string | null;
  created_at: string;
  created_by: string | null;
  kind: string;
}

interface User {
  user: string;
  admin: boolean;
  has_password: boolean;
  created_at: string;
  created_by: string | null;
}

interface Role {
  role_id: number;
  role: string;
  description: string | null;
  users: string[];
}

interface Permission {
  permission_id: number | string;
  user: string | null;
  role: string | null;
  resource: string;
  pattern: string;
  permission: string;
  granted_at: string;
  granted_by: string | null;
  verified?: boolean | null;
  reason: string | null;
  offset?: number;
}

const RIGHTS: readonly [key: "admin" | "read_everything" | "sql" | "create_experiments" | "create_models", text: string][] = [
  ["admin", "administer users, roles and permissions"],
  ["read_everything", "read every run, model and event"],
  ["sql", "ask by SQL"],
  ["create_experiments", "create experiments"],
  ["create_models", "create registered models"],
];

export default function Access(): JSX.Element {
  const who = me.value;
  return (
    <Page crumbs={[{ text: "Access" }]}>
      <h1>Access</h1>
      {who && !who.auth && (
        <p class="note warn access-note">This server runs without <code>--auth</code>: everyone who can reach it may do everything, and names are claimed. <code>modeltrail serve --auth</code> asks for a password or token; <code>modeltrail user create</code> makes the first user.</p>
      )}
      {who && (
        <section class="first">
          <div class="head"><h2>You</h2><span class="q">{who.verified ? "as a password or token proved" : "as this browser says"}</span></div>
          <p><Actor name={who.actor} verified={who.verified} /></p>
          <ul class="rights">
            {RIGHTS.map(([key, text]) => (
              <li key={key} class={who.may[key] ? "" : "q"}><Icon name={who.may[key] ? "check" : "cross"} /> {who.may[key] ? "may" : "may not"} {text}</li>
            ))}
          </ul>
        </section>
      )}
      {who?.auth && <Tokens />}
      {who?.auth && <Permissions />}
      {who?.auth && may("admin") && <><Users /><Roles /></>}
    </Page>
  );
}

function Wide({ label, children }: { label: string; children: ComponentChildren }): JSX.Element {
  return <div class="wide" tabIndex={0} role="region" aria-label={label}><table class="tbl flush">{children}</table></div>;
}

function Tokens(): JSX.Element {
  const answer = useAnswer("tokens", (signal) => get<{ tokens: Token[] }>("/api/v1/tokens", {}, signal));
  const [making, setMaking] = useState(false);
  const [ending, setEnding] = useState<Token | null>(null);
  return (
    <section>
      <div class="head">
        <h2>Tokens</h2><span class="q">sign in as a user, for jobs and scripts; sessions of browsers are tokens too</span><span class="gap" />
        <Writes><button class="btn s" type="button" onClick={() => setMaking(true)}><Icon name="plus" />New token</button></Writes>
      </div>
      <Loaded answer={answer} rows={3}>
        {({ tokens }) => tokens.length === 0 ? <p class="q2">None.</p> : (
          <Wide label="Tokens">
            <thead><tr><th>Description</th><th>User</th><th>Kind</th><th>Made</th><th>Made by</th><th>Ends</th><td /></tr></thead>
            <tbody>
              {tokens.map((token) => (
                <tr key={token.token_id}>
                  <td><Text title={`token ${token.token_id}`}>{token.description ?? <span class="q">token {token.token_id}</span>}</Text></td>
                  <td><Actor name={token.user} verified /></td>
                  <td class="q2">{token.kind}</td>
                  <td><Time at={token.created_at} seconds={false} /></td>
                  <td><Actor name={token.created_by} verified /></td>
                  <td>{token.expires_at ? <Time at={token.expires_at} seconds={false} relative /> : <span class="q">never</span>}</td>
                  <td class="num"><Writes><button class="btn s" type="button" aria-label={`Revoke ${token.description ?? `token ${token.token_id}`}`} onClick={() => setEnding(token)}>Revoke</button></Writes></td>
                </tr>
              ))}
            </tbody>
          </Wide>
        )}
      </Loaded>
      {making && <NewToken close={() => setMaking(false)} />}
      {ending && <EndToken token={ending} close={() => setEnding(null)} />}
    </section>
  );
}

/** A form in a dialog, which stays open and says why if the server refuses. */
function Form({ title, act, close, send, children }: {
  title: string;
  act: string;
  close: () => void;
  send: (fields: FormData) => Promise<void>;
  children: ComponentChildren;
}): JSX.Element {
  const id = useId();
  const [error, setError] = useState<ApiError | null>(null);
  const [waiting, setWaiting] = useState(false);
  async function submit(event: TargetedSubmitEvent<HTMLFormElement>): Promise<void> {
    event.preventDefault();
    setWaiting(true);
    setError(null);
    try {
      await send(new FormData(event.currentTarget));
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      setError(problem);
    } finally {
      setWaiting(false);
    }
  }
  return (
    <Dialog title={title} close={close} footer={
      <>
        <span class="gap" />
        <button class="btn" type="button" onClick={close}>Cancel</button>
        <button class="btn main-act" type="submit" form={id} disabled={waiting}>{act}</button>
      </>
    }>
      <form id={id} class="access-form" onSubmit={(event) => void submit(event)}>
        {children}
        {error && <p class="note bad" role="alert"><Text>{error.message}</Text> <code>{error.code}</code></p>}
      </form>
    </Dialog>
  );
}

function Why({ needed = false }: { needed?: boolean }): JSX.Element {
  const id = useId();
  return <div><label class="l" for={id}>Why <span class="q plain">· kept in the log for ever, read by auditors</span></label><textarea class="field" id={id} name="reason" rows={2} required={needed} maxLength={10_000} /></div>;
}

const DAY_MS = 86_400_000;
const DAYS: readonly [days: number | null, text: string][] = [[null, "this session"], [30, "30 days"], [90, "90 days"], [365, "a year"], [0, "no end: until it is revoked"]];

function basic(user: string, password: string): string {
  return `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(`${user}:${password}`)))}`;
}

function NewToken({ close }: { close: () => void }): JSX.Element {
  const id = useId();
  const [made, setMade] = useState<string | null>(null);
  const [days, setDays] = useState<number | null>(null);
  async function send(fields: FormData): Promise<void> {
    const body = {
      description: String(fields.get("description")),
      reason: String(fields.get("reason")) || null,
      ...(days !== null && days > 0 && { expires_at_ms: Date.now() + days * DAY_MS }),
      ...(String(fields.get("user") ?? "") && { user: String(fields.get("user")) }),
    };
    // A session's tokens end with it: what lasts longer needs the password itself.
    const headers: Record<string, string> = days === null ? {} : { Authorization: basic(me.value!.actor, String(fields.get("password"))) };
    const answer = await ask("POST", "/api/v1/tokens", { body, headers });
    writes.value += 1;
    setMade(((await answer.json()) as { token: string }).token);
  }
  if (made !== null) {
    return (
      <Dialog title="The token" close={close} footer={<><span class="gap" /><button class="btn main-act" type="button" onClick={close}>I have it</button></>}>
        <p>It is shown this once. The log has only its hash.</p>
        <div class="code-box token-made"><pre class="code">{made}</pre><CopyButton text={made} /></div>
        <p class="q2 s12">For jobs and commands: <code>export MODELTRAIL_TOKEN=…</code></p>
      </Dialog>
    );
  }
  return (
    <Form title="New token" act="Make the token" close={close} send={send}>
      <div><label class="l" for={`${id}-d`}>What is it for?</label><input class="field" id={`${id}-d`} name="description" required maxLength={250} autofocus /></div>
      <div><label class="l" for={`${id}-e`}>It ends after</label>
        <select class="field" id={`${id}-e`} value={days ?? ""} onChange={(event) => setDays(event.currentTarget.value === "" ? null : Number(event.currentTarget.value))}>
          {DAYS.map(([value, text]) => <option key={text} value={value ?? ""}>{text}</option>)}
        </select></div>
      {days !== null && <div><label class="l" for={`${id}-p`}>Your password <span class="q plain">· what outlives this session needs it</span></label><input class="field" id={`${id}-p`} name="password" type="password" required maxLength={1024} autocomplete="current-password" /></div>}
      {may("admin") && <div><label class="l" for={`${id}-u`}>User <span class="q plain">· you, if it is empty</span></label><input class="field" id={`${id}-u`} name="user" maxLength={256} autocomplete="off" /></div>}
      <Why />
    </Form>
  );
}

function EndToken({ token, close }: { token: Token; close: () => void }): JSX.Element {
  const name = token.description ?? `token ${token.token_id}`;
  async function send(fields: FormData): Promise<void> {
    await remove(withQuery(`/api/v1/tokens/${token.token_id}`, { reason: String(fields.get("reason")) }));
    toast(<>Revoked <Text>{name}</Text>.</>, { kind: "pass" });
    close();
  }
  return (
    <Form title={`Revoke ${name}`} act="Revoke the token" close={close} send={send}>
      <p>What signs in with it as <Actor name={token.user} verified /> is refused from now on.</p>
      <Why needed />
    </Form>
  );
}

/** Permissions now, or as they were: the past is for administrators, as its view is. */
function Permissions(): JSX.Element {
  const at = moment.value;
  const answer = useAnswer(at === null || may("admin") ? `permissions ${at ?? ""}` : null, (signal) => (at === null ? now(signal) : then(at, signal)));
  const [ending, setEnding] = useState<Permission | null>(null);
  return (
    <section>
      <div class="head"><h2>Permissions</h2><span class="q">{at === null ? "what is granted now; drag the time bar to see what was granted then" : `what was granted at ${position(at)}`}</span></div>
      {at !== null && !may("admin") ? <p class="q2">What was granted earlier is for administrators.</p> : (
        <Loaded answer={answer} rows={4}>
          {(permissions) => permissions.length === 0 ? <p class="q2">None.</p> : (
            <Wide label="Permissions">
              <thead><tr><th>Who</th><th>May</th><th>Of what</th><th>Since</th><th>Granted by</th><th>Why</th><td /></tr></thead>
              <tbody>
                {permissions.map((one) => (
                  <tr key={one.permission_id}>
                    <td>{one.user !== null ? <Actor name={one.user} verified /> : <>role <Text>{one.role}</Text></>}</td>
                    <td class="b5">{one.permission}</td>
                    <td><span class="q2">{one.resource.replace("_", " ")}</span> <span class="mono"><Text>{one.pattern}</Text></span></td>
                    <td><Time at={one.granted_at} seconds={false} />{one.offset !== undefined && <> <Position offset={one.offset} /></>}</td>
                    <td><Actor name={one.granted_by} verified={one.verified ?? true} /></td>
                    <td><Reason text={one.reason} /></td>
                    <td class="num">{may("admin") && <Writes><button class="btn s" type="button" aria-label={`Take back ${one.permission} on ${one.pattern} of ${one.user ?? one.role}`} onClick={() => setEnding(one)}>Take back</button></Writes>}</td>
                  </tr>
                ))}
              </tbody>
            </Wide>
          )}
        </Loaded>
      )}
      {ending && <TakeBack one={ending} close={() => setEnding(null)} />}
    </section>
  );
}

async function now(signal: AbortSignal): Promise<Permission[]> {
  return (await get<{ permissions: Permission[] }>("/api/v1/permissions", {}, signal)).permissions;
}

async function then(at: string, signal: AbortSignal): Promise<Permission[]> {
  const offset = /^registry:0:(\d+)$/.exec(at)?.[1];
  const [from, to, value] = offset ? ["from_offset", "to_offset", Number(offset)] : ["valid_from", "valid_to", at];
  const statement = `SELECT permission_id, "user", role, resource, pattern, permission, valid_from, set_by, set_by_verified, reason, from_offset
FROM permissions_history WHERE ${from} <= $at${offset ? "" : "::TIMESTAMPTZ::TIMESTAMP"} AND (${to} IS NULL OR ${to} > $at${offset ? "" : "::TIMESTAMPTZ::TIMESTAMP"}) ORDER BY ALL`;
  type Row = [string, string | null, string | null, string, string, string, string, string | null, boolean | null, string | null, number];
  const { rows } = await query<{ rows: Row[] }>("/api/v1/sql", { statement, params: { at: value } }, signal);
  return rows.map(([permission_id, user, role, resource, pattern, permission, granted_at, granted_by, verified, reason, from]) => ({
    permission_id, user, role, resource, pattern, permission, granted_at, granted_by, verified, reason, offset: from,
  }));
}

function TakeBack({ one, close }: { one: Permission; close: () => void }): JSX.Element {
  const holder = one.user ?? one.role ?? "";
  async function send(fields: FormData): Promise<void> {
    const role = one.user === null ? (await get<{ roles: Role[] }>("/api/v1/roles")).roles.find((found) => found.role === one.role) : undefined;
    await remove("/api/v1/permissions", {
      ...(one.user !== null ? { user: one.user } : { role_id: role?.role_id }),
      resource: one.resource, pattern: one.pattern, reason: String(fields.get("reason")),
    });
    toast(<>Taken back from <Text>{holder}</Text>.</>, { kind: "pass" });
    close();
  }
  return (
    <Form title={`Take back ${one.permission} from ${holder}`} act="Take it back" close={close} send={send}>
      <p><Text>{holder}</Text> loses {one.permission} of the {one.resource.replace("_", " ")} <code>{one.pattern}</code>.</p>
      <Why needed />
    </Form>
  );
}

function Users(): JSX.Element {
  const answer = useAnswer("users", (signal) => get<{ users: User[] }>("/api/v1/users", {}, signal));
  return (
    <section>
      <div class="head"><h2>Users</h2><span class="q">those who can sign in{moment.value !== null && ", as of now"}</span></div>
      <Loaded answer={answer} rows={3}>
        {({ users }) => (
          <Wide label="Users">
            <thead><tr><th>User</th><th>Rights</th><th>Signs in with</th><th>Made</th><th>Made by</th></tr></thead>
            <tbody>
              {users.map((user) => (
                <tr key={user.user}>
                  <td><Actor name={user.user} verified /></td>
                  <td>{user.admin ? <span class="b5">administrator</span> : <span class="q2">as permitted</span>}</td>
                  <td class="q2">{user.has_password ? "password or token" : "token"}</td>
                  <td><Time at={user.created_at} seconds={false} /></td>
                  <td><Actor name={user.created_by} verified /></td>
                </tr>
              ))}
            </tbody>
          </Wide>
        )}
      </Loaded>
    </section>
  );
}

function Roles(): JSX.Element {
  const answer = useAnswer("roles", (signal) => get<{ roles: Role[] }>("/api/v1/roles", {}, signal));
  return (
    <section>
      <div class="head"><h2>Roles</h2><span class="q">permissions that several users share{moment.value !== null && ", as of now"}</span></div>
      <Loaded answer={answer} rows={2}>
        {({ roles }) => roles.length === 0 ? <p class="q2">None. <code>modeltrail role create</code> makes one.</p> : (
          <Wide label="Roles">
            <thead><tr><th>Role</th><th>Description</th><th>Users</th></tr></thead>
            <tbody>
              {roles.map((role) => (
                <tr key={role.role_id}><td class="b5"><Text>{role.role}</Text></td><td class="q2"><Text>{role.description ?? ""}</Text></td><td><Text>{role.users.join(", ") || "none yet"}</Text></td></tr>
              ))}
            </tbody>
          </Wide>
        )}
      </Loaded>
    </section>
  );
}
