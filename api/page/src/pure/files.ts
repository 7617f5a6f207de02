// How a file can be shown, by its name; and the cells of a CSV file.

const IMAGES: Record<string, string> = { png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", gif: "image/gif", webp: "image/webp", svg: "image/svg+xml", bmp: "image/bmp" };
const TEXTS = new Set(["txt", "log", "md", "py", "yaml", "yml", "toml", "ini", "cfg", "html", "htm", "xml", "sql", "sh", "r", "js", "ts", "css", "diff", "patch", "lock", "mlmodel", "requirements"]);

/** How a file is shown: as text, JSON, a table, an image of a type; null if it is not. */
export function kindOf(path: string): "text" | "json" | "csv" | { image: string } | null {
  const name = path.split("/").pop()!.toLowerCase();
  const ending = name.includes(".") ? name.split(".").pop()! : name;
  if (IMAGES[ending]) return { image: IMAGES[ending] };
  if (ending === "json" || ending === "jsonl" || ending === "ipynb") return "json";
  if (ending === "csv" || ending === "tsv") return "csv";
  return TEXTS.has(ending) ? "text" : null;
}

/** The first rows of a CSV text. */
export function rowsOf(text: string, separator: string, most: number): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  let cell = "";
  let quoted = false;
  for (let i = 0; i < text.length && rows.length < most; i += 1) {
    const c = text[i]!;
    if (quoted) {
      if (c !== '"') cell += c;
      else if (text[i + 1] === '"') [cell, i] = [`${cell}"`, i + 1];
      else quoted = false;
    } else if (c === '"' && cell === "") quoted = true;
    else if (c === separator) {
      row.push(cell);
      cell = "";
    } else if (c === "\n") {
      rows.push([...row, cell.replace(/\r$/, "")]);
      [row, cell] = [[], ""];
    } else cell += c;
  }
  if (rows.length < most && (cell || row.length)) rows.push([...row, cell]);
  return rows;
}
