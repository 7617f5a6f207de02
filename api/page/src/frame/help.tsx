// All keys that act on the page that is open.
import { signal } from "@preact/signals";
import { Fragment, type JSX } from "preact";
import { Dialog } from "../parts/dialog.tsx";
import { activeKeys } from "../state/keys.ts";

const NAMES: Record<string, string> = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", " ": "Space" };

/** Whether the list is open. */
export const helpOpen = signal(false);

export function Help({ close }: { close: () => void }): JSX.Element {
  return (
    <Dialog title="Keys" close={close}>
      {activeKeys().map(({ title, keys }) => (
        <section key={title}>
          <h3>{title}</h3>
          <dl class="kv keys-list">
            {keys.map(({ key, what }) => (
              <Fragment key={key}>
                <dt>{key.split("+").filter(Boolean).map((part) => <kbd key={part}>{NAMES[part] ?? part}</kbd>)}</dt>
                <dd>{what}</dd>
              </Fragment>
            ))}
          </dl>
        </section>
      ))}
    </Dialog>
  );
}
