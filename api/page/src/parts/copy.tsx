// A button that copies a text, and says so.
import type { JSX } from "preact";
import { Icon } from "./icon.tsx";
import { toast } from "./toast.tsx";

export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }): JSX.Element {
  return (
    <button class="btn s copy" type="button" onClick={() => void copyText(text)}>
      <Icon name="copy" />{label}
    </button>
  );
}

/** Put a text on the clipboard, also where the page comes by plain http from another machine. */
export async function copyText(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "sr";
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) return toast("The browser does not allow copying here.", { kind: "bad" });
  }
  toast("Copied.");
}
