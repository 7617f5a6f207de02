// The filter's grammar, as far as the page must know it: colours, completion, and conditions set by a click.
// The server decides what is right; see `filter` of `POST /api/v1/runs/query`.

export type Kind = "field" | "string" | "number" | "operator" | "join" | "open" | "close" | "comma" | "null" | "other";

export interface Token {
  kind: Kind;
  text: string;
  from: number;
  to: number;
}

const PIECES =
  /\s+|'(?:[^'\\]|\\.|'')*'?|"(?:[^"\\]|\\.)*"?|[<>!]=|[<>=]|[(),]|-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?(?![\w.])|(?:[\p{L}_@][\p{L}\p{N}_./@-]*|`[^`]*`?)(?:\.?(?:`[^`]*`?|[\p{L}\p{N}_./@-]+))*|./gu;
const OPERATORS = new Set(["LIKE", "ILIKE", "RLIKE", "IN", "IS", "NOT"]);

/** The parts of a filter, without spaces. */
export function tokens(text: string): Token[] {
  const found: Token[] = [];
  for (const match of text.matchAll(PIECES)) {
    const piece = match[0];
    if (/^\s/.test(piece)) continue;
    const before = found[found.length - 1];
    found.push({ kind: kindOf(piece, before), text: piece, from: match.index, to: match.index + piece.length });
  }
  return found;
}

