/**
 * MQTT 5 properties as they lie in a frame's record (without their length): what arrived with a message beside its
 * payload. HTTP ingest says its content type and precision in the same form. Source: OASIS MQTT 5.0, 2.2.2 and 3.3.2.3.
 */
import { refuse, readBinary, readString } from './packets.ts';

const CONTENT_TYPE = 0x03;
const USER_PROPERTY = 0x26;

export interface MessageProperties {
  contentType: string | undefined;
  user: [name: string, value: string][];
}

function run(text: string): Buffer {
  const bytes = Buffer.from(text);
  const size = Buffer.alloc(2);
  size.writeUInt16BE(bytes.length);
  return Buffer.concat([size, bytes]);
}

export function encodeProperties({ contentType, user }: MessageProperties): Buffer {
  const parts: Buffer[] = [];
  if (contentType !== undefined) parts.push(Buffer.from([CONTENT_TYPE]), run(contentType));
  for (const [name, value] of user) parts.push(Buffer.from([USER_PROPERTY]), run(name), run(value));
  return Buffer.concat(parts);
}

/** Those that decoding looks at; others are passed over. Throws PACKET_INVALID. */
export function readProperties(bytes: Uint8Array): MessageProperties {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const result: MessageProperties = { contentType: undefined, user: [] };
  for (let at = 0; at < buffer.length; ) {
    const id = buffer[at++];
    switch (id) {
      case 0x01: // payload format indicator
        at += 1;
        break;
      case 0x02: // message expiry interval
        at += 4;
        break;
      case 0x23: // topic alias
        at += 2;
        break;
      case CONTENT_TYPE:
        ({ text: result.contentType, end: at } = readString(buffer, at, 'content type'));
        break;
      case 0x08: // response topic
      case 0x09: // correlation data
        at = readBinary(buffer, at, 'property').end;
        break;
      case USER_PROPERTY: {
        const name = readString(buffer, at, 'user property');
        const value = readString(buffer, name.end, 'user property');
        result.user.push([name.text, value.text]);
        at = value.end;
        break;
      }
      default:
        refuse(`property ${id} is not one of a PUBLISH`);
    }
  }
  return result;
}
