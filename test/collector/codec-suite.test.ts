/** Our codecs pass the suite of the Codec contract, and codecs that break one law fail the case that states it. */
import { describe, it } from 'vitest';
import type { Codec, CodecExample, CodecGives, CodecValue } from '../../contracts/codec.ts';
import { AdapterError } from '../../contracts/errors.ts';
import { CODEC_CASES, runCodecCase, type CodecUnderTest } from '../../contracts/suite/codec.ts';
import { CODECS } from '../../collector/decode/codecs/table.ts';
import { failsTheCase } from '../support/broken.ts';
import { ownCodec } from '../support/own-codecs.ts';

const text = (payload: string, gives: CodecGives): CodecExample => ({
  payload: Buffer.from(payload),
  gives,
});
const hex = (payload: string, gives: CodecGives): CodecExample => ({
  payload: Buffer.from(payload.replaceAll(' ', ''), 'hex'),
  gives,
});

const EXAMPLES: Record<string, CodecExample[]> = {
  json: [
    text('{"t":21.5,"ok":true,"list":[1,"two",null],"id":9007199254740993}', {
      document: { t: 21.5, ok: true, list: [1, 'two', null], id: 9_007_199_254_740_993n },
    }),
  ],
  'line-protocol': [
    text('weather,site=a temperature=21.5,rain=f 1767225600000000000\n', {
      points: [
        {
          measurement: 'weather',
          tags: { site: 'a' },
          fields: { temperature: 21.5, rain_bool: false },
          timeMs: Date.UTC(2026, 0, 1),
        },
      ],
    }),
  ],
  text: [text('door open', { document: 'door open' })],
  ndjson: [text('{"a":1}\n{"a":2}\n', { document: [{ a: 1 }, { a: 2 }] })],
  csv: [
    text('name,value\nx,1\ny,2\n', {
      document: [
        { name: 'x', value: 1 },
        { name: 'y', value: 2 },
      ],
    }),
  ],
  'key-value': [text('a=1 b=two', { document: { a: 1, b: 'two' } })],
  'query-string': [text('a=1&b=two%20words', { document: { a: 1, b: 'two words' } })],
  cbor: [hex('a2 61 61 01 61 62 f5', { document: { a: 1, b: true } })],
  msgpack: [hex('82 a1 61 01 a1 62 c3', { document: { a: 1, b: true } })],
  'cbor-seq': [hex('a1617401a1617402', { document: [{ t: 1 }, { t: 2 }] })],
  senml: [
    text('[{"bn":"dev/","n":"t","u":"Cel","v":21.5}]', {
      points: [{ tags: { name: 'dev/t', unit: 'Cel' }, fields: { value: 21.5 } }],
    }),
  ],
  'cayenne-lpp': [
    hex('03 67 01 10 05 67 00 ff', {
      points: [{ fields: { temperature_3: 27.2, temperature_5: 25.5 } }],
    }),
  ],
  // The format's own first test vector.
  ruuvi: [
    hex('05 12FC 5394 C37C 0004 FFFC 040C AC36 42 00CD CBB8334C884F', {
      points: [
        {
          tags: { mac: 'CB:B8:33:4C:88:4F' },
          fields: {
            temperature: 24.3,
            humidity: 53.49,
            pressure: 100_044,
            acceleration_x: 0.004,
            acceleration_y: -0.004,
            acceleration_z: 1.036,
            voltage: 2.977,
            tx_power: 4,
            movement_counter: 66,
            measurement_sequence: 205,
          },
        },
      ],
    }),
  ],
  bytes: [hex('00 ff', { document: Buffer.from([0, 255]) })],
};

const OWN = CODECS.filter(({ parse }) => parse !== undefined);

describe.each(OWN.map((row) => [row.name, row] as const))('%s', (name, row) => {
  it.each(CODEC_CASES.map((each) => [each.name, each] as const))('%s', async (_, each) => {
    const examples = EXAMPLES[name];
    if (examples === undefined) throw new Error(`codec ${name} has no example here`);
    const tested = ownCodec(row, examples);
    if (each.skip?.(tested.supports, { canCrash: false }) === undefined)
      await runCodecCase(tested, each);
  });
});

