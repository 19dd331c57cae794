/** The sample that `up` shows, through the decoder. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { expect, it } from 'vitest';
import { SAMPLE_MAPPINGS, samplePath } from '../../cli/sample.ts';
import { decodeMessage, mapped } from '../support/decode.ts';

it('a row of the sample has the time of its station, which names no zone', () => {
  const lines = gunzipSync(readFileSync(samplePath())).toString().split('\n');
  const names = (lines[0] ?? '').split(',');
  const values = (lines[1] ?? '').split(',');
  const row = Object.fromEntries(names.map((name, at) => [name, values[at]]));
  const payload = JSON.stringify({ timestamp: row['timestamp'], P1: Number(row['P1']) });
  const [reading] = decodeMessage(`aberdeen/${row['sensor_id']}/SDS011`, payload, {
    mappings: mapped(SAMPLE_MAPPINGS.text),
    receivedMs: Date.UTC(2026, 10, 26),
  });
  expect(reading).toMatchObject({
    measurement: 'SDS011',
    tags: { sensor_id: row['sensor_id'] },
    timeMs: Date.parse(`${row['timestamp']}Z`),
    fields: { P1: 6.93 },
  });
});
