// The events of a run in the log, newest first, from `GET /api/v1/runs/{run_id}/events`.
import { useState } from "preact/hooks";
import type { JSX } from "preact";
import { get } from "../../client/api.ts";
import { useAnswer } from "../../parts/answer.ts";
import { Loaded } from "../../parts/states.tsx";
import { Actor, Text, Time } from "../../parts/values.tsx";
import { bytes, count } from "../../pure/format.ts";

interface LogEvent {
  position: string;
  appended_at: string;
  type: string;
  producer: string | null;
  sequence: number | null;
  actor: string | null;
  actor_verified: boolean | null;
  bytes: number;
  summary: string;
  reason: string | null;
  error: string | null;
}

export function Events({ runId }: { runId: string }): JSX.Element {
  const [pages, setPages] = useState<readonly string[]>([]);
  const token = pages[pages.length - 1];
  const answer = useAnswer(`events ${runId} ${token}`, (signal) =>
    get<{ events: LogEvent[]; next_page_token: string | null }>(`/api/v1/runs/${encodeURIComponent(runId)}/events`, { limit: 100, page_token: token }, signal));
  return (
    <Loaded answer={answer} rows={12}>
      {({ events, next_page_token }) => (
        <section class="events">
          <div class="wide">
            <table class="tbl flush">
              <thead><tr><th>Position</th><th>Appended</th><th>Event</th><th>What</th><th class="num">Sequence</th><th class="num">Bytes</th><th>By</th></tr></thead>
              <tbody>
                {events.map((event) => (
                  <tr key={event.position}>
                    <td class="mono">{event.position}</td>
                    <td><Time at={event.appended_at} /></td>
                    <td>{event.type}</td>
                    <td class="wrap">{event.error ? <span class="st bad">{event.error}</span> : <Text>{event.summary}</Text>}{event.reason && <span class="q"> “{event.reason}”</span>}</td>
                    <td class="num" title={event.producer ? `producer ${event.producer}` : undefined}>{event.sequence === null ? "–" : count(event.sequence)}</td>
                    <td class="num">{bytes(event.bytes)}</td>
                    <td><Actor name={event.actor} verified={event.actor_verified} /></td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          <p class="pager">
            {pages.length > 0 && <button type="button" class="btn s" onClick={() => setPages(pages.slice(0, -1))}>Newer</button>}
            {next_page_token && <button type="button" class="btn s" onClick={() => setPages([...pages, next_page_token])}>Older</button>}
          </p>
        </section>
      )}
    </Loaded>
  );
}
