import assert from "node:assert/strict";
import { test } from "node:test";
import { curl, filled, operations, spans, typeOf, type Document } from "../src/pure/openapi.ts";

const document: Document = {
  info: { title: "Modeltrail", version: "1" },
  paths: {
    "/api/2.0/mlflow/runs/get": { get: { tags: ["mlflow"], summary: "Get" } },
    "/api/v1/models/{model}": {
      put: {
        tags: ["registry"], summary: "Change", description: "Takes `reason`.",
        parameters: [
          { name: "model", in: "path", required: true, schema: { type: "string" } },
          { name: "limit", in: "query", schema: { anyOf: [{ type: "integer" }, { type: "null" }], default: 10 } },
        ],
        requestBody: { content: { "application/json": { schema: { $ref: "#/components/schemas/Change" } } } },
        responses: { 200: { description: "Done.", content: { "application/json": { example: { position: "registry:0:1" } } } }, 422: { description: "no" } },
      },
    },
  },
  components: { schemas: { Change: { required: ["to"], properties: { to: { type: "string", description: "Where." }, tags: { type: "array", items: { type: "string" } } } } } },
};

test("operations are grouped by tag, MLflow's last, with fields and examples", () => {
  const found = operations(document);
  assert.deepEqual([...found.keys()], ["registry", "mlflow"]);
  const [put] = found.get("registry")!;
  assert.equal(put!.parameters[1]!.type, "integer or null");
  assert.equal(put!.parameters[1]!.default, "10");
  assert.deepEqual(put!.body.map((one) => [one.name, one.type, one.required]), [["to", "text", true], ["tags", "list of text", false]]);
  assert.equal(put!.example, '{\n  "to": ""\n}');
  assert.deepEqual(put!.answers.map((one) => one.status), ["200"]);
});

test("a type that contains itself has an end", () => {
  const endless: Document = { ...document, components: { schemas: { A: { type: "array", items: { $ref: "#/components/schemas/A" } } } } };
  assert.match(typeOf(endless, { $ref: "#/components/schemas/A" }), /^list of list of/);
});

test("a request is filled in, and says what is missing", () => {
  const [put] = operations(document).get("registry")!;
  assert.deepEqual(filled(put!, { limit: "5" }), { missing: "model" });
  assert.deepEqual(filled(put!, { model: "a/b c?$&", limit: "" }), { path: "/api/v1/models/a/b%20c%3F%24%26" });
  assert.deepEqual(filled(put!, { model: "m", limit: "5" }), { path: "/api/v1/models/m?limit=5" });
  assert.equal(curl("PUT", "http://h/x", "{\"a\": \"it's\"}", true), "curl -X PUT 'http://h/x' -H \"Authorization: Bearer $MODELTRAIL_TOKEN\" -H 'Content-Type: application/json' -d '{\"a\": \"it'\\''s\"}'");
});

test("code in descriptions", () => assert.deepEqual(spans("a `b` c"), ["a ", "b", " c"]));
