// Short messages at the bottom, which go by themselves; errors stay until they are closed.
import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { Icon } from "./icon.tsx";

interface Toast {
  id: number;
  text: ComponentChildren;
  kind: "plain" | "pass" | "bad";
}
const shown = signal<readonly Toast[]>([]);
let made = 0;

/** Show a message. */
export function toast(text: ComponentChildren, { kind = "plain" }: { kind?: Toast["kind"] } = {}): void {
  const id = (made += 1);
  shown.value = [...shown.value.slice(-2), { id, text, kind }];
  if (kind !== "bad") setTimeout(() => close(id), 5_000);
}

function close(id: number): void {
  shown.value = shown.value.filter((one) => one.id !== id);
}

export function Toasts(): JSX.Element {
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.value.map((one) => (
        <div key={one.id} class={`toast ${one.kind}`}>
          {one.kind !== "plain" && <Icon name={one.kind === "pass" ? "check" : "warn"} />}
          <div>{one.text}</div>
          <button class="btn bare s sq" type="button" aria-label="Close" onClick={() => close(one.id)}><Icon name="cross" /></button>
        </div>
      ))}
    </div>
  );
}
