/** `headwater try`: what a message would become, by the code that decodes, without any server. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tryMessage } from '../../cli/try.ts';
import { temporaryFolder } from '../support/process.ts';
import { said } from '../support/said.ts';

const tried = (...args: string[]): ReturnType<typeof said> => said(() => tryMessage(args));

describe('headwater try', () => {
  it('shows measurement, tags, fields and time', async () => {
    expect(await tried('home/kitchen/climate', '{"temperature":21.5,"window":"open"}')).toEqual({
      code: 0,
      stdout:
        'climate {topic="home/kitchen/climate" gateway="gateway"} temperature=21.5 window_text="open" (at receipt)\n',
    });
    const now = new Date(Math.floor(Date.now() / 1000) * 1000 - 60_000);
    expect((await tried('a/b', `{"ts":${now.getTime() / 1000},"v":1}`)).stdout).toContain(
      `(${now.toISOString()})`,
    );
  });

  it('knows the shipped mappings, those of a file before them, and bytes', async () => {
    const { stdout } = await tried('tele/plug/SENSOR', '{"ENERGY":{"Power":42}}', '--json');
    expect(JSON.parse(stdout)).toMatchObject({
      topic: 'tele/plug/SENSOR',
      readings: [{ measurement: 'tasmota', fields: { Power: 42 } }],
      told: [],
    });
    const folder = temporaryFolder();
    const file = join(folder, 'my.yaml');
    writeFileSync(
      file,
      'mappings:\n  - topic: tank/{device}/up\n    measurement: level\n    types: { level: quantity }\n',
    );
    expect((await tried('tank/t7/up', '{"level":"239 mm"}', '--mappings', file)).stdout).toMatch(
      /^level \{device="t7"[^}]*\} level=239 \(at receipt\)\n$/,
    );
    expect((await tried('a', 'a161 74f94d60', '--hex')).stdout).toContain(' t=21.5 ');
    writeFileSync(join(folder, 'payload'), Buffer.from('a16174f94d60', 'hex'));
    expect((await tried('a', '--payload-file', join(folder, 'payload'))).stdout).toContain(
      ' t=21.5 ',
    );
  });

  it('ends with 1 where a part would go to quarantine, and says why', async () => {
    const { stdout, code } = await tried('a', '{"x":');
    expect(code).toBe(1);
    expect(stdout).toMatch(/^quarantine: not JSON/);
    expect((await tried('a', '')).stdout).toBe('no reading\n');
  });

  it.each([
    [[], /give a topic and a payload/],
    [['a'], /give a topic and a payload/],
    [['a/#', '1'], /cannot be published to/],
    [['a', 'xyz', '--hex'], /hexadecimal/],
    [['a', '1', '--payload-file', '/nosuch'], /not both/],
    [['a', '--payload-file', '/nosuch'], /nosuch/],
    [['a', '1', '--mappings', '/nosuch.yaml'], /nosuch\.yaml/],
  ])('%j is refused in a sentence', async (args, sentence) => {
    await expect(tried(...args)).rejects.toThrow(sentence);
  });
});
