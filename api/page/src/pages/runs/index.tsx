// Runs: all that the caller may read, newest first, from `GET /api/v1/runs`.
import type { JSX } from "preact";
import { get } from "../../client/api.ts";
import { useAnswer } from "../../parts/answer.ts";
import { Page } from "../../parts/page.tsx";
import { Empty, Loaded } from "../../parts/states.tsx";
import { Actor, Duration, Status, Text, Time } from "../../parts/values.tsx";
import { linkTo } from "../../state/location.ts";

interface Run {
  run_id: string;
  name: string | null;
  experiment_name: string | null;
  status: string;
  start_time: string | null;
  duration_s: number | null;
  user: string | null;
}

const FIRST_RUN = `from modeltrail.producers import start_run

with start_run(experiment="first") as run:
    run.log({"loss": 0.5}, step=1)`;

export default function Runs(): JSX.Element {
  const answer = useAnswer("runs", (signal) => get<{ runs: Run[] }>("/api/v1/runs", { limit: 100 }, signal));
  return (
    <Page crumbs={[{ text: "All runs" }]} fill>
      <Loaded answer={answer} rows={20}>
        {({ runs }) => runs.length === 0
          ? <Empty title="No runs yet" code={FIRST_RUN}>Each run of a training script is a row here. These lines make the first one.</Empty>
          : <Table runs={runs} />}
      </Loaded>
    </Page>
  );
}

function Table({ runs }: { runs: readonly Run[] }): JSX.Element {
  return (
    <div class="scroll">
      <table class="tbl">
        <thead>
          <tr><th>Run</th><th>Experiment</th><th>Status</th><th>Started</th><th class="num">Took</th><th>User</th></tr>
        </thead>
        <tbody>
          {runs.map((run) => (
            <tr key={run.run_id}>
              <td><a href={linkTo(`/runs/${run.run_id}`)}><Text title={run.run_id}>{run.name ?? run.run_id}</Text></a></td>
              <td class="q2"><Text>{run.experiment_name}</Text></td>
              <td><Status status={run.status} /></td>
              <td><Time at={run.start_time} /></td>
              <td class="num"><Duration seconds={run.duration_s} /></td>
              <td><Actor name={run.user} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
