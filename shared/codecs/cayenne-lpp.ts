/**
 * Cayenne Low Power Payload: channel (1 byte), type (1), value by type, big endian. A field is the type's name with
 * the channel: `temperature_3`. Source: myDevices' Cayenne LPP 1.2, with the types that ElectronicCats' and TTN's
 * libraries added; type numbers are those of IPSO objects less 3200.
 */
import { Fields, Undecodable, type Decoded, type FieldMeta } from './codec.ts';

interface Value {
  /** Appended to the type's name; '' for a single value. */
  suffix: string;
  bytes: 1 | 2 | 3 | 4;
  signed: boolean;
  /** Raw units in one: a division, so that 272 / 10 is 27.2. */
  perUnit: number;
}

interface Type {
  name: string;
  unit?: string;
  values: Value[];
}

const one = (bytes: Value['bytes'], perUnit = 1, signed = false): Value[] => [
  { suffix: '', bytes, signed, perUnit },
];
const axes = (perUnit: number): Value[] =>
  ['_x', '_y', '_z'].map((suffix) => ({ suffix, bytes: 2, signed: true, perUnit }));

const TYPES = new Map<number, Type>([
  [0, { name: 'digital_in', values: one(1) }],
  [1, { name: 'digital_out', values: one(1) }],
  [2, { name: 'analog_in', values: one(2, 100, true) }],
  [3, { name: 'analog_out', values: one(2, 100, true) }],
  [100, { name: 'generic', values: one(4) }],
  [101, { name: 'luminosity', unit: 'lx', values: one(2) }],
  [102, { name: 'presence', values: one(1) }],
  [103, { name: 'temperature', unit: '°C', values: one(2, 10, true) }],
  [104, { name: 'humidity', unit: '%', values: one(1, 2) }],
  [113, { name: 'accelerometer', unit: 'g', values: axes(1000) }],
  [115, { name: 'barometer', unit: 'hPa', values: one(2, 10) }],
  [116, { name: 'voltage', unit: 'V', values: one(2, 100) }],
  [117, { name: 'current', unit: 'A', values: one(2, 1000) }],
  [118, { name: 'frequency', unit: 'Hz', values: one(4) }],
  [120, { name: 'percentage', unit: '%', values: one(1) }],
  [121, { name: 'altitude', unit: 'm', values: one(2, 1, true) }],
  [125, { name: 'concentration', unit: 'ppm', values: one(2) }],
  [128, { name: 'power', unit: 'W', values: one(2) }],
  [130, { name: 'distance', unit: 'm', values: one(4, 1000) }],
  [131, { name: 'energy', unit: 'kWh', values: one(4, 1000) }],
  [132, { name: 'direction', unit: '°', values: one(2) }],
  [133, { name: 'time', unit: 's', values: one(4) }],
  [134, { name: 'gyrometer', unit: '°/s', values: axes(100) }],
  [
    135,
    {
      name: 'colour',
      values: ['_r', '_g', '_b'].map((suffix) => ({ suffix, bytes: 1, signed: false, perUnit: 1 })),
    },
  ],
  [
    136,
    {
      name: 'gps',
      values: [
        { suffix: '_latitude', bytes: 3, signed: true, perUnit: 10_000 },
        { suffix: '_longitude', bytes: 3, signed: true, perUnit: 10_000 },
        { suffix: '_altitude', bytes: 3, signed: true, perUnit: 100 },
      ],
    },
  ],
  [142, { name: 'switch', values: one(1) }],
]);

/** Throws Undecodable. */
export function decodeCayenneLpp(payload: Buffer): Decoded {
  const fields = new Fields();
  const meta = new Map<string, FieldMeta>();
  for (let at = 0; at < payload.length; ) {
    const channel = payload[at++] as number; // Within the loop's bound.
    const number = payload[at++];
    const type = number === undefined ? undefined : TYPES.get(number);
    if (type === undefined)
      throw new Undecodable(
        `Cayenne LPP: type ${number ?? 'missing'} at byte ${at - 1} is not known`,
      );
    for (const { suffix, bytes, signed, perUnit } of type.values) {
      if (at + bytes > payload.length)
        throw new Undecodable(`Cayenne LPP: the payload ends within ${type.name}_${channel}`);
      const raw = signed ? payload.readIntBE(at, bytes) : payload.readUIntBE(at, bytes);
      at += bytes;
      const name = `${type.name}_${channel}${suffix}`;
      fields.set(name, raw / perUnit);
      if (type.unit !== undefined) meta.set(name, { unit: type.unit });
    }
  }
  if (fields.size === 0) throw new Undecodable('Cayenne LPP: nothing in it');
  return { fields, meta };
}
