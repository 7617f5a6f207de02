// The same question in the words of other tools.

/** A text as a shell takes it. */
export function shellText(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** A text as SQL takes it. */
export function sqlText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}

/** A query in Python. */
export function asPython(statement: string, origin: string): string {
  // A JSON string is a Python string, but unreadable in several lines.
  const isRaw = statement.includes("\n") && !/\\|"""|"$/.test(statement);
  const text = isRaw ? `"""\n${statement}\n"""` : JSON.stringify(statement);
  return `from modeltrail.api import query\n\nquery(${text}, url="${origin}").df()`;
}
