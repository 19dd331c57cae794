/** The hardware of a made-up board, and of a machine that tells nothing. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Board } from '../../gateway/ops/board.ts';
import { temporaryFolder } from '../support/process.ts';

function machine(files: Record<string, string>): string {
  const root = temporaryFolder();
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(root, path, '..'), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

describe('board', () => {
  it('says how long a card lasts at the rate at which it is written, once that has settled', () => {
    let nowS = 50;
    const root = machine({ 'proc/self/io': 'rchar: 9\nwrite_bytes: 5000000\n' });
    const board = new Board(root, 10e12, () => nowS * 1e6);
    expect(board.writtenBytes()).toBe(5_000_000);
    expect(board.cardYears()).toBeNaN();
    nowS += 3600;
    writeFileSync(join(root, 'proc/self/io'), 'rchar: 9\nwrite_bytes: 105000000\n');
    expect(board.writtenPerDay()).toBe(2_400_000_000);
    expect(board.cardYears()).toBeCloseTo(10e12 / (2.4e9 * 365), 6);
    expect(new Board(root, 0, () => nowS * 1e6).cardYears()).toBeNaN();
  });

  it('reads temperatures by zone, and what holds a Raspberry Pi back', () => {
    const board = new Board(
      machine({
        'sys/class/thermal/thermal_zone0/temp': '61234\n',
        'sys/class/thermal/thermal_zone0/type': 'cpu-thermal\n',
        'sys/class/thermal/thermal_zone1/temp': 'not now\n',
        'sys/class/thermal/cooling_device0/type': 'fan\n',
        'sys/devices/platform/soc/soc:firmware/get_throttled': '50005\n',
      }),
      0,
      () => 0,
    );
    expect(board.temperatures()).toEqual([{ labels: { zone: 'cpu-thermal' }, value: 61.234 }]);
    const now = board.troubles().filter(({ value }) => value === 1);
    expect(now.map(({ labels }) => labels['reason'])).toEqual(['under_voltage', 'throttled']);
  });

  it('a machine that tells nothing has nothing wrong', () => {
    const board = new Board(machine({}), 1, () => 1e12);
    expect(board.writtenBytes()).toBeNaN();
    expect(board.temperatures()).toEqual([]);
    expect(board.troubles()).toEqual([]);
  });
});
