/** The simulation at CI's size: many seeds, every control, and a seed that replays bit for bit. */
import { describe, expect, it } from 'vitest';
import { start } from '../support/process.ts';

async function sim(...args: string[]): Promise<{ code: number; output: string }> {
  const child = start(process.execPath, ['--import', 'tsx', 'test/sim/main.ts', ...args]);
  return { code: await child.exited, output: child.output() };
}

describe('simulation', () => {
  it(
    '2,000 seeds of crashes, cuts, faults and clock steps break no law',
    { timeout: 600_000 },
    async () => {
      const halves = await Promise.all([
        sim('--seeds', '1000', '--from', '1'),
        sim('--seeds', '1000', '--from', '1001'),
      ]);
      for (const { code, output } of halves) {
        expect(code, output).toBe(0);
        expect(output).toMatch(/0 of 1000 seeds broke a law/);
        for (const fault of [
          'gateway power cut',
          'collector killed',
          'failing writes',
          'full disk',
          'bit flip',
        ])
          expect(output).toMatch(new RegExp(`${fault} [1-9]\\d+`));
      }
    },
  );

  it('a seed replays bit for bit', { timeout: 60_000 }, async () => {
    const [first, again] = [
      await sim('--seeds', '1', '--from', '77'),
      await sim('--seeds', '1', '--from', '77'),
    ];
    const trace = /trace ([0-9a-f]{8})/.exec(first.output)?.[1];
    expect(trace).toBeDefined();
    expect(again.output).toContain(`trace ${trace}`);
  });

  it.each(['early-ack', 'no-sync', 'no-dedupe', 'lying-log', 'no-anchor'])(
    'control: %s is found out',
    { timeout: 120_000 },
    async (control) => {
      const { code, output } = await sim('--seeds', '120', '--control', control);
      expect(code, output).toBe(1);
      expect(output).toMatch(/[1-9]\d* of 120 seeds broke a law/);
    },
  );
});
