// The editor: CodeMirror, in a chunk of its own. It lives in a shadow root, where it keeps its styles in a
// constructed style sheet: in the document it would add a style element, which our policy forbids.
import { autocompletion, closeBrackets, closeBracketsKeymap, completionKeymap, type Completion } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { bracketMatching, HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { PostgreSQL, sql, type SQLNamespace } from "@codemirror/lang-sql";
import { Compartment, EditorState, Prec, StateEffect, StateField } from "@codemirror/state";
import { Decoration, EditorView, keymap, lineNumbers, placeholder, type DecorationSet } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import type { Span } from "../../pure/sql.ts";
import type { Schema } from "./schema.ts";

export interface Editor {
  text(): string;
  /** Replace everything. */
  show(text: string): void;
  /** Insert at the cursor, and go on typing behind it. */
  insert(text: string): void;
  /** Mark the place of an error; null removes the mark. */
  mark(place: Span | null): void;
  complete(schema: Schema): void;
  focus(): void;
  close(): void;
}

const setMark = StateEffect.define<Span | null>();
const wrong = Decoration.mark({ class: "cm-wrong" });
const marks = StateField.define<DecorationSet>({
  create: () => Decoration.none,
  update(shown, transaction) {
    if (transaction.docChanged) shown = Decoration.none; // what is edited may be right now
    for (const effect of transaction.effects) {
      if (effect.is(setMark)) shown = effect.value ? Decoration.set([wrong.range(effect.value.from, effect.value.to)]) : Decoration.none;
    }
    return shown;
  },
  provide: (field) => EditorView.decorations.from(field),
});

// Where text is typed over a selection of several lines, a browser joins them with a style attribute, which our
// policy forbids: the editor does it before the browser can.
const typing = EditorView.domEventHandlers({
  beforeinput(event, view) {
    const { main } = view.state.selection;
    const text = event.data;
    if (event.inputType !== "insertText" || event.isComposing || !text || main.empty) return false;
    const insert = () => view.state.update(view.state.replaceSelection(text), { userEvent: "input.type", scrollIntoView: true });
    const handlers = view.state.facet(EditorView.inputHandler);
    if (!handlers.some((handle) => handle(view, main.from, main.to, text, insert))) view.dispatch(insert());
    return true;
  },
});

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.operatorKeyword, tags.modifier], color: "var(--c-key)" },
  { tag: [tags.string, tags.special(tags.string)], color: "var(--c-str)" },
  { tag: [tags.number, tags.bool, tags.null], color: "var(--c-num)" },
  { tag: [tags.comment, tags.lineComment, tags.blockComment], color: "var(--ink-3)" },
]);

const look = EditorView.theme({
  "&": { height: "100%", font: "13px/22px var(--mono)", color: "var(--ink)", backgroundColor: "var(--surface)" },
  "&.cm-focused": { outline: "var(--focus)", outlineOffset: "-2px" },
  ".cm-scroller": { fontFamily: "inherit", lineHeight: "inherit", padding: "8px 0" },
  ".cm-content": { padding: "0", caretColor: "var(--ink)" },
  ".cm-line": { padding: "0 16px 0 4px" },
  ".cm-gutters": { backgroundColor: "transparent", color: "var(--ink-3)", border: "0", paddingLeft: "8px" },
  ".cm-lineNumbers .cm-gutterElement": { minWidth: "28px", paddingRight: "12px" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-placeholder": { color: "var(--ink-3)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--selected)" },
  ".cm-content ::selection": { backgroundColor: "var(--selected)" },
  "&.cm-focused .cm-matchingBracket": { backgroundColor: "var(--selected)" },
  ".cm-wrong": { textDecoration: "underline wavy var(--bad)", textUnderlineOffset: "4px", backgroundColor: "var(--bad-wash)" },
  ".cm-tooltip": { border: "0", borderRadius: "6px", backgroundColor: "var(--raised)", boxShadow: "var(--float)", color: "var(--ink)" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul": { fontFamily: "var(--mono)", fontSize: "12px", lineHeight: "16px", padding: "4px 0", maxHeight: "216px" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li": { display: "flex", gap: "16px", padding: "4px 10px" },
  ".cm-tooltip.cm-tooltip-autocomplete > ul > li[aria-selected]": { backgroundColor: "var(--selected)", color: "var(--ink)" },
  ".cm-completionDetail": { marginLeft: "auto", fontStyle: "normal", fontFamily: "var(--sans)", color: "var(--ink-3)" },
  ".cm-completionMatchedText": { textDecoration: "none", fontWeight: "600" },
});

/** Put an editor into an element. */
export function edit(parent: HTMLElement, text: string, { changed, run, label }: {
  changed: (text: string) => void;
  run: () => void;
  label: string;
}): Editor {
  const root = parent.shadowRoot ?? parent.attachShadow({ mode: "open" });
  const language = new Compartment();
  const act = Prec.highest(keymap.of([{ key: "Mod-Enter", run: () => (run(), true) }]));
  const view = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: text,
      extensions: [
        act,
        lineNumbers(),
        history(),
        closeBrackets(),
        bracketMatching(),
        autocompletion({ icons: false }),
        language.of(sql({ dialect: PostgreSQL })),
        marks,
        look,
        syntaxHighlighting(colours),
        placeholder("SELECT … FROM runs"),
        EditorState.tabSize.of(2),
        EditorView.contentAttributes.of({ "aria-label": label, autocapitalize: "off", spellcheck: "false", tabindex: "0" }),
        // Tab is left to the page: with a keyboard alone there must be a way out.
        typing,
        keymap.of([...closeBracketsKeymap, ...completionKeymap, ...defaultKeymap, ...historyKeymap]),
        EditorView.updateListener.of((update) => { if (update.docChanged) changed(update.state.doc.toString()); }),
      ],
    }),
  });
  return {
    text: () => view.state.doc.toString(),
    show: (wanted) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: wanted } }),
    insert: (wanted) => {
      view.dispatch(view.state.replaceSelection(wanted));
      view.focus();
    },
    mark: (place) => {
      const fits = place && place.to <= view.state.doc.length ? place : null;
      view.dispatch({ effects: setMark.of(fits), ...(fits && { selection: { anchor: fits.from }, scrollIntoView: true }) });
    },
    complete: (schema) => view.dispatch({ effects: language.reconfigure(sql({ dialect: PostgreSQL, upperCaseKeywords: true, schema: namespace(schema) })) }),
    focus: () => view.focus(),
    close: () => view.destroy(),
  };
}

function namespace(schema: Schema): SQLNamespace {
  const found: Record<string, SQLNamespace> = {};
  for (const view of schema.views) {
    const self: Completion = { label: view.name, type: "table", detail: "view" };
    const children: Completion[] = view.columns.map((column) => ({ label: column.name, type: "property", detail: column.type }));
    found[view.name] = { self, children };
  }
  for (const macro of schema.macros) {
    found[macro.name] = { self: { label: macro.name, apply: macro.text, type: "function", detail: macro.what }, children: [] };
  }
  return found;
}
