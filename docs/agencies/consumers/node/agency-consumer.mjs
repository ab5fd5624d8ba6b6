// Keep what an agency is entitled to: a consumer with stock KafkaJS and its registry client. Read it as an example; the place to store is yours.
//
// npm install && node agency-consumer.mjs BROKERS REGISTRY TOPIC GROUP
//
// Prints what it holds, one JSON object a line, when nothing has come for five seconds.

import { SchemaRegistry } from "@kafkajs/confluent-schema-registry";
import { blake2b } from "@noble/hashes/blake2.js";
import kafkajs from "kafkajs";
import lz4 from "lz4js";

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs;
const IDLE_MILLIS = 5000;
const [brokers, registryUrl, topic, group] = process.argv.slice(2);

// Batches of our topics are compressed with LZ4, which KafkaJS leaves to its users.
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async (encoder) => Buffer.from(lz4.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(lz4.decompress(buffer)),
});

const held = new Map(); // record number: its newest state. Yours: a table, written in one transaction with the numbers below
const ended = new Map(); // record number: the [epoch, version] that ended it

const compare = (one, other) => one[0] - other[0] || one[1] - other[1];

/** One record: a greater [epoch, version] replaces a smaller one, and nothing brings back what has ended. */
function take(type, value) {
  const service = type === "vn.lienthong.Removed" || type === "vn.lienthong.Merged";
  const meta = service ? value : value.meta;
  const version = [meta.epoch, meta.version];
  if (type === "vn.lienthong.Merged") return follow(meta.from, meta.record, version);
  const known = held.get(meta.record)?.version ?? ended.get(meta.record) ?? [0, 0];
  const order = compare(version, known);
  if (order < 0 || (order === 0 && ended.has(meta.record))) return;
  if (type === "vn.lienthong.Removed") {
    held.delete(meta.record);
    ended.set(meta.record, version);
  } else {
    ended.delete(meta.record);
    held.set(meta.record, { type, version, parent: meta.parent, value });
  }
}

/** Two records turned out to be one: what is held of the old one now belongs to the new one. */
function follow(old, fresh, version) {
  held.delete(old);
  ended.set(old, version);
  for (const state of held.values()) if (state.parent === old) state.parent = fresh;
}

/** A changed byte is read by Avro as another value, silently: compare the digest before you store. */
function check(message) {
  const digest = Buffer.from(blake2b(message.value, { dkLen: 8 }));
  if (!digest.equals(message.headers.lt_digest)) stop(`damaged at offset ${message.offset}: nothing of it was stored; tell the city`);
}

function stop(words) {
  console.error(words);
  process.exit(1);
}

const registry = new SchemaRegistry({ host: registryUrl });
const kafka = new Kafka({ clientId: "agency", brokers: brokers.split(","), logLevel: logLevel.NOTHING });
const consumer = kafka.consumer({ groupId: group });
consumer.on("consumer.crash", ({ payload }) => { if (!payload.restart) stop(String(payload.error)); }); // what may pass, KafkaJS tries again

let heard = Date.now();
await consumer.connect();
await consumer.subscribe({ topics: [topic], fromBeginning: true });
consumer.on("consumer.group_join", () => { heard = Date.now(); });
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ partition, message }) => {
    heard = Date.now();
    if (message.value !== null && message.key?.toString() !== "probe") {
      check(message);
      take(message.headers.ce_type.toString(), await registry.decode(message.value));
    }
    await consumer.commitOffsets([{ topic, partition, offset: String(BigInt(message.offset) + 1n) }]); // only what has been stored
  },
});
while (Date.now() - heard < IDLE_MILLIS) await new Promise((resolve) => setTimeout(resolve, 100));
await consumer.disconnect();

for (const [record, state] of [...held].sort(([one], [other]) => one - other)) console.log(JSON.stringify({ record, ...state }));
