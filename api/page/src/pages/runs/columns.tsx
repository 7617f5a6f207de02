// Choose columns: which ones, their order, and how many stay on the left.
import { useState } from "preact/hooks";
import type { JSX } from "preact";
import { useAnswer } from "../../parts/answer.ts";
import { Dialog } from "../../parts/dialog.tsx";
import { Icon } from "../../parts/icon.tsx";
import { query } from "../../client/api.ts";
import { ATTRIBUTES, columnOf, titleOf, type Keys, type RunsQuery } from "../../pure/runs-query.ts";
import { count } from "../../pure/format.ts";
import { moved, type Layout } from "../../pure/window.ts";

export function ColumnsDialog({ layout, asked, onLayout, close }: {
  layout: Layout;
  /** The runs whose keys are offered. */
  asked: RunsQuery;
  onLayout: (layout: Layout | null) => void;
  close: () => void;
}): JSX.Element {
  const [written, setWritten] = useState("");
  const body = { ...asked, keys: true, key_prefix: written, keys_limit: 30, limit: 0 };
  const found = useAnswer(`columns ${JSON.stringify(body)}`, (signal) => query<{ keys: Keys }>("/api/v1/runs/query", body, signal));
  const shown = new Set(layout.columns);
  const change = (columns: readonly string[], pinned = layout.pinned): void =>
    onLayout({ ...layout, columns, pinned: Math.min(pinned, columns.length) });
  const keys = found.data?.keys;
  const attributes = [...ATTRIBUTES.keys()].filter((name) => titleOf(name).toLowerCase().includes(written.toLowerCase()));
  const offered: [title: string, columns: { id: string; runs?: number }[], more: number][] = [
    ["Metrics", keys?.metrics.flatMap(({ key, runs }) => (written ? ["", ".min", ".max"] : [""]).map((part) => ({ id: columnOf("metrics", key) + part, runs }))) ?? [], (keys?.metrics_count ?? 0) - (keys?.metrics.length ?? 0)],
    ["Params", keys?.params.map(({ key, runs }) => ({ id: columnOf("params", key), runs })) ?? [], (keys?.params_count ?? 0) - (keys?.params.length ?? 0)],
    ["Tags", keys?.tags.map(({ key, runs }) => ({ id: columnOf("tags", key), runs })) ?? [], (keys?.tags_count ?? 0) - (keys?.tags.length ?? 0)],
    ["Of every run", attributes.map((id) => ({ id })), 0],
  ];
  return (
    <Dialog title="Columns" close={close} footer={<>
      <button class="btn" type="button" onClick={() => onLayout(null)}>As at first</button>
      <span class="gap" />
      <button class="btn main-act" type="button" onClick={close}>Done</button>
    </>}>
      <div class="two-columns">
        <section>
          <h3>Shown, from left to right</h3>
          <ol class="column-list">
            {layout.columns.map((id, i) => (
              <li key={id}>
                <bdi class="cut" title={id}>{titleOf(id)}</bdi>
                <button class="btn bare s sq" type="button" aria-label={`Move ${titleOf(id)} left`} disabled={i === 0} onClick={() => change(moved(layout.columns, id, layout.columns[i - 1]!))}><Icon name="up" /></button>
                <button class="btn bare s sq" type="button" aria-label={`Move ${titleOf(id)} right`} disabled={i === layout.columns.length - 1} onClick={() => change(moved(layout.columns, layout.columns[i + 1]!, id))}><Icon name="down" /></button>
                <button
                  class="btn bare s sq" type="button" aria-label={`Pin up to ${titleOf(id)}`} aria-pressed={i < layout.pinned} title={i < layout.pinned ? "Stays on the left" : "Keep up to here on the left"}
                  onClick={() => change(layout.columns, i + 1 === layout.pinned ? i : i + 1)}
                ><Icon name="pin" /></button>
                <button class="btn bare s sq" type="button" aria-label={`Remove ${titleOf(id)}`} disabled={layout.columns.length === 1} onClick={() => change(layout.columns.filter((one) => one !== id), i < layout.pinned ? layout.pinned - 1 : layout.pinned)}><Icon name="cross" /></button>
              </li>
            ))}
          </ol>
        </section>
        <section>
          <input class="field" type="search" aria-label="Find a column" placeholder="Find a metric, param or tag" value={written} onInput={(event) => setWritten(event.currentTarget.value)} />
          {offered.map(([title, columns, more]) => columns.length > 0 && (
            <div key={title}>
              <h3>{title}</h3>
              <ul class="column-list">
                {columns.map(({ id, runs }) => (
                  <li key={id}>
                    <label>
                      <input
                        type="checkbox" checked={shown.has(id)}
                        onChange={(event) => change(event.currentTarget.checked ? [...layout.columns, id] : layout.columns.filter((one) => one !== id))}
                      />
                      <bdi class="cut" title={id}>{titleOf(id)}</bdi>
                      {runs !== undefined && <span class="q">{count(runs)}</span>}
                    </label>
                  </li>
                ))}
              </ul>
              {more > 0 && <p class="q s12">{count(more)} more: type to find them</p>}
            </div>
          ))}
        </section>
      </div>
    </Dialog>
  );
}

/** Choose the columns that make groups. */
export function GroupDialog({ group, keys, onGroup, close }: {
  group: readonly string[];
  keys: Keys;
  onGroup: (columns: readonly string[]) => void;
  close: () => void;
}): JSX.Element {
  const offered = [
    ...keys.params.slice(0, 40).map(({ key }) => columnOf("params", key)),
    ...keys.tags.filter((tag) => !tag.key.startsWith("mlflow.")).slice(0, 20).map(({ key }) => columnOf("tags", key)),
    "experiment_name", "status", "user", "git_branch", "git_commit", "host",
  ];
  const chosen = new Set(group);
  return (
    <Dialog title="Group by" close={close} footer={<><span class="q s12">Seeds of one setting become one row, with mean and deviation.</span><span class="gap" /><button class="btn main-act" type="button" onClick={close}>Done</button></>}>
      <ul class="column-list">
        {offered.map((id) => (
          <li key={id}>
            <label>
              <input type="checkbox" checked={chosen.has(id)} disabled={!chosen.has(id) && chosen.size >= 5} onChange={() => onGroup(chosen.has(id) ? group.filter((one) => one !== id) : [...group, id])} />
              <bdi class="cut">{titleOf(id)}</bdi><span class="q">{id.split(".")[0] === id ? "" : id.split(".")[0]}</span>
            </label>
          </li>
        ))}
      </ul>
    </Dialog>
  );
}
