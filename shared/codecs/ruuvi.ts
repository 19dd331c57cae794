/**
 * RuuviTag's data formats 5 (RAWv2) and 3 (RAWv1), with or without the manufacturer's id 0x0499 before it, as bytes, as
 * hexadecimal text, or inside the JSON of Ruuvi Gateway (`data` is the whole Bluetooth advertisement).
 * A value that the tag marks as not available is left out. Source: Ruuvi's data format specification.
 */
import { Fields, Undecodable, type Decoded, type FieldMeta } from './codec.ts';

const UNITS: Record<string, string> = {
  temperature: '°C',
  humidity: '%',
  pressure: 'Pa',
  acceleration_x: 'g',
  acceleration_y: 'g',
  acceleration_z: 'g',
  voltage: 'V',
  tx_power: 'dBm',
};
const META: ReadonlyMap<string, FieldMeta> = new Map(
  Object.entries(UNITS).map(([name, unit]) => [name, { unit }]),
);

function format5(data: Buffer): Decoded {
  const fields = new Fields();
  const put = (name: string, raw: number, none: number, value: number): void => {
    if (raw !== none) fields.set(name, value);
  };
  const temperature = data.readInt16BE(1);
  put('temperature', temperature, -0x8000, temperature / 200);
  const humidity = data.readUInt16BE(3);
  put('humidity', humidity, 0xffff, humidity / 400);
  const pressure = data.readUInt16BE(5);
  put('pressure', pressure, 0xffff, pressure + 50_000);
  for (const [index, axis] of ['x', 'y', 'z'].entries()) {
    const raw = data.readInt16BE(7 + index * 2);
    put(`acceleration_${axis}`, raw, -0x8000, raw / 1000);
  }
  const power = data.readUInt16BE(13);
  put('voltage', power >> 5, 2047, ((power >> 5) + 1600) / 1000);
  put('tx_power', power & 31, 31, (power & 31) * 2 - 40);
  const movements = data[15] as number; // Its length was checked.
  put('movement_counter', movements, 255, movements);
  const sequence = data.readUInt16BE(16);
  put('measurement_sequence', sequence, 0xffff, sequence);
  const mac = data.toString('hex', 18, 24);
  const decoded: Decoded = { fields, meta: new Map(META) };
  if (mac !== 'ffffffffffff')
    decoded.tags = { mac: (mac.match(/../g) ?? []).join(':').toUpperCase() };
  return decoded;
}

function format3(data: Buffer): Decoded {
  const fields = new Fields();
  const [, humidity = 0, whole = 0, hundredths = 0] = data;
  fields.set('humidity', humidity / 2);
  const degrees = ((whole & 0x7f) * 100 + hundredths) / 100;
  fields.set('temperature', whole & 0x80 ? -degrees : degrees);
  fields.set('pressure', data.readUInt16BE(4) + 50_000);
  for (const [index, axis] of ['x', 'y', 'z'].entries())
    fields.set(`acceleration_${axis}`, data.readInt16BE(6 + index * 2) / 1000);
  fields.set('voltage', data.readUInt16BE(12) / 1000);
  return { fields, meta: new Map(META) };
}

/** The manufacturer data within a Bluetooth advertisement: length, type 0xff, id 0x0499, data. */
function ofAdvertisement(bytes: Buffer): Buffer | undefined {
  for (let at = 0; at + 4 < bytes.length; at += (bytes[at] as number) + 1) {
    const length = bytes[at] as number; // Within the loop's bound.
    if (length === 0) return undefined;
    if (bytes[at + 1] === 0xff && bytes.readUInt16LE(at + 2) === 0x0499)
      return bytes.subarray(at + 4, at + 1 + length);
  }
  return undefined;
}

/** Throws Undecodable. */
export function decodeRuuvi(payload: Buffer): Decoded {
  const text = payload.length <= 128 ? payload.toString('latin1').trim() : '';
  const bytes = /^(?:[0-9A-Fa-f]{2})+$/.test(text) ? Buffer.from(text, 'hex') : payload;
  const [format] = bytes;
  const data =
    format === 5 || format === 3
      ? bytes
      : bytes.length > 2 && bytes.readUInt16LE(0) === 0x0499
        ? bytes.subarray(2)
        : ofAdvertisement(bytes);
  if (data?.[0] === 5 && data.length >= 24) return format5(data);
  if (data?.[0] === 3 && data.length >= 14) return format3(data);
  throw new Undecodable('Ruuvi: neither data format 5 nor 3');
}
