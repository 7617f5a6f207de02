// Go to anything: pages, acts, models, experiments and runs, by a few letters. Opened by Ctrl-K.
import { signal } from "@preact/signals";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { JSX } from "preact";
import { ApiError, get, query } from "../client/api.ts";
import { matching, quoted } from "../pure/filter.ts";
import { go, linkTo } from "../state/location.ts";
import { moment } from "../state/moment.ts";
import { Icon, type IconName } from "./icon.tsx";

export interface PaletteItem {
  text: string;
  /** What it is, on the right: "page", "run of vision/sweep". */
  hint: string;
  icon?: IconName;
  href?: string;
  run?: () => void;
}

/** Items of the frame and of pages, which are always there. */
const fixed = signal<readonly PaletteItem[]>([]);

/** Whether the palette is open. */
export const paletteOpen = signal(false);

/** Add items, such as a page's acts; returns a function that takes them away. */
export function addToPalette(items: readonly PaletteItem[]): () => void {
  fixed.value = [...fixed.value, ...items];
  return () => (fixed.value = fixed.value.filter((item) => !items.includes(item)));
}

const MOST = 6;
const TYPING_MS = 80;

async function find(written: string, signal: AbortSignal): Promise<PaletteItem[]> {
  const asOf = moment.value ? { as_of: moment.value } : {};
  const pattern = quoted(`%${written.replace(/[%_\\]/g, "\\$&")}%`);
  const [models, experiments, runs] = await Promise.allSettled([
    get<{ models: { model: string }[] }>("/api/v1/models", { limit: 1_000 }, signal),
    get<{ experiments: { experiment_id: string; name: string }[] }>("/api/v1/experiments", { limit: 1_000 }, signal),
    query<{ rows: { run_id: string; run_name: string | null; experiment_name: string | null }[] }>(
      "/api/v1/runs/query",
      { ...asOf, filter: `run_name ILIKE ${pattern} OR run_id = ${quoted(written)}`, columns: ["run_id", "run_name", "experiment_name"], limit: MOST },
      signal,
    ),
  ]);
  const named = (items: PaletteItem[]): PaletteItem[] => {
    const byText = new Map(items.map((item) => [item.text, item]));
    return matching(items.map((item) => ({ text: item.text, insert: "" })), written, MOST).map((one) => byText.get(one.text)!);
  };
  return [
    ...named(models.status === "fulfilled" ? models.value.models.map(({ model }) => ({ text: model, hint: "model", href: linkTo(`/models/${encodeURIComponent(model)}`) })) : []),
    ...named(experiments.status === "fulfilled"
      ? experiments.value.experiments.map(({ experiment_id, name }) => ({ text: name, hint: "experiment", href: linkTo("/runs", { experiments: experiment_id }) }))
      : []),
    ...(runs.status === "fulfilled"
      ? runs.value.rows.map((run) => ({ text: run.run_name ?? run.run_id, hint: `run of ${run.experiment_name ?? "?"}`, href: linkTo(`/runs/${encodeURIComponent(run.run_id)}`) }))
      : []),
  ];
}

export function Palette(): JSX.Element {
  const [written, setWritten] = useState("");
  const [found, setFound] = useState<readonly PaletteItem[]>([]);
  const [chosen, setChosen] = useState(0);
  const element = useRef<HTMLDialogElement>(null);
  const list = useId();
  const close = (): void => void (paletteOpen.value = false);
  useEffect(() => element.current?.showModal(), []);
  useEffect(() => {
    if (!written.trim()) return setFound([]);
    const mine = new AbortController();
    const timer = setTimeout(() => {
      find(written.trim(), mine.signal).then((items) => { if (!mine.signal.aborted) setFound(items); }, (error: unknown) => {
        if (!(error instanceof ApiError || mine.signal.aborted)) throw error;
      });
    }, TYPING_MS);
    return () => {
      clearTimeout(timer);
      mine.abort();
    };
  }, [written]);

  const byText = new Map(fixed.value.map((item) => [item.text, item]));
  const pages = matching(fixed.value.map((item) => ({ text: item.text, insert: "" })), written.trim(), written ? MOST : 12).map((one) => byText.get(one.text)!);
  const items = [...pages, ...found];
  const at = Math.min(chosen, items.length - 1);
  function take(item: PaletteItem | undefined): void {
    if (!item) return;
    close();
    if (item.href) go(item.href);
    else item.run?.();
  }
  function onKeyDown(event: KeyboardEvent): void {
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to !== undefined && items.length) setChosen((to + items.length) % items.length);
    else if (event.key === "Enter") take(items[at]);
    else return;
    event.preventDefault();
  }
  return (
    <dialog
      ref={element} class="palette" aria-label="Go to" onCancel={(event) => { event.preventDefault(); close(); }}
      onClick={(event) => { if (event.target === element.current) close(); }} onKeyDown={onKeyDown}
    >
      <div class="ask">
        <Icon name="search" />
        <input
          type="text" role="combobox" aria-expanded="true" aria-controls={list} aria-activedescendant={at >= 0 ? `${list}-${at}` : undefined} aria-autocomplete="list"
          aria-label="Go to" placeholder="Go to a page, model, experiment or run" value={written} spellcheck={false} autocomplete="off" autofocus maxLength={200}
          onInput={(event) => { setWritten(event.currentTarget.value); setChosen(0); }}
        />
        <kbd>Esc</kbd>
      </div>
      <ul role="listbox" id={list} aria-label="Places">
        {items.map((item, i) => (
          <li key={`${item.hint} ${item.href ?? item.text}`} id={`${list}-${i}`} role="option" aria-selected={i === at} class={i === at ? "on" : ""} onPointerMove={() => setChosen(i)} onClick={() => take(item)}>
            {item.icon && <Icon name={item.icon} />}<bdi class="cut">{item.text}</bdi><span class="cut">{item.hint}</span>
          </li>
        ))}
        {items.length === 0 && <li class="q" role="option" aria-selected="false" aria-disabled="true">Nothing has this name</li>}
      </ul>
    </dialog>
  );
}
