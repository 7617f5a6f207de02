// A long list some of whose rows are opened, with lines of their own below them.

export interface Opened<Row> {
  /** The row of the list. */
  index: number;
  /** What stands below it. */
  lines: readonly Line<Row>[];
}

export interface Line<Row> {
  row: Row;
  depth: number;
}

/** The number of lines of a list of `count` rows. */
export function lineCount<Row>(count: number, opened: readonly Opened<Row>[]): number {
  return opened.reduce((sum, one) => sum + one.lines.length, count);
}

/** What stands on a line: a row of the list, by its index, or a line below an opened one. `opened` is sorted. */
export function lineAt<Row>(line: number, opened: readonly Opened<Row>[]): number | Line<Row> {
  let above = 0;
  for (const { index, lines } of opened) {
    if (line <= index + above) break;
    const below = line - above - index - 1;
    if (below < lines.length) return lines[below]!;
    above += lines.length;
  }
  return line - above;
}

/** The rows of the list that a span of lines shows. */
export function rowsIn<Row>(from: number, to: number, opened: readonly Opened<Row>[]): { from: number; to: number } {
  const rowOf = (line: number): number => {
    for (let i = line; i >= 0; i -= 1) {
      const found = lineAt(i, opened);
      if (typeof found === "number") return found;
    }
    return 0;
  };
  return { from: rowOf(from), to: to > from ? rowOf(to - 1) + 1 : rowOf(from) };
}
