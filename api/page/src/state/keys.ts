// Keys: a component says which keys act while it is shown; `?` lists them all.
import { useEffect, useRef } from "preact/hooks";

export interface Key {
  /** As `KeyboardEvent.key`, with modifiers before it: "j", "?", "Ctrl+k", "ArrowLeft". */
  key: string;
  /** What it does, for the list under `?`; keys without it are not listed. */
  what?: string;
  run: (event: KeyboardEvent) => void;
  /** Also while somebody types. */
  always?: boolean;
}

interface Layer {
  title: string;
  keys: readonly Key[];
}
const layers: Layer[] = [];

/** Let keys act while the component is shown. The newest component comes first. */
export function useKeys(title: string, keys: readonly Key[]): void {
  const layer = useRef<Layer>({ title, keys });
  layer.current.keys = keys;
  layer.current.title = title;
  useEffect(() => {
    const mine = layer.current;
    layers.unshift(mine);
    return () => void layers.splice(layers.indexOf(mine), 1);
  }, []);
}

/** The keys that act now, by title, the outermost first. */
export function activeKeys(): Layer[] {
  const found = new Map<string, Key[]>();
  for (const layer of [...layers].reverse()) {
    const named = layer.keys.filter((key) => key.what);
    if (named.length) found.set(layer.title, [...(found.get(layer.title) ?? []), ...named]);
  }
  return [...found].map(([title, keys]) => ({ title, keys }));
}

function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button", "range"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable;
}

/** Begin to listen. */
export function listenToKeys(): void {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    const control = event.ctrlKey || event.metaKey;
    const name = (control ? "Ctrl+" : "") + (event.altKey ? "Alt+" : "") + event.key;
    // In a shadow root, such as an editor's, the event's target is the root's host.
    const typing = isTyping(event.composedPath()[0] ?? null);
    const dialog = document.querySelector("dialog[open]");
    for (const layer of layers) {
      const found = layer.keys.find((key) => key.key === name && (!typing || key.always));
      if (!found) continue;
      // Under a dialog nothing acts but what is meant to.
      if (dialog && !found.always) continue;
      event.preventDefault();
      found.run(event);
      return;
    }
  });
}
