// Models: which version holds each alias and stage, since when, by whom and why; and the last refusal.
import type { JSX } from "preact";
import { get } from "../../client/api.ts";
import { useAnswer } from "../../parts/answer.ts";
import { Page } from "../../parts/page.tsx";
import { Empty, Loaded } from "../../parts/states.tsx";
import { Actor, Reason, Text, Time } from "../../parts/values.tsx";
import { Holds, Version } from "../../parts/version.tsx";
import { byModel, type Holding, type Refused } from "../../pure/models.ts";
import { inOrder } from "../../pure/timeline.ts";
import { count } from "../../pure/format.ts";
import { linkTo } from "../../state/location.ts";
import { useLooked } from "../../state/looked.ts";
import { moment } from "../../state/moment.ts";

interface Model {
  model: string;
  description: string | null;
  created_at: string;
}
interface Page1 {
  models: Model[];
  next_page_token: string | null;
  holdings: Map<string, Holding[]>;
  refused: Map<string, Refused>;
}

const FIRST_MODEL = `import mlflow

mlflow.set_tracking_uri("http://localhost:5000")
mlflow.register_model("runs:/RUN_ID/model", "my-model")`;
const AT_MOST = 1_000;

async function load(as_of: string | null, signal: AbortSignal): Promise<Page1> {
  const [models, { holders }, refused] = await Promise.all([
    get<{ models: Model[]; next_page_token: string | null }>("/api/v1/models", { as_of, limit: AT_MOST }, signal),
    get<{ holders: Holding[] }>("/api/v1/holders", { as_of, limit: AT_MOST }, signal),
    get<{ events: Refused[] }>("/api/v1/audit", { accepted: false, as_of, limit: 200 }, signal).catch(() => ({ events: [] })),
  ]);
  return { ...models, ...byModel(holders, refused.events) };
}

export default function Models(): JSX.Element {
  const at = moment.value;
  const answer = useAnswer(`models ${at ?? ""}`, (signal) => load(at, signal));
  const newest = answer.data ? Math.max(-1, ...[...answer.data.refused.values()].map((one) => one.log_offset)) : null;
  const looked = useLooked("models", newest === -1 ? null : newest);
  return (
    <Page crumbs={[{ text: "Models" }]} acts={<>
      <a class="btn desk" href={linkTo("/diff")}>Diff of two moments…</a>
      <a class="btn desk" href={linkTo("/incident")}>Incident…</a>
    </>}>
      <h1>Models</h1>
      <Loaded answer={answer}>
        {(page) => page.models.length === 0
          ? <Empty title={at === null ? "No models yet" : "There was no model at this moment"} code={at === null ? FIRST_MODEL : undefined}>
              A model has versions, each made by a run. Aliases such as @champion say which version serves.
            </Empty>
          : <>
              {page.models.map((model) => (
                <section key={model.model} aria-label={model.model}>
                  <div class="head">
                    <h2><a href={linkTo(`/models/${encodeURIComponent(model.model)}`)}><bdi>{model.model}</bdi></a></h2>
                    <span class="q cut">{model.description && <Text>{model.description}</Text>}</span>
                  </div>
                  <Held model={model.model} holdings={page.holdings.get(model.model) ?? []} />
                  <LastRefusal refused={page.refused.get(model.model)} looked={looked?.offset ?? null} />
                </section>
              ))}
              {page.next_page_token && <p class="q section-gap">These are the first {count(AT_MOST)} by name; the others are at their addresses, and in the API.</p>}
            </>}
      </Loaded>
    </Page>
  );
}

function Held({ model, holdings }: { model: string; holdings: readonly Holding[] }): JSX.Element {
  if (holdings.length === 0) return <p class="q">No version holds an alias or a stage.</p>;
  return (
    <table class="tbl flush open rows held-table">
      <colgroup><col class="c-holds" /><col class="c-version" /><col class="c-since" /><col class="c-by" /><col /></colgroup>
      <thead class="sr"><tr><th>Holds</th><th>Version</th><th>Since</th><th>By</th><th>Why</th></tr></thead>
      <tbody>
        {inOrder(holdings).map((one) => (
          <tr key={`${one.kind} ${one.name} ${one.version}`}>
            <td><Holds kind={one.kind} name={one.name} /></td>
            <td><Version model={model} version={one.version} /></td>
            <td><Time at={one.set_at} relative /></td>
            <td><Actor name={one.set_by} verified={one.verified} /></td>
            <td class="cut why"><Reason text={one.reason} /></td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function LastRefusal({ refused, looked }: { refused: Refused | undefined; looked: number | null }): JSX.Element | null {
  if (!refused) return null;
  return (
    <p class="s12 q2 last-refusal">
      <span class="st bad">Last refused</span> <Time at={refused.appended_at} relative />, <Actor name={refused.actor} verified={refused.actor_verified} />:{" "}
      <a class="a" href={linkTo(`/audit/${refused.log_offset}`)}><bdi>{refused.message ?? refused.code}</bdi></a>
      {looked !== null && refused.log_offset > looked && <span class="chip">since you last looked</span>}
    </p>
  );
}
