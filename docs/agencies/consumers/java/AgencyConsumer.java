// Keep what an agency is entitled to: a consumer with Apache Kafka's client and Confluent's registry client. Read it as an example; the place
// to store is yours.
//
// Needs org.apache.kafka:kafka-clients, io.confluent:kafka-schema-registry-client, org.apache.avro:avro and org.bouncycastle:bcprov-jdk18on.
// java -cp 'jars/*' AgencyConsumer.java BROKERS REGISTRY TOPIC GROUP
//
// Prints what it holds, one JSON object a line, when nothing has come for five seconds.

import io.confluent.kafka.schemaregistry.avro.AvroSchema;
import io.confluent.kafka.schemaregistry.client.CachedSchemaRegistryClient;
import io.confluent.kafka.schemaregistry.client.SchemaRegistryClient;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.bouncycastle.crypto.digests.Blake2bDigest;

public class AgencyConsumer {
    static final Duration IDLE = Duration.ofSeconds(5);

    record Version(long epoch, long number) implements Comparable<Version> {
        public int compareTo(Version other) {
            return epoch != other.epoch ? Long.compare(epoch, other.epoch) : Long.compare(number, other.number);
        }
    }

    record State(String type, Version version, Long parent, GenericRecord value) {}

    /** Record number: its newest state. Yours: a table, written in one transaction with the numbers below. */
    final Map<Long, State> held = new TreeMap<>();

    /** Record number: the version that ended it. */
    final Map<Long, Version> ended = new HashMap<>();

    final SchemaRegistryClient registry;

    AgencyConsumer(String registryUrl) {
        registry = new CachedSchemaRegistryClient(registryUrl, 100);
    }

    /** One record: a greater version replaces a smaller one, and nothing brings back what has ended. */
    void take(String type, GenericRecord value) {
        boolean service = type.equals("vn.lienthong.Removed") || type.equals("vn.lienthong.Merged");
        GenericRecord meta = service ? value : (GenericRecord) value.get("meta");
        Version version = new Version((Long) meta.get("epoch"), (Long) meta.get("version"));
        Long record = (Long) meta.get("record");
        if (type.equals("vn.lienthong.Merged")) {
            follow((Long) meta.get("from"), record, version);
            return;
        }
        Version known = held.containsKey(record) ? held.get(record).version() : ended.getOrDefault(record, new Version(0, 0));
        int order = version.compareTo(known);
        if (order < 0 || (order == 0 && ended.containsKey(record))) {
            return;
        }
        if (type.equals("vn.lienthong.Removed")) {
            held.remove(record);
            ended.put(record, version);
        } else {
            ended.remove(record);
            held.put(record, new State(type, version, (Long) meta.get("parent"), value));
        }
    }

    /** Two records turned out to be one: what is held of the old one now belongs to the new one. */
    void follow(Long old, Long fresh, Version version) {
        held.remove(old);
        ended.put(old, version);
        held.replaceAll((record, state) -> old.equals(state.parent()) ? new State(state.type(), state.version(), fresh, state.value()) : state);
    }

    /** A changed byte is read by Avro as another value, silently: compare the digest before you store. */
    static void check(ConsumerRecord<String, byte[]> message) {
        Blake2bDigest digest = new Blake2bDigest(64);
        digest.update(message.value(), 0, message.value().length);
        byte[] made = new byte[8];
        digest.doFinal(made, 0);
        if (!Arrays.equals(made, message.headers().lastHeader("lt_digest").value())) {
            System.err.println("damaged at offset " + message.offset() + ": nothing of it was stored; tell the city");
            System.exit(1);
        }
    }

    /** What KafkaAvroDeserializer does: a zero byte, four bytes of schema id, then Avro in the schema with that id. */
    GenericRecord decode(String topic, byte[] framed) throws Exception {
        ByteBuffer buffer = ByteBuffer.wrap(framed);
        if (buffer.get() != 0) {
            throw new IllegalStateException("not a framed record");
        }
        Schema schema = ((AvroSchema) registry.getSchemaBySubjectAndId(topic + "-value", buffer.getInt())).rawSchema();
        var decoder = DecoderFactory.get().binaryDecoder(framed, buffer.position(), buffer.remaining(), null);
        return new GenericDatumReader<GenericRecord>(schema).read(null, decoder);
    }

    void read(String brokers, String topic, String group) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", brokers);
        settings.put("group.id", group);
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", "false");
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            for (long heard = System.nanoTime(); System.nanoTime() - heard < IDLE.toNanos(); ) {
                for (ConsumerRecord<String, byte[]> message : consumer.poll(Duration.ofSeconds(1))) {
                    heard = System.nanoTime();
                    if (message.value() != null && !"probe".equals(message.key())) {
                        check(message);
                        take(new String(message.headers().lastHeader("ce_type").value()), decode(topic, message.value()));
                    }
                }
                consumer.commitSync(); // only what has been stored
            }
        }
    }

    void print() {
        held.forEach((record, state) -> System.out.println(
            "{\"record\": " + record + ", \"type\": \"" + state.type() + "\", \"version\": [" + state.version().epoch() + ", "
                + state.version().number() + "], \"parent\": " + state.parent() + ", \"value\": " + GenericData.get().toString(state.value()) + "}"));
    }

    public static void main(String[] given) throws Exception {
        System.setOut(new java.io.PrintStream(System.out, true, "UTF-8"));
        AgencyConsumer agency = new AgencyConsumer(given[1]);
        agency.read(given[0], given[2], given[3]);
        agency.print();
    }
}
