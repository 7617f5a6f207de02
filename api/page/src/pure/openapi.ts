// The API as the server's openapi.json describes it: operations, their fields, and the request that tries one.
import { shellText } from "./copies.ts";

export interface Schema {
  $ref?: string;
  type?: string;
  anyOf?: Schema[];
  enum?: unknown[];
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  description?: string;
  default?: unknown;
  example?: unknown;
  title?: string;
  additionalProperties?: boolean | Schema;
  minimum?: number;
  maximum?: number;
  maxLength?: number;
}

interface Parameter {
  name: string;
  in: "path" | "query" | "header" | "cookie";
  required?: boolean;
  description?: string;
  schema?: Schema;
}

interface Content {
  schema?: Schema;
  example?: unknown;
}

interface RawOperation {
  tags?: string[];
  summary?: string;
  description?: string;
  parameters?: Parameter[];
  requestBody?: { required?: boolean; content?: Record<string, Content> };
  responses?: Record<string, { description?: string; content?: Record<string, Content> }>;
}

export interface Document {
  info: { title: string; version: string; description?: string };
  paths: Record<string, Record<string, RawOperation>>;
  components?: { schemas?: Record<string, Schema> };
}

export interface Field {
  name: string;
  /** As readers write it: "integer", "list of text", "a, b or c". */
  type: string;
  required: boolean;
  description: string;
  default: string | null;
}

export interface Parameters extends Field {
  in: Parameter["in"];
}

export interface Operation {
  method: string;
  path: string;
  tag: string;
  summary: string;
  description: string;
  parameters: Parameters[];
  /** The media type of the body; null: it has none. */
  bodyType: string | null;
  body: Field[];
  /** A body to begin with. */
  example: string;
  answers: { status: string; description: string; example: string | null }[];
}

/** All operations by their tag, in the document's order; those of MLflow last. */
export function operations(document: Document): Map<string, Operation[]> {
  const found = new Map<string, Operation[]>();
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, raw] of Object.entries(methods)) {
      const one = operation(document, method.toUpperCase(), path, raw);
      if (!found.has(one.tag)) found.set(one.tag, []);
      found.get(one.tag)!.push(one);
    }
  }
  const mlflow = found.get("mlflow");
  if (mlflow) {
    found.delete("mlflow");
    found.set("mlflow", mlflow);
  }
  return found;
}

/** The name of an operation in the address. */
export function nameOf({ method, path }: { method: string; path: string }): string {
  return `${method} ${path}`;
}

function operation(document: Document, method: string, path: string, raw: RawOperation): Operation {
  const [bodyType, content] = Object.entries(raw.requestBody?.content ?? {})[0] ?? [null, undefined];
  const schema = resolved(document, content?.schema);
  const example = content?.example ?? schema.example ?? exampleOf(document, schema);
  return {
    method,
    path,
    tag: raw.tags?.[0] ?? "other",
    summary: raw.summary ?? path,
    description: raw.description ?? "",
    parameters: (raw.parameters ?? []).map((one) => ({
      in: one.in, name: one.name, required: one.required ?? false, description: one.description ?? "",
      type: typeOf(document, one.schema), default: defaultOf(one.schema),
    })),
    bodyType,
    body: fields(document, schema),
    example: bodyType === "application/json" ? JSON.stringify(example ?? {}, null, 2) : "",
    answers: Object.entries(raw.responses ?? {}).filter(([status]) => status !== "422").map(([status, answer]) => {
      const shown = Object.values(answer.content ?? {})[0]?.example;
      return {
        status, description: answer.description ?? "",
        example: shown === undefined ? null : typeof shown === "string" ? shown : JSON.stringify(shown, null, 2),
      };
    }),
  };
}

function resolved(document: Document, schema: Schema | undefined): Schema {
  const name = schema?.$ref?.split("/").pop();
  return (name === undefined ? schema : document.components?.schemas?.[name]) ?? {};
}

function fields(document: Document, schema: Schema): Field[] {
  return Object.entries(schema.properties ?? {}).map(([name, one]) => ({
    name,
    type: typeOf(document, one),
    required: schema.required?.includes(name) ?? false,
    description: one.description ?? resolved(document, one).description ?? "",
    default: defaultOf(one),
  }));
}

const WORDS: Record<string, string> = { string: "text", number: "number", integer: "integer", boolean: "true or false", object: "object", null: "null" };

/** The type of a schema in words. */
export function typeOf(document: Document, schema: Schema | undefined, depth = 0): string {
  const one = resolved(document, schema);
  if (depth > 4) return "object";
  if (one.enum) return either(one.enum.map((value) => JSON.stringify(value)));
  if (one.anyOf) return either(one.anyOf.map((inner) => typeOf(document, inner, depth + 1)));
  if (one.type === "array") return `list of ${typeOf(document, one.items, depth + 1)}`;
  return WORDS[one.type ?? ""] ?? "any value";
}

function either(words: string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words[words.length - 1]}`;
}

function defaultOf(schema: Schema | undefined): string | null {
  const value = schema?.default;
  return value === undefined || value === null ? null : JSON.stringify(value);
}

function exampleOf(document: Document, schema: Schema): unknown {
  const made: Record<string, unknown> = {};
  for (const name of schema.required ?? []) {
    const one = resolved(document, schema.properties?.[name]);
    made[name] = one.example ?? one.default ?? { string: "", number: 0, integer: 0, boolean: false, array: [], object: {} }[one.type ?? ""] ?? null;
  }
  return made;
}

/** The path with its parts and query filled in; what is empty is left out. Names the part that is missing. */
export function filled(one: Operation, values: Readonly<Record<string, string>>): { path: string } | { missing: string } {
  let path = one.path;
  const query = new URLSearchParams();
  for (const parameter of one.parameters) {
    const value = values[parameter.name] ?? "";
    if (parameter.in === "path") {
      if (value === "") return { missing: parameter.name };
      const whole = new RegExp(`\\{${parameter.name}(:path)?\\}`);
      path = path.replace(whole, () => encodeURIComponent(value).replaceAll("%2F", "/"));
    } else if (parameter.in === "query" && value !== "") query.append(parameter.name, value);
  }
  const text = query.toString();
  return { path: text ? `${path}?${text}` : path };
}

/** The same request for a shell. */
export function curl(method: string, url: string, body: string | null, auth: boolean): string {
  const words = ["curl", ...(method === "GET" ? [] : ["-X", method]), shellText(url)];
  if (auth) words.push('-H "Authorization: Bearer $MODELTRAIL_TOKEN"');
  if (body !== null) words.push("-H 'Content-Type: application/json'", "-d", shellText(body));
  return words.join(" ");
}

/** Text with `code` in backticks, in turns: text, code, text, … */
export function spans(text: string): string[] {
  return text.split("`");
}
