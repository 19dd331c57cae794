/** A PUBLISH of 3.1.1 where it lies. */
import { refuse } from './packets.ts';
import type { IncomingPublish } from './protocol.ts';
import type { RawPacket } from './scanner.ts';
import type { TopicNames } from './topic-names.ts';

/** The payload is a view. Throws PACKET_INVALID. */
export function readPublish(packet: RawPacket, topics: TopicNames): IncomingPublish {
  const { source, bodyStart, end, flags } = packet;
  const qos = (flags >> 1) & 3;
  const dup = (flags & 8) !== 0;
  if (qos === 3) refuse('QoS 3 does not exist'); // [MQTT-3.3.1-4]
  if (dup && qos === 0) refuse('DUP is set on QoS 0'); // [MQTT-3.3.1-2]
  if (bodyStart + 2 > end) refuse('packet ends within topic');
  const topicEnd = bodyStart + 2 + source.readUInt16BE(bodyStart);
  let offset = topicEnd;
  let packetId = 0;
  if (qos > 0) {
    if (offset + 2 > end) refuse('packet ends within packet id');
    packetId = source.readUInt16BE(offset);
    if (packetId === 0) refuse('packet id is 0'); // [MQTT-2.3.1-1]
    offset += 2;
  } else if (offset > end) refuse('packet ends within topic');
  return {
    topic: topics.at(source, bodyStart, topicEnd),
    qos,
    retain: (flags & 1) !== 0,
    dup,
    packetId,
    payload: source.subarray(offset, end),
  };
}
