// The filter bar: what is asked, with completion from the names and values that there are, and the SQL it becomes.
import { useEffect, useId, useRef, useState } from "preact/hooks";
import type { ComponentChildren, JSX } from "preact";
import type { ApiError } from "../client/api.ts";
import { caretIn, isWhole, matching, operators, tokens, typeOf, type FieldType, type Suggestion } from "../pure/filter.ts";
import { linkTo } from "../state/location.ts";
import { may } from "../state/session.ts";
import { Icon } from "./icon.tsx";
import { CopyAs } from "./menu.tsx";

export interface FilterProps {
  value: string;
  /** Called while somebody types, some time after the last key; and at once by Enter (`done`). */
  onChange: (text: string, done: boolean) => void;
  placeholder?: string;
  /** Fields that are always there, with their types. */
  attributes: ReadonlyMap<string, FieldType>;
  /** Names of fields that contain a text: keys of params, metrics and tags. */
  fieldsFor?: (written: string, signal: AbortSignal) => Promise<Suggestion[]>;
  /** Values of a field, the most frequent first. */
  valuesFor?: (field: string, signal: AbortSignal) => Promise<Suggestion[]>;
  /** The same question as SQL. */
  sql?: string | null;
  /** Why the filter was refused. */
  error?: ApiError | null;
  copyAs?: Readonly<Record<string, () => string>>;
  /** Buttons beside it. */
  children?: ComponentChildren;
}

const TYPING_MS = 120;
const COLOURS: Partial<Record<string, string>> = { field: "k", join: "k2", operator: "q2", string: "str", number: "nu" };