function kindOf(piece: string, before: Token | undefined): Kind {
  const first = piece[0]!;
  if (first === "'" || first === '"') return "string";
  if (first === "(") return "open";
  if (first === ")") return "close";
  if (first === ",") return "comma";
  if (/^[<>!=]/.test(piece)) return "operator";
  if (/^-?\d/.test(piece)) return "number";
  const upper = piece.toUpperCase();
  if (upper === "AND" || upper === "OR") return "join";
  if (upper === "NULL") return "null";
  // NOT before a condition is a join; after a field it belongs to the operator.
  if (upper === "NOT" && before?.kind !== "field" && before?.text.toUpperCase() !== "IS") return "join";
  if (OPERATORS.has(upper) && before !== undefined && (before.kind === "field" || before.kind === "operator")) return "operator";
  return /^[\p{L}_`@]/u.test(piece) ? "field" : "other";
}

export interface Caret {
  /** What may come here. */
  expects: "field" | "operator" | "value" | "join";
  /** What is written of it, from `from` to `to`. */
  written: string;
  from: number;
  to: number;
  /** The field that an operator or value belongs to. */
  field: string;
}

/** What may come at a place of a filter. */
export function caretIn(text: string, at: number): Caret {
  const all = tokens(text);
  const under = all.find((token) => token.from < at && at <= token.to && !["open", "comma", "close"].includes(token.kind));
  const isOpen = under !== undefined && (under.kind !== "string" || !isClosed(under.text) || at < under.to);
  const before = all.filter((token) => token.to <= at && !(isOpen && token === under));
  const from = isOpen ? under.from : at;
  const to = isOpen ? under.to : at;
  let expects: Caret["expects"] = "field";
  let field = "";
  let inList = false;
  for (const token of before) {
    if (token.kind === "field") [expects, field] = ["operator", token.text];
    else if (token.kind === "operator") expects = token.text.toUpperCase() === "IN" ? "value" : token.text.toUpperCase() === "NOT" ? "operator" : "value";
    else if (token.kind === "open") {
      inList = expects === "value";
      expects = inList ? "value" : "field";
    } else if (token.kind === "comma") expects = inList ? "value" : "field";
    else if (token.kind === "join") expects = "field";
    else if (token.kind === "close") [inList, expects] = [false, "join"];
    else expects = inList ? "operator" : "join";
  }
  return { expects, written: isOpen ? text.slice(from, at) : "", from, to, field };
}

/** Whether a filter is finished, as far as can be seen: while it is not, asking the server would only be refused. */
export function isWhole(text: string): boolean {
  if (!text.trim()) return true;
  const all = tokens(text);
  const depth = all.reduce((sum, token) => sum + (token.kind === "open" ? 1 : token.kind === "close" ? -1 : 0), 0);
  const last = all[all.length - 1]!;
  const isOpenText = last.kind === "string" && !isClosed(last.text);
  return depth === 0 && !isOpenText && caretIn(`${text} `, text.length + 1).expects === "join";
}

function isClosed(text: string): boolean {
  return text.length > 1 && text.endsWith(text[0]!);
}

/** What values of a field are. */
export type FieldType = "text" | "number" | "integer" | "time" | "boolean";

export interface Suggestion {
  /** What is shown. */
  text: string;
  /** What is written in place of what is there. */
  insert: string;
  hint?: string;
}

const OPERATORS_OF: Record<FieldType, readonly string[]> = {
  text: ["=", "!=", "LIKE", "ILIKE", "IN", "IS NULL", "IS NOT NULL"],
  number: [">", ">=", "<", "<=", "=", "!=", "IS NULL", "IS NOT NULL"],
  integer: [">", ">=", "<", "<=", "=", "!="],
  time: [">", ">=", "<", "<="],
  boolean: ["=", "!="],
};

/** The type of a field by its name, for those that are not attributes. */
export function typeOf(field: string, attributes: ReadonlyMap<string, FieldType>): FieldType {
  if (/^metrics?\./.test(field)) return "number";
  return attributes.get(field) ?? "text";
}

/** Operators that fit a field. */
export function operators(type: FieldType): Suggestion[] {
  return OPERATORS_OF[type].map((text) => ({ text, insert: text === "IN" ? "IN (" : `${text} ` }));
}

/** Names that contain what is written; those that begin with it come first. */
export function matching(names: readonly Suggestion[], written: string, most = 12): Suggestion[] {
  const wanted = written.replace(/[`'"]/g, "").toLowerCase();
  const rank = (text: string): number => {
    const lower = text.toLowerCase();
    if (lower.startsWith(wanted)) return 0;
    const at = lower.indexOf(wanted);
    return at < 0 ? -1 : lower[at - 1] === "." || lower[at - 1] === "_" ? 1 : 2;
  };
  return names
    .map((name, i) => ({ name, i, rank: rank(name.text) }))
    .filter((one) => one.rank >= 0)
    .sort((a, b) => a.rank - b.rank || a.i - b.i)
    .slice(0, most)
    .map((one) => one.name);
}

/** A field as the grammar writes it: keys with other characters stand in backticks. */
export function field(kind: "params" | "metrics" | "tags" | "attributes", key: string): string {
  if (kind === "attributes") return key;
  return `${kind}.${/^[A-Za-z_][\w]*$/.test(key) ? key : `\`${key.replaceAll("`", "")}\``}`;
}

/** The kind and the key of a field's text. */
export function keyOf(text: string): [kind: string, key: string] {
  const [, kind, rest] = /^(params?|parameters?|metrics?|tags?)\.(.+)$/s.exec(text) ?? [];
  if (!kind || !rest) return ["attributes", text];
  return [`${kind.replace(/s$/, "").replace("parameter", "param")}s`, rest.replace(/^`|`$/g, "")];
}

/** A text as the grammar writes it. */
export function quoted(value: string): string {
  return value.includes("'") ? (value.includes('"') ? `'${value.replaceAll("'", "''")}'` : `"${value}"`) : `'${value}'`;
}

function unquoted(text: string): string {
  const inner = text.slice(1, isClosed(text) ? -1 : undefined);
  return text[0] === "'" ? inner.replaceAll("''", "'") : inner;
}

interface Clause {
  from: number;
  to: number;
  parts: Token[];
}

/** The conditions that AND joins at the top; null if OR joins some of them there. */
function clauses(text: string): Clause[] | null {
  const found: Clause[] = [];
  let parts: Token[] = [];
  let depth = 0;
  const close = (): void => {
    const [first, last] = [parts[0], parts[parts.length - 1]];
    if (first && last) found.push({ from: first.from, to: last.to, parts });
    parts = [];
  };
  for (const token of tokens(text)) {
    if (token.kind === "open") depth += 1;
    if (token.kind === "close") depth -= 1;
    if (depth === 0 && token.kind === "join") {
      if (token.text.toUpperCase() === "OR") return null;
      if (token.text.toUpperCase() === "AND") {
        close();
        continue;
      }
    }
    parts.push(token);
  }
  close();
  return found;
}

function valuesIn(clause: Clause, name: string): string[] | null {
  const [first, operator, ...rest] = clause.parts;
  if (first?.kind !== "field" || first.text !== name || !operator) return null;
  const how = operator.text.toUpperCase();
  if (how === "=" && rest.length === 1 && rest[0]!.kind === "string") return [unquoted(rest[0]!.text)];
  if (how === "=" && rest.length === 1) return [rest[0]!.text];
  if (how === "IN" && rest[0]?.kind === "open" && rest[rest.length - 1]?.kind === "close") {
    return rest.filter((token) => token.kind === "string").map((token) => unquoted(token.text));
  }
  return null;
}

/** The values that a filter asks a field to have; empty if it does not restrict it in this simple way. */
export function facetValues(text: string, name: string): string[] {
  return clauses(text)?.map((clause) => valuesIn(clause, name)).find((values) => values !== null) ?? [];
}

/** The filter with a field restricted to some values, or no longer. */
export function withFacet(text: string, name: string, values: readonly string[]): string {
  const condition =
    values.length === 0 ? "" : values.length === 1 ? `${name} = ${quoted(values[0]!)}` : `${name} IN (${values.map(quoted).join(", ")})`;
  const all = clauses(text);
  if (all === null) return condition ? `(${text.trim()}) AND ${condition}` : text;
  const texts = all.map((clause) => (valuesIn(clause, name) === null ? text.slice(clause.from, clause.to) : null));
  const at = texts.indexOf(null);
  if (at < 0) texts.push(condition);
  else texts[at] = condition;
  return texts.filter(Boolean).join(" AND ");
}

/** The filter with one more condition. */
export function withCondition(text: string, condition: string): string {
  if (!text.trim()) return condition;
  return clauses(text) === null ? `(${text.trim()}) AND ${condition}` : `${text.trim()} AND ${condition}`;
}
