/** What `npm run mutants` breaks is still there to be broken; whether it is caught, that command says. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { mutated } from './mutants/apply.ts';
import { MUTANTS, SIMULATION, THINNING } from './mutants/mutants.ts';
import { ROOT } from './support/process.ts';

describe('mutants', () => {
  it.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))('%s', (_, mutant) => {
    expect(mutated(ROOT, mutant)).not.toBe(mutated(ROOT, { ...mutant, put: mutant.find }));
    expect(mutant.tests.length).toBeGreaterThan(0);
    for (const test of mutant.tests)
      if (test !== SIMULATION && test !== THINNING)
        expect(existsSync(join(ROOT, test)), test).toBe(true);
  });

  it('have names of their own', () => {
    expect(new Set(MUTANTS.map(({ name }) => name)).size).toBe(MUTANTS.length);
  });

  it('one whose code has moved says so', () => {
    const [first] = MUTANTS;
    if (first === undefined) throw new Error('there are none');
    expect(() => mutated(ROOT, { ...first, find: 'no such text anywhere' })).toThrow(
      /is 0 times in .*, not once/,
    );
  });
});
