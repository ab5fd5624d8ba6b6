// The official parser's word on a document: its complaints as JSON, and how many messages it understood. node check.mjs FILE
import { AvroSchemaParser } from "@asyncapi/avro-schema-parser";
import { Parser } from "@asyncapi/parser";
import { readFileSync } from "node:fs";

const parser = new Parser();
parser.registerSchemaParser(AvroSchemaParser());
const { document, diagnostics } = await parser.parse(readFileSync(process.argv[2], "utf-8"));
const told = diagnostics.map(({ severity, code, path, message }) => ({ severity, code, path: path.join("."), message }));
console.log(JSON.stringify({ told, messages: document?.allMessages().all().length ?? 0, operations: document?.operations().all().length ?? 0 }));
