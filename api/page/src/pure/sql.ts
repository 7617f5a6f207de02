// A query beside its answer: where its error is, and how to ask it without the page.
import { shellText } from "./copies.ts";

export interface Span {
  from: number;
  to: number;
}

/** Where in a statement the error is that DuckDB's message tells of; null if it does not say. */
export function errorPlace(statement: string, message: string): Span | null {
  const shown = /^LINE (\d+): (.*)\n( *)\^/m.exec(message);
  if (shown) {
    const [, line, excerpt, spaces] = shown as unknown as [string, string, string, string];
    const lines = statement.split("\n");
    const number = Number(line) - 1;
    const start = lines.slice(0, number).reduce((sum, text) => sum + text.length + 1, 0);
    const text = lines[number] ?? "";
    // A long line is shown in part, with dots where it was cut.
    const part = excerpt.replace(/^\.\.\./, "").replace(/\.\.\.$/, "");
    const cut = excerpt.startsWith("...") ? 3 : 0;
    const column = Math.max(0, text.indexOf(part)) + spaces.length - `LINE ${line}: `.length - cut;
    if (column < 0 || column > text.length) return null;
    return { from: start + column, to: start + column + wordLength(text.slice(column)) };
  }
  const name = /"([^"]+)" not found|(?:with name|named) "?([\w.]+)"? does not exist|near "([^"]+)"/.exec(message);
  const wanted = name?.[1] ?? name?.[2] ?? name?.[3];
  if (!wanted) return null;
  const escaped = wanted.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const found = new RegExp(`(?<![\\w])${escaped}(?![\\w])`, "i").exec(statement);
  return found && { from: found.index, to: found.index + wanted.length };
}

function wordLength(text: string): number {
  return Math.max(1, /^\w+/.exec(text)?.[0].length ?? 1);
}

/** What a message says, without the excerpt of the statement that the editor marks instead. */
export function errorText(message: string): string {
  return message.replace(/\n\nLINE \d+: [\s\S]*$/, "").trim();
}

/** The line of a place, from 1 on, and the column. */
export function lineOf(statement: string, at: number): { line: number; column: number } {
  const before = statement.slice(0, at).split("\n");
  return { line: before.length, column: before[before.length - 1]!.length + 1 };
}

/** The first words of a query, as its title. */
export function titleOf(statement: string): string {
  const comment = /^\s*--\s*(.+)$/m.exec(statement);
  const first = comment && statement.trimStart().startsWith("--") ? comment[1]! : statement.trim().replace(/\s+/g, " ");
  return first.length > 60 ? `${first.slice(0, 59)}…` : first;
}

/** The command for a shell that asks the same of the same server. */
export function asCommand(statement: string, origin: string): string {
  return `modeltrail sql --server ${origin} ${shellText(statement)}`;
}

/** The same with curl. With --auth it needs a token. */
export function asCurl(statement: string, origin: string, auth: boolean): string {
  const token = auth ? ' -H "Authorization: Bearer $MODELTRAIL_TOKEN"' : "";
  const body = JSON.stringify({ statement });
  return `curl ${origin}/api/v1/sql${token} -H 'Content-Type: application/json' -d ${shellText(body)}`;
}
