// What can be queried: the views with their columns, and the macros that show the state at a moment.
import { query } from "../../client/api.ts";

export interface View {
  name: string;
  columns: { name: string; type: string }[];
}

export interface Macro {
  name: string;
  /** As it is written into a query. */
  text: string;
  what: string;
}

export interface Schema {
  views: View[];
  macros: Macro[];
}

const COLUMNS = `SELECT table_name, column_name, data_type FROM information_schema.columns
WHERE table_schema = 'main' ORDER BY table_name, ordinal_position`;

/** Ask the server for its views. */
export async function readViews(signal: AbortSignal): Promise<View[]> {
  const answer = await query<{ rows: [string, string, string][] }>("/api/v1/sql", { statement: COLUMNS }, signal);
  const views = new Map<string, View>();
  for (const [table, name, type] of answer.rows) {
    if (!views.has(table)) views.set(table, { name: table, columns: [] });
    views.get(table)!.columns.push({ name, type });
  }
  return [...views.values()];
}

/** The macros, filled in for the moment of the time bar, or for the present. */
export function macrosAt(moment: string | null, now: Date): Macro[] {
  const offset = /^registry:0:(\d+)$/.exec(moment ?? "")?.[1];
  const time = (moment ?? now.toISOString()).replace(/[^0-9T:.+Z-]/g, "").replace("T", " ").replace(/(\.\d+)?Z$/, "");
  return ["aliases", "stages", "models", "model_versions", "experiments"].map((kind) => {
    const [name, at] = offset ? [`${kind}_at`, offset] : [`${kind}_as_of`, `TIMESTAMP '${time}'`];
    return { name, text: `${name}(${at})`, what: offset ? "at an offset" : "at a time, UTC" };
  });
}
