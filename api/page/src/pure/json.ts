// JSON as lines of coloured parts, to be shown as text.

export interface Part {
  /** A class of code: key, string, number; empty for what is between. */
  kind: "k" | "str" | "nu" | "";
  text: string;
}

/** A value as indented JSON, in lines, each in parts. */
export function lines(value: unknown): Part[][] {
  return JSON.stringify(value, null, 2).split("\n").map(parts);
}

function parts(line: string): Part[] {
  const found: Part[] = [];
  const pattern = /("(?:[^"\\]|\\.)*")(\s*:)?|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)/g;
  let last = 0;
  for (const match of line.matchAll(pattern)) {
    if (match.index > last) found.push({ kind: "", text: line.slice(last, match.index) });
    const [whole, text, colon] = match;
    if (text === undefined) found.push({ kind: "nu", text: whole });
    else {
      found.push({ kind: colon ? "k" : "str", text });
      if (colon) found.push({ kind: "", text: colon });
    }
    last = match.index + whole.length;
  }
  if (last < line.length) found.push({ kind: "", text: line.slice(last) });
  return found;
}
