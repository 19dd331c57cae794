/** For adapters that break one law on purpose: the case that states the law fails for them, and holds for a sound one. */
import { expect } from 'vitest';

interface Named {
  name: string;
}

/**
 * `part` is of one case's name alone. `run` runs a case on an adapter; `others`: all other cases hold for the broken one,
 * so that the case is the one that finds it.
 */
export async function failsTheCase<Case extends Named, Adapter>(
  cases: readonly Case[],
  part: string,
  adapters: { broken: Adapter; sound: Adapter },
  run: (adapter: Adapter, each: Case) => Promise<void>,
  others: 'may fail too' | 'all hold' = 'may fail too',
): Promise<void> {
  const [named, ...more] = cases.filter(({ name }) => name.includes(part));
  expect(more).toEqual([]);
  if (named === undefined) throw new Error(`no case is called '${part}'`);
  await expect(run(adapters.broken, named)).rejects.toThrow();
  await run(adapters.sound, named);
  if (others === 'may fail too') return;
  for (const each of cases) if (each !== named) await run(adapters.broken, each);
}
