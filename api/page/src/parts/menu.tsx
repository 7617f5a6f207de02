// A button that opens a short list of acts; and the menu "Copy as" of a query.
import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren, JSX } from "preact";
import { copyText } from "./copy.tsx";
import { Icon, type IconName } from "./icon.tsx";

export interface MenuItem {
  text: ComponentChildren;
  /** What is typed on the right, as in a format's name. */
  hint?: string;
  run?: () => void;
  /** A link instead of an act. */
  href?: string;
  /** Under this name the link is saved. */
  download?: string;
  disabled?: boolean;
}

export function Menu({ label, icon, items, title, quiet = false, small = false }: {
  /** The button's text; with only an icon, give `title`. */
  label?: ComponentChildren;
  icon?: IconName;
  title?: string;
  items: readonly MenuItem[];
  quiet?: boolean;
  small?: boolean;
}): JSX.Element {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLSpanElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (!open) return;
    const outside = (event: Event): void => {
      if (!box.current?.contains(event.target as Node)) setOpen(false);
    };
    addEventListener("pointerdown", outside);
    box.current?.querySelector<HTMLElement>("[role=menuitem]:not([disabled])")?.focus();
    return () => removeEventListener("pointerdown", outside);
  }, [open]);

  function onKeyDown(event: KeyboardEvent): void {
    if (!open) return;
    const items = [...(box.current?.querySelectorAll<HTMLElement>("[role=menuitem]:not([disabled])") ?? [])];
    const at = items.indexOf(document.activeElement as HTMLElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to !== undefined) items[(to + items.length) % items.length]?.focus();
    else if (event.key === "Escape" || event.key === "Tab") {
      setOpen(false);
      button.current?.focus();
      if (event.key === "Tab") return;
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
  const classes = ["btn", quiet ? "bare" : "", small ? "s" : "", label ? "" : "sq"].filter(Boolean).join(" ");
  return (
    <span class="menu-box" ref={box} onKeyDown={onKeyDown}>
      <button
        ref={button} type="button" class={classes} aria-haspopup="menu" aria-expanded={open} aria-label={label ? undefined : title} title={title}
        onClick={() => setOpen(!open)}
      >
        {icon && <Icon name={icon} />}{label}
      </button>
      {open && (
        <span class="menu" role="menu" aria-label={title ?? (typeof label === "string" ? label : undefined)}>
          {items.map((item, i) =>
            item.href
              ? (
                <a key={i} role="menuitem" href={item.href} download={item.download} onClick={() => setOpen(false)}>
                  <span>{item.text}</span>{item.hint && <span class="q">{item.hint}</span>}
                </a>
              )
              : (
                <button key={i} role="menuitem" type="button" disabled={item.disabled} onClick={() => { setOpen(false); button.current?.focus(); item.run?.(); }}>
                  <span>{item.text}</span>{item.hint && <span class="q">{item.hint}</span>}
                </button>
              ))}
        </span>
      )}
    </span>
  );
}

/** The same question in other languages: SQL, curl, Python, MLflow. */
export function CopyAs({ texts }: { texts: Readonly<Record<string, () => string>> }): JSX.Element {
  return (
    <Menu
      label="Copy as…" title="Copy as" quiet small
      items={Object.entries(texts).map(([name, text]) => ({ text: name, run: () => void copyText(text()) }))}
    />
  );
}
