/**
 * A user's own codec: a JavaScript function in the form that LoRaWAN makers publish, run in the sandbox.
 *
 * `decodeUplink({bytes, fPort, recvTime})` → `{data, errors, warnings}` (The Things Stack, ChirpStack v4), or
 * `Decoder(bytes, port)` (The Things Stack v2) or `Decode(fPort, bytes)` (ChirpStack v3), which return the data. The
 * input also has the message's `topic` and MQTT 5 user `properties`. NaN and infinities are left out like null.
 */
import { Undecodable } from '../../../shared/codecs/codec.ts';
import { parseJson } from '../../../shared/codecs/exact-json.ts';
import { isObject, own, type Tree, type TreeObject } from '../../../shared/codecs/tree.ts';
import { HeadwaterError, messageOf } from '../../../shared/errors.ts';
import { Sandbox } from '../../sandbox/sandbox.ts';

/** Of one call, milliseconds of the monotonic clock. */
export const SCRIPT_MS_MAX = 100;
export const SCRIPT_BYTES_MAX = 1024 * 1024;

/** What JSON cannot say is said with these before it. */
const MARK = '\u0000int:';
const NO_NUMBER = '\u0000nan';

/**
 * Calls whichever form the script has. Numbers that are none are marked, since JSON would turn them into null, uncounted;
 * looking for them costs a call for each value, so it is done where there is a null.
 */
const GLUE = `(function () {
  const form = typeof decodeUplink === 'function' ? 'uplink'
    : typeof Decoder === 'function' ? 'ttn2' : typeof Decode === 'function' ? 'chirpstack3' : '';
  BigInt.prototype.toJSON = function () { return '\\u0000int:' + this; };
  const setClock = globalThis.__headwaterClock;
  globalThis.__headwater = function (text) {
    const input = JSON.parse(text);
    setClock(input.recvTime);
    let result;
    if (form === 'uplink') result = decodeUplink({ bytes: input.bytes, fPort: input.fPort, recvTime: new Date(input.recvTime), variables: {}, topic: input.topic, properties: input.properties ?? {} });
    else if (form === 'ttn2') result = { data: Decoder(input.bytes, input.fPort) };
    else result = { data: Decode(input.fPort, input.bytes, {}) };
    if (result === undefined) result = null;
    const said = JSON.stringify(result);
    if (said === undefined || !said.includes('null')) return said;
    return JSON.stringify(result, function (key, value) {
      return typeof value === 'number' && !isFinite(value) ? '\\u0000nan' : value;
    });
  };
  return form;
})()`;

/** A device's own text may look like a mark: what no integer of a script can be is the text that it is. */
const MARKED = new RegExp(`^${MARK}-?\\d{1,400}$`);

/** What came marked, as it was. */
function unmark(value: Tree): Tree {
  if (value === NO_NUMBER) return Number.NaN;
  if (typeof value === 'string')
    return MARKED.test(value) ? BigInt(value.slice(MARK.length)) : value;
  if (Array.isArray(value)) return value.map(unmark);
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, child]) => [key, unmark(child)]));
}

const listText = (value: Tree | undefined): string =>
  (Array.isArray(value) ? value : []).map(String).filter(Boolean).join('; ');

/** What a script may know of the message around the bytes. */
export interface MessageFacts {
  topic: string;
  properties: readonly (readonly [string, string])[];
}

const NO_FACTS: MessageFacts = { topic: '', properties: [] };

export class Script {
  private readonly name: string;
  private readonly sandbox: Sandbox;

  /** `nowMs` is a monotonic clock. Nothing runs before the first call or `check`. */
  constructor(name: string, source: string, nowMs: () => number) {
    this.name = name;
    const needs = 'decodeUplink, Decoder or Decode';
    this.sandbox = new Sandbox({ name, source, glue: GLUE, needs, msMax: SCRIPT_MS_MAX, nowMs });
  }

  /** Throws MAPPING_INVALID for a script that does not load or has no function of a known form. */
  check(): void {
    try {
      this.sandbox.open();
    } catch (error) {
      throw new HeadwaterError('MAPPING_INVALID', `${this.name}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  /** Runs it on one payload. Throws Undecodable, with what the function said. */
  decode(
    bytes: Uint8Array,
    fPort: number,
    receivedMs: number,
    { topic, properties }: MessageFacts = NO_FACTS,
  ): TreeObject | Tree[] {
    const input = {
      bytes: [...bytes],
      fPort,
      recvTime: receivedMs,
      topic,
      ...(properties.length === 0 ? undefined : { properties: Object.fromEntries(properties) }),
    };
    const result = parseJson(this.call(input));
    if (!isObject(result)) throw new Undecodable(`codec ${this.name}: it returned nothing`);
    const data = own(result, 'data');
    const errors = listText(own(result, 'errors'));
    if (data === undefined || data === null || (!isObject(data) && !Array.isArray(data)))
      throw new Undecodable(
        `codec ${this.name}: ${errors === '' ? 'it returned no data' : errors}`,
      );
    return unmark(data) as TreeObject | Tree[];
  }

  private call(input: object): string {
    try {
      return this.sandbox.call(JSON.stringify(input));
    } catch (error) {
      throw new Undecodable(`codec ${this.name}: ${messageOf(error)}`, { cause: error });
    }
  }

  close(): void {
    this.sandbox.close();
  }
}
