import { describe, expect, it } from 'vitest';
import { start } from '../support/process.ts';

describe('npm run bench', () => {
  it('runs beside its peers, and nothing that it counts is missing (as smoke; figures come from the full run)', async () => {
    const child = start(process.execPath, ['--import', 'tsx', 'test/bench/main.ts', '--smoke']);
    expect(await child.exited, child.output().slice(-2000)).toBe(0);
    const result = JSON.parse(child.stdout()) as {
      endToEnd: { messages: number; headwater: { storedLeast: number } };
      backlog: { countedAfterRestart: number };
      processing: { anomalies: { recallOfWindows: number } };
    };
    expect(result.endToEnd.headwater.storedLeast).toBe(result.endToEnd.messages);
    expect(result.backlog.countedAfterRestart).toBe(40_001);
    expect(result.processing.anomalies.recallOfWindows).toBeGreaterThan(0);
  });
});
