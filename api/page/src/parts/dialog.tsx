// A dialog: the browser's own, which keeps the focus inside and returns it; Escape closes it.
import { useEffect, useRef } from "preact/hooks";
import type { ComponentChildren, JSX } from "preact";

export function Dialog({ title, close, children, footer, wide = false }: {
  title: string;
  close: () => void;
  children: ComponentChildren;
  /** Buttons; the main act comes last. */
  footer?: ComponentChildren;
  wide?: boolean;
}): JSX.Element {
  const element = useRef<HTMLDialogElement>(null);
  useEffect(() => element.current?.showModal(), []);
  return (
    <dialog
      ref={element}
      class={wide ? "dialog wide-dialog" : "dialog"}
      aria-label={title}
      onCancel={(event) => { event.preventDefault(); close(); }}
      onClick={(event) => { if (event.target === element.current) close(); }}
    >
      <header><h2>{title}</h2></header>
      <div class="in">{children}</div>
      {footer && <footer>{footer}</footer>}
    </dialog>
  );
}
