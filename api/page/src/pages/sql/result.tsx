// The rows of a result.
import type { JSX } from "preact";
import { useMemo } from "preact/hooks";
import { match } from "../../frame/routes.ts";
import { Table as Grid, type Column as GridColumn } from "../../parts/table.tsx";
import { Text } from "../../parts/values.tsx";
import { scaleOf, type Table } from "../../pure/chart.ts";
import * as format from "../../pure/format.ts";
import { linkTo } from "../../state/location.ts";

const SAMPLE = 200;
const CHARACTERS_MAX = 44;
const CHARACTER_PX = 7.5;
const SPACE_PX = 18;

interface Column {
  name: string;
  type: string;
  isNumber: boolean;
  decimals: number | null;
}
type Row = readonly unknown[];

export function Rows({ table, question }: { table: Table; question: string }): JSX.Element {
  const columns = useMemo(() => table.columns.map((_, at) => gridColumn(table, at)), [table]);
  const keys = useMemo(() => new Map(table.rows.map((row, at) => [row, String(at)])), [table]);
  return (
    <Grid<Row>
      label="Result" columns={columns} count={table.rows.length} at={(index) => table.rows[index] ?? null}
      keyOf={(row) => keys.get(row)!} question={question} layout={null}
    />
  );
}

function gridColumn(table: Table, at: number): GridColumn<Row> {
  const [name, type] = [table.columns[at]!, table.types[at] ?? ""];
  const isNumber = scaleOf(type) === "number";
  const sample = table.rows.slice(0, SAMPLE).map((row) => row[at]);
  const numbers = isNumber ? sample.filter((value) => value !== null).map((value) => format.asNumber(value as format.Value)) : [];
  const column: Column = { name, type, isNumber, decimals: isNumber ? format.places(numbers) : null };
  const under = type.startsWith("TIMESTAMP") ? "TIMESTAMP, UTC" : type;
  const longest = sample.reduce<number>((most, value) => Math.max(most, shown(value, column).length), Math.max(name.length, Math.min(under.length, 16)));
  return {
    id: String(at),
    name: `${name} ${type}`,
    title: <><bdi class="cut name">{name}</bdi><span class="under cut">{under}</span></>,
    numeric: isNumber,
    width: Math.ceil(Math.min(longest, CHARACTERS_MAX) * CHARACTER_PX) + SPACE_PX + (at === 0 ? 12 : 0),
    cell: (row) => <Cell value={row[at]} column={column} />,
  };
}

function Cell({ value, column }: { value: unknown; column: Column }): JSX.Element {
  const text = shown(value, column);
  if (value === null || value === undefined) return <span class="q">NULL</span>;
  if (column.isNumber) return <span title={String(value)}>{text}</span>;
  const path = pathOf(column.name, text);
  if (path) return <a class={column.name === "run_id" ? "mono cut" : "cut"} href={linkTo(path)}><Text title={text}>{text}</Text></a>;
  if (column.type.startsWith("TIMESTAMP")) return <time dateTime={String(value)} title={String(value)}>{text}</time>;
  return text.length > 30 ? <Text title={text}>{text}</Text> : <Text>{text}</Text>;
}

/** The page that a value names; null if there is none. */
function pathOf(column: string, text: string): string | null {
  const kind = column === "run_id" ? "runs" : column === "model" ? "models" : null;
  const path = kind && `/${kind}/${encodeURIComponent(text)}`;
  return path && match(path) ? path : null;
}

function shown(value: unknown, column: Column): string {
  if (value === null || value === undefined) return "NULL";
  if (column.isNumber) {
    const number = format.asNumber(value as format.Value);
    if (/^(DOUBLE|FLOAT)/.test(column.type)) return format.inColumn(number, column.decimals);
    return Number.isSafeInteger(number) ? format.count(number) : String(value);
  }
  if (column.type.startsWith("TIMESTAMP")) return String(value).replace("T", " ").replace(/(\.\d+)?Z$/, "");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