/** Lines of `NAME=NUMBER`, in which every law is kept. */
class Sound implements Codec {
  readonly examples: readonly CodecExample[] = [
    text('t=21.5\nh=40', { document: { t: 21.5, h: 40 } }),
    text('x=1', { document: { x: 1 } }),
  ];

  parse(payload: Uint8Array): CodecGives {
    const lines = Buffer.from(payload).toString('latin1').split('\n');
    return { document: Object.fromEntries(lines.map((line) => this.pair(line))) };
  }

  protected pair(line: string): [string, number] {
    const at = line.indexOf('=');
    const value = Number(line.slice(at + 1));
    if (at < 1 || line.length === at + 1 || !Number.isFinite(value))
      throw new AdapterError('RECORD_REFUSED', `'${line.slice(0, 20)}' is not NAME=NUMBER`);
    return [line.slice(0, at), value];
  }
}

class ExampleIsWrong extends Sound {
  override readonly examples = [text('t=21.5', { document: { t: 21 } })];
}

class GivesItsOwnClass extends Sound {
  override readonly examples = [text('t=21.5', this.parse(Buffer.from('t=21.5')))];
  override parse(payload: Uint8Array): CodecGives {
    super.parse(payload);
    return { document: { t: new URL('quantity:t') as unknown as CodecValue } };
  }
}

/** What came before is in the next answer, once something was refused. */
class Remembers extends Sound {
  private refused = 0;
  override parse(payload: Uint8Array): CodecGives {
    try {
      const gives = super.parse(payload);
      return this.refused === 0 ? gives : { document: { refused: this.refused } };
    } catch (error) {
      this.refused++;
      throw error;
    }
  }
}

class WritesIntoIt extends Sound {
  override parse(payload: Uint8Array): CodecGives {
    const gives = super.parse(payload);
    payload[0] = 0x20;
    return gives;
  }
}

/** Its first example ends with its last `=`. */
class CutOffIsATypeError extends Sound {
  override parse(payload: Uint8Array): CodecGives {
    const isCut = payload.length === 9 && payload[8] === 0x3d;
    if (isCut) throw new TypeError('payload[9] is undefined');
    return super.parse(payload);
  }
}

/** A wrong bit makes a name that no device has. */
class WrongNameIsATypeError extends Sound {
  protected override pair(line: string): [string, number] {
    if (/^[su]=21/.test(line)) throw new TypeError(`no such quantity: ${line[0]}`);
    return super.pair(line);
  }
}

class NoiseIsARangeError extends Sound {
  override parse(payload: Uint8Array): CodecGives {
    const isLong = payload.length > 100 && payload.length < 1000;
    if (isLong) throw new RangeError('offset is out of bounds');
    return super.parse(payload);
  }
}

class Recurses extends Sound {
  override parse(payload: Uint8Array): CodecGives {
    const depth = (at: number): number => (payload[at] === 0x3d ? 1 + depth(at + 1) : 0);
    depth(0);
    return super.parse(payload);
  }
}

it.each([
  ['an example that is not so', ExampleIsWrong, 'every example gives what it says'],
  ['a class of its own', GivesItsOwnClass, 'a document holds values'],
  ['a codec that remembers', Remembers, 'the same bytes give the same'],
  ['a codec that writes into the payload', WritesIntoIt, 'the payload stays as it was'],
  ['a cut that is another error', CutOffIsATypeError, 'a payload that is cut off anywhere'],
  ['a bit that is another error', WrongNameIsATypeError, 'a payload with a wrong bit'],
  ['noise that is another error', NoiseIsARangeError, 'noise is decoded or refused'],
  ['a nesting that ends the stack', Recurses, 'one byte a hundred thousand times'],
])('%s fails the case that says so, and no other', async (_, Broken, part) => {
  const tested = (Tested: typeof Sound): CodecUnderTest => ({
    supports: { gives: 'document' },
    create: () => new Tested(),
  });
  const cases = CODEC_CASES.filter(
    ({ skip }) => skip?.({ gives: 'document' }, { canCrash: false }) === undefined,
  );
  await failsTheCase(
    cases,
    part,
    { broken: tested(Broken), sound: tested(Sound) },
    runCodecCase,
    'all hold',
  );
});