export function FilterBar(props: FilterProps): JSX.Element {
  const { value, onChange, attributes, fieldsFor, valuesFor, sql, error, copyAs } = props;
  const [text, setText] = useState(value);
  const [offered, setOffered] = useState<readonly Suggestion[]>([]);
  const [chosen, setChosen] = useState(-1);
  const input = useRef<HTMLInputElement>(null);
  const shade = useRef<HTMLSpanElement>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const asking = useRef<AbortController | null>(null);
  const sent = useRef(value);
  const list = useId();

  useEffect(() => {
    // The address changed by something else than typing here: a facet, Back.
    if (value === sent.current) return;
    sent.current = value;
    setText(value);
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);

  function send(next: string, done: boolean): void {
    clearTimeout(timer.current);
    const act = (): void => {
      sent.current = next.trim();
      onChange(next.trim(), done);
    };
    if (done) act();
    else if (isWhole(next)) timer.current = setTimeout(act, TYPING_MS);
  }

  async function offer(next: string, at: number): Promise<void> {
    asking.current?.abort();
    const mine = (asking.current = new AbortController());
    const caret = caretIn(next, at);
    let found: Suggestion[] = [];
    if (caret.expects === "operator") found = matching(operators(typeOf(caret.field, attributes)), caret.written);
    else if (caret.expects === "join") found = matching(["AND", "OR"].map((word) => ({ text: word, insert: `${word} ` })), caret.written);
    else if (caret.expects === "field") {
      const fixed = [...attributes].map(([name, type]) => ({ text: name, insert: `${name} `, hint: type }));
      const written = caret.written;
      found = matching(fixed, written, 8);
      setOffered(found);
      setChosen(-1);
      const keys = await fieldsFor?.(written.replace(/^(params|metrics|tags)\.?/, "").replaceAll("`", ""), mine.signal).catch(() => []);
      found = matching([...fixed, ...(keys ?? [])], written, 14);
    } else {
      const values = await valuesFor?.(caret.field, mine.signal).catch(() => []);
      found = matching(values ?? [], caret.written, 14);
    }
    if (mine.signal.aborted) return;
    const only = found.length === 1 && found[0]!.insert.trim() === caret.written;
    setOffered(only ? [] : found);
    setChosen(-1);
  }

  function take(suggestion: Suggestion): void {
    const element = input.current!;
    const caret = caretIn(text, element.selectionStart ?? text.length);
    const next = text.slice(0, caret.from) + suggestion.insert + text.slice(caret.to).trimStart();
    const at = caret.from + suggestion.insert.length;
    // At once, not with the next drawing: the reader may go on typing before that.
    element.value = next;
    element.focus();
    element.setSelectionRange(at, at);
    setText(next);
    send(next, false);
    void offer(next, at);
  }

  function close(): void {
    asking.current?.abort();
    setOffered([]);
    setChosen(-1);
  }

  function onKeyDown(event: KeyboardEvent): void {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (offered.length === 0) return void offer(text, input.current?.selectionStart ?? text.length);
      const step = event.key === "ArrowDown" ? 1 : -1;
      setChosen((chosen + step + offered.length + 1 + 1) % (offered.length + 1) - 1);
    } else if ((event.key === "Enter" || event.key === "Tab") && chosen >= 0) {
      event.preventDefault();
      take(offered[chosen]!);
    } else if (event.key === "Enter") {
      close();
      send(text, true);
    } else if (event.key === "Escape") {
      event.preventDefault();
      if (offered.length) close();
      else input.current?.blur();
    }
  }

  return (
    <div class="filter">
      <div class="row">
        <div class={error ? "query wrong" : "query"}>
          <Icon name="search" />
          <span class="query-text">
            <span class="query-shade" aria-hidden="true" ref={shade}>{coloured(text)}</span>
            <input
              ref={input} type="text" data-filter value={text} spellcheck={false} autocomplete="off" autocapitalize="off" maxLength={6_000}
              aria-label="Filter" placeholder={props.placeholder} role="combobox" aria-expanded={offered.length > 0} aria-controls={list}
              aria-autocomplete="list" aria-invalid={error ? true : undefined} aria-activedescendant={chosen >= 0 ? `${list}-${chosen}` : undefined}
              onInput={(event) => {
                const { value: next, selectionStart } = event.currentTarget;
                setText(next);
                send(next, false);
                void offer(next, selectionStart ?? next.length);
              }}
              onScroll={(event) => { if (shade.current) shade.current.style.transform = `translateX(${-event.currentTarget.scrollLeft}px)`; }}
              onKeyDown={onKeyDown}
              onFocus={(event) => void offer(text, event.currentTarget.selectionStart ?? text.length)}
              onBlur={() => setTimeout(close, 120)}
            />
          </span>
          {text
            ? <button class="btn bare s sq" type="button" aria-label="Clear the filter" onClick={() => { setText(""); send("", true); input.current?.focus(); }}><Icon name="cross" /></button>
            : <kbd class="desk">/</kbd>}
          {offered.length > 0 && (
            <ul class="offers" role="listbox" id={list} aria-label="Completions">
              {offered.map((one, i) => (
                <li
                  key={one.text} id={`${list}-${i}`} role="option" aria-selected={i === chosen}
                  onPointerDown={(event) => { event.preventDefault(); take(one); }}
                >
                  <bdi class="cut">{one.text}</bdi>{one.hint && <span class="q">{one.hint}</span>}
                </li>
              ))}
            </ul>
          )}
        </div>
        {props.children}
      </div>
      {error
        ? <p class="filter-error" role="alert"><Icon name="warn" /> {error.message}</p>
        : sql
          ? (
            <div class="sql-line desk">
              <span>SQL</span><code title={sql}>{sql.replace(/\s+/g, " ")}</code><span class="gap" />
              {may("sql") && <a class="a s12 nowrap" href={linkTo("/sql", { q: sql })}>Open in SQL</a>}
              {copyAs && <CopyAs texts={copyAs} />}
            </div>
          )
          : <div class="sql-line desk" aria-hidden="true">{"\u00a0"}</div>}
    </div>
  );
}

function coloured(text: string): ComponentChildren[] {
  const parts: ComponentChildren[] = [];
  let at = 0;
  for (const token of tokens(text)) {
    if (token.from > at) parts.push(text.slice(at, token.from));
    parts.push(<span key={token.from} class={COLOURS[token.kind]}>{token.text}</span>);
    at = token.to;
  }
  parts.push(text.slice(at));
  return parts;
}
