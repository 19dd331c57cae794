/**
 * What broke in practice in brokers and their clients (threads of Mosquitto, EMQX, VerneMQ, NanoMQ, RMQTT, FlashMQ, HiveMQ, TBMQ,
 * BifroMQ, aedes and others), each with the test that holds it here, or why none does. A line is
 *   what broke | FILE: part of the test's title          FILE is below test/, without `.test.ts`
 *   what broke | - why no test holds it
 * A title that is in no such file fails `npm run check`.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const PITFALLS: Record<string, string> = {
  'What this gateway is built on': `
one of several subscription identifiers is lost | gateway/situations5: three subscriptions of one client, three identifiers
the delay of a will leaks into the message | gateway/mqtt5: a will waits for its delay, is called off by a return
timers of sessions and wills die with the process | gateway/mqtt5: QoS 2 in flight and wills come back after kill -9 and a restart
overlapping subscriptions are not at their highest QoS | gateway/mqtt5: the rest is one copy at the highest QoS
a receive maximum of 0 is taken | gateway/properties5: of a wrong value: each has its one reason
packet id 0 is taken | gateway/mqtt5: packet id 0
clean start with a session expiry gets the old queue | gateway/situations5: clean start leaves nothing of a queue on disk
an alias that is resolved in place poisons the stored message | gateway/mqtt5: a topic alias stands for its topic, on its own connection
user properties are grouped by name, a second one of an empty name is lost | gateway/mqtt5: with its properties as they came, in order and doubled
a property that stands there twice is taken | gateway/properties5: of every kind in %s: right, twice, cut short
a byte of 2 counts as true | gateway/properties5: of a wrong value: each has its one reason
a property of another packet, a wrong length, text that is no UTF-8 | gateway/properties5: of every kind in %s: right, twice, cut short
an invalid property ends the connection of the subscriber that it is written to | gateway/properties5: a flood of user properties is passed on as it came
`,
  Clients: `
Home Assistant: discovery from what is retained, availability by will, noLocal, without a session expiry | e2e/home: discovery from what is retained, states, availability by the will of a device
Home Assistant, MQTT.js: a CONNACK with an error ends their reconnecting | gateway/interplay5: who connects too often is closed without a CONNACK
Home Assistant: a Maximum Packet Size above 268,435,455 kills its thread | - \`limits.packetBytesMax\` is at most 2 MiB, and that is what is said
Home Assistant: a copy for each filter without identifiers is heard twice | gateway/mqtt5: the rest is one copy at the highest QoS
Node-RED: a copy with several identifiers matches none of its nodes; what is retained has none | gateway/interplay5: what is retained comes with the identifier of its subscription
Node-RED: a QoS 1 message that ends the connection is sent again for ever | gateway/interplay5: is refused alone where it is acknowledged, so that it is not sent for ever
Node-RED: a flow through a kill of it | e2e/home: a flow over MQTT 5
MQTT.js: does not keep to the receive maximum of the server | gateway/interplay5: more QoS 1 messages at once than the receive maximum are taken
MQTT.js before 5.9: takes the server's Maximum Packet Size as its own, and ends when more comes | - what is delivered may be 15 bytes larger than what was taken (identifier, expiry, alias): only a message of exactly the largest size meets it
paho (Python): sends an alias without its topic after a reconnect | gateway/situations5: aliases end with their connection, both ways
paho (Python): answers a PUBREC that refuses with a PUBREL | gateway/interplay5: is refused alone where it is acknowledged, so that it is not sent for ever
paho (C): does not look at Server Keep Alive | gateway/flow5: is said to who asks for more or for none, and kept
esp-mqtt: one id twice takes each other over for ever | gateway/interplay5: who connects too often is closed without a CONNACK
esp-mqtt: messages in flight that are never acknowledged stop everything | gateway/flow5: one with a receive maximum of 1 that never acknowledges has one message
MQTTnet refuses a Maximum QoS of 2 | gateway/statements5: ids of 1 and 23 characters get a CONNACK 0x00 first
HiveMQ's client ends at an alias above its maximum | gateway/mqtt5: aliases of the server, if the client takes them
OwnTracks uses aliases 1 to 8 without asking | gateway/mqtt5: a topic alias stands for its topic, on its own connection
a PUBACK of 0x10 breaks weak clients | gateway/mqtt5: PUBACK and PUBREC come after the message is stored
a refusal in the form of 3.1.1 breaks the AWS SDK | gateway/mqtt5: CONNECT with %s
an assigned client id does not work in a later CONNECT | gateway/mqtt5: an id that the server gives is said, and works later
bridges: retain as published | gateway/mqtt5: noLocal, retain as published, and the QoS of the subscription
bridges: no session expiry, no regard for the receive maximum | gateway/interplay5: more QoS 1 messages at once than the receive maximum are taken
clients that begin with 3.1.1 (Tasmota, PubSubClient, ESPHome, Telegraf) | e2e/conformance: QoS 1 is answered with its PUBACK, in order
`,
  Sessions: `
the expiry is lost at a restart | gateway/situations5: life times, identifiers and options come back
a session is taken up after its time | gateway/lasting: a clock that is set makes nobody away for longer, nor for less
who was connected at a kill is never away for long enough | gateway/lasting: who was connected when the gateway was killed is away since its start
an expiry in DISCONNECT is above the server's limit, or begins where there was none | gateway/mqtt5: a session expiry at the end of a connection without one
an expiry that is absent counts as one of 0, and 0 ends the session | gateway/situations5: a session expiry that is changed at the end counts
a client that changes its version loses what waits | gateway/interplay5: a client that changes its version keeps its session, both ways
PUBACK before what is queued is on disk | gateway/lasting: subscriptions, queued messages, QoS 2 both ways and wills come back
a damaged or truncated record stops the start | gateway/lasting: a damaged, cut or empty record stops no start
an upgrade loses sessions | - a record may lack what a newer version writes, and has what an older one passes over
a periodic save loses what came since | e2e/mqtt5: 3 kills under load, 40 sessions: nothing acknowledged is lost
restored and not routed before its client is back | gateway/mqtt5: QoS 2 in flight and wills come back after kill -9 and a restart
no caps on what waits | gateway/shares: offline_bytes
a queue that is full of what has expired | gateway/interplay5: a queue that is full of what has expired takes what is new
a burst ends the session of a client that is here | gateway/interplay5: a burst ends no session of who is here and takes it slowly
take-over while a session is resumed | gateway/interplay5: of a session that is being resumed
`,
  Wills: `
a delay longer than the session: never sent | gateway/situations5: a delay longer than the session: sent when the session ends
a delay without a session expiry waits | gateway/situations5: at a take-over: %s
a take-over sends none, or sends one that was to wait | gateway/situations5: at a take-over: %s
a return within the delay does not call it off | gateway/mqtt5: a will waits for its delay, is called off by a return
DISCONNECT 0x04 sends none | gateway/mqtt5: is sent on DISCONNECT 0x04 but not on 0x00
DISCONNECT 0x00 of a client that does not read counts only when its socket is closed | gateway/interplay5: DISCONNECT 0x00 counts at once
`,
  'Expiry of messages': `
lost at a restart; a retained one does not count down | gateway/situations5: life times, identifiers and options come back
a clock that is set lets everything expire, or nothing | gateway/lasting: a message that expires in a minute, on a gateway that boots in 1970
a QoS 2 message expires after its PUBREC | gateway/statements5-flow: QoS 2 that was sent does not expire
`,
  'QoS 2': `
the third PUBLISH of an id ends the connection; DUP gets 0x91 | gateway/mqtt5: a QoS 2 message that comes again under its id is stored once
one with DUP that was never seen is dropped | gateway/statements5-flow: after its PUBACK an id is another message, whatever its DUP
an owed PUBREL is not sent, DUP is 0, ids are new at a resumption | gateway/situations5: QoS 2 outwards, interrupted at each step
an id is used again while it is in use, also after 65,535 | gateway/sessions: 65,535 ids are in use at most
`,
  Flow: `
QoS 0 counts against the receive maximum | gateway/statements5-flow: a client at its receive maximum still gets everything else
the quota is not reset at a resumption | gateway/situations5: who comes back and takes fewer at a time
a receive maximum of 1 stalls | gateway/flow5: one with a receive maximum of 1 that never acknowledges has one message
more QoS 2 than the server takes: not 0x93 | gateway/statements5-flow: more QoS 2 messages than the server takes at a time end the connection
more is retained than may be queued, or than the client has read | gateway/interplay5: all of it comes to a new subscription at QoS %i
`,
  'Packets that are too large': `
a crash, or a header that is not counted | gateway/mqtt5: a message that is larger than the client takes is not sent to it
the head of the queue blocks it | gateway/situations5: retained and queued messages that are larger than the client takes are passed over
a reason string makes a packet too large | gateway/statements5: a reason string is left out where there is no room for it
`,
  Aliases: `
one that is not known with an empty topic; 0 and above the largest | gateway/mqtt5: an alias that is not known
an alias of ours takes the place of all properties | gateway/mqtt5: aliases of the server, if the client takes them
kept over a reconnect | gateway/situations5: aliases end with their connection, both ways
`,
  'Shared subscriptions': `
messages of a member that died are lost | gateway/flow5: 100 shared subscribers of which 10 die
some members get nothing | gateway/flow5: 100 shared subscribers of which 10 die
noLocal is taken | gateway/mqtt5: noLocal on a shared subscription
`,
  Subscriptions: `
retain handling 0 on a resumed session sends nothing | gateway/interplay5: what is retained comes with the identifier of its subscription
what is retained is cut short for good by a restart in the middle of it | e2e/mqtt5: a kill while it is sent to new subscriptions takes nothing from them
what is retained comes again at a take-over | gateway/mqtt5: the newer connection takes the session over
an old identifier or old options stay | gateway/mqtt5: one copy for each identified subscription
a PUBLISH of a client with an identifier is forwarded | gateway/mqtt5: a subscription identifier from a client
a subscriber of 3.1.1 gets RETAIN as published, or properties | gateway/mqtt5: 3.1.1 and 5 hear each other
`,
  Properties: `
lost in the queue of who is away | gateway/situations5: life times, identifiers and options come back
duplicates: the last one wins | gateway/properties5: of every kind in %s: right, twice, cut short
a reason string though problem information is not asked for | gateway/mqtt5: problem information that is not asked for is not given
a payload that says it is UTF-8 and is not | gateway/mqtt5: a payload that says it is UTF-8 and is not, is refused alone
empty ones crash, a flood of user properties overflows the stack | gateway/properties5: a flood of user properties is passed on as it came
AUTH without a method, data without one | gateway/properties5: of every kind in %s: right, twice, cut short
CONNACK without the method | - a CONNECT with a method is refused: 0x8C
`,
  Speed: `
an encoding for each subscriber | - \`npm run bench -- --only-mqtt5\`: a copy that is the same for all is encoded once
a timer for each session, which overflows at 2^31 ms | - deadlines are compared each second; no timer is longer than that
tables of aliases without end | gateway/mqtt5: aliases of the server, if the client takes them
`,
};

export interface Pitfall {
  about: string;
  what: string;
  /** The test; undefined where none holds it. */
  test: { file: string; title: string } | undefined;
  why: string;
}

/** Without statements' numbers, as titles are shown. */
const plain = (source: string): string =>
  source.replaceAll(/\s*\[MQTT-[\d.]+-\d+\](?: to)?/g, '').replaceAll('\\', '');

/** Throws for a test that is not there. */
export function pitfalls(root: string): Pitfall[] {
  const sources = new Map<string, string>();
  const sourceOf = (file: string): string => {
    const path = `test/${file}.test.ts`;
    const known = sources.get(path) ?? plain(readFileSync(join(root, path), 'utf8'));
    sources.set(path, known);
    return known;
  };
  return Object.entries(PITFALLS).flatMap(([about, table]) =>
    table
      .trim()
      .split('\n')
      .map((line): Pitfall => {
        const [what = '', held = ''] = line.split(' | ');
        if (held.startsWith('- ')) return { about, what, test: undefined, why: held.slice(2) };
        const [, file = '', title = ''] = /^(\S+): (.+)$/.exec(held) ?? [];
        if (title === '' || !sourceOf(file).includes(title))
          throw new Error(`test/conformance/pitfalls.ts: there is no such test: ${held}`);
        return { about, what, test: { file, title }, why: '' };
      }),
  );
}
