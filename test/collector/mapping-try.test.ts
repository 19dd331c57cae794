/** `headwater mapping try`: what a file would make of messages, beside what is made of them today, before anything is written. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { mapping } from '../../cli/mapping.ts';
import { temporaryFolder } from '../support/process.ts';

async function said(args: string[]): Promise<string> {
  let text = '';
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  try {
    await mapping(args);
  } finally {
    write.mockRestore();
  }
  return text;
}

const fileOf = (yaml: string): string => {
  const file = join(temporaryFolder(), 'new.yaml');
  writeFileSync(file, yaml);
  return file;
};

describe('headwater mapping try', () => {
  const file = fileOf(
    'mappings: [{topic: "unknown/{device}/up", measurement: tank, types: {level: quantity}, values: {valve: {OPEN: 1, CLOSED: 0}}}]',
  );
  const given = ['--topic', 'unknown/t7/up', '--payload', '{"level":"239 mm","valve":"OPEN"}'];

  it('shows both, and writes nothing', async () => {
    expect(await said(['try', file, ...given])).toBe(
      [
        'unknown/t7/up  {"level":"239 mm","valve":"OPEN"}',
        '  today',
        '    up {topic="unknown/t7/up" gateway="gateway"} level_text="239 mm" valve_text="OPEN" (at receipt)',
        '  with the file',
        '    tank {device="t7" gateway="gateway"} level=239 valve=1 (at receipt)',
        '',
      ].join('\n'),
    );
  });
  it('says what would go to quarantine and what is left out', async () => {
    const other = fileOf(
      'mappings: [{name: mine, topic: "a", points: [{each: "s{n}", is: object, types: {t: number}}]}]',
    );
    const text = await said([
      'try',
      other,
      '--topic',
      'a',
      '--payload',
      '{"s1":{"t":"x","u":2},"b":3}',
    ]);
    expect(text).toMatch(/quarantine, of a part: 't' is to be a number and is 'x'/);
    expect(text).toMatch(/mapping 'mine' leaves out b/);
    expect(await said(['try', other, '--topic', 'a', '--payload', '{"t"'])).toMatch(
      /quarantine: not JSON/,
    );
  });
  it('the same is said once; JSON for programs', async () => {
    expect(await said(['try', file, '--before', file, ...given])).toMatch(
      /today and with the file/,
    );
    const answer = JSON.parse(await said(['try', file, '--json', ...given])) as Record<
      string,
      unknown
    >;
    expect(answer).toMatchObject({
      withFile: { readings: [{ measurement: 'tank', fields: { level: 239 } }] },
    });
  });
  it('a file with an error, and a topic of which nothing is kept, are one sentence', async () => {
    await expect(
      said(['try', fileOf('mappings: [{topic: a, mesure: b}]'), ...given]),
    ).rejects.toThrow(/unknown key 'mesure'/);
    const nowhere = ['--http', '127.0.0.1:1', '--gateway-http', '127.0.0.1:1'];
    await expect(said(['try', file, '--topic', 'x', ...nowhere])).rejects.toThrow(
      /give one with --payload/,
    );
    await expect(said(['try', file])).rejects.toThrow(/--topic TOPIC/);
  });
});
