/** What the group commit of buffer and log promises, with writes that end when the test says so. */
import { beforeEach, describe, expect, it } from 'vitest';
import { GroupCommit } from '../../shared/kv/group-commit.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A host of letters: `add` lets one wait, `end` ends the write that runs. */
class Letters {
  readonly writes: string[] = [];
  readonly committed: string[] = [];
  readonly failures: [error: string, group: string | undefined][] = [];
  waiting = '';
  end: (error?: Error) => void = () => undefined;
  readonly commits = new GroupCommit<string>({
    take: () => {
      const group = this.waiting;
      this.waiting = '';
      return group === '' ? undefined : group;
    },
    write: (group) => {
      this.writes.push(group);
      return new Promise((resolve, reject) => {
        this.end = (error) => (error === undefined ? resolve() : reject(error));
      });
    },
    committed: (group) => this.committed.push(group),
    failed: (error, group) => this.failures.push([(error as Error).message, group]),
  });

  add(letter: string): void {
    this.waiting += letter;
    this.commits.schedule();
  }
}

let host: Letters;
beforeEach(() => {
  host = new Letters();
  host.commits.resume();
});

describe('group commit', () => {
  it('what comes in one turn is one group, and what comes during its write the next one', async () => {
    for (const letter of 'abc') host.add(letter);
    expect(host.writes).toEqual([]);
    await turn();
    for (const letter of 'de') host.add(letter);
    await turn();
    expect(host.writes).toEqual(['abc']);
    expect(host.committed).toEqual([]);
    expect(host.commits.group).toBe('abc');
    host.end();
    await turn();
    expect(host.committed).toEqual(['abc']);
    expect(host.writes).toEqual(['abc', 'de']);
  });

  it('what must not wait for the turn is written at once', () => {
    host.waiting = 'a';
    host.commits.pump();
    expect(host.writes).toEqual(['a']);
  });

  it('after a failed write nothing is written before the host resumes', async () => {
    host.add('a');
    await turn();
    host.add('b');
    host.end(new Error('EIO'));
    await turn();
    host.add('c');
    host.commits.pump();
    await turn();
    expect(host.failures).toEqual([['EIO', 'a']]);
    expect(host.writes).toEqual(['a']);
    host.commits.resume();
    expect(host.writes).toEqual(['a', 'bc']);
    expect(host.committed).toEqual([]);
  });

  it('the failed group is written again before anything new, as often as that fails', async () => {
    host.add('a');
    await turn();
    host.end(new Error('EIO'));
    await turn();
    host.add('b');
    const first = host.commits.again();
    host.end(new Error('ENOSPC'));
    await expect(first).rejects.toThrow('ENOSPC');
    expect(host.committed).toEqual([]);
    const second = host.commits.again();
    host.end();
    expect(await second).toBe(true);
    expect(host.committed).toEqual(['a']);
    expect(await host.commits.again()).toBe(false);
    expect(host.writes).toEqual(['a', 'a', 'a']);
    host.commits.resume();
    expect(host.writes.at(-1)).toBe('b');
  });

  it('a group that is being written while a write beside it fails is not believed, though it ends well', async () => {
    host.add('a');
    await turn();
    host.commits.doubt(new Error('beside'));
    expect(host.failures).toEqual([]);
    host.end();
    await turn();
    expect(host.committed).toEqual([]);
    expect(host.failures).toEqual([['beside', 'a']]);
  });

  it('a write beside the groups that fails stops them also while none is written, and tells it once', async () => {
    host.commits.doubt(new Error('beside'));
    host.commits.doubt(new Error('again'));
    host.add('a');
    await turn();
    expect(host.failures).toEqual([['beside', undefined]]);
    expect(host.writes).toEqual([]);
  });

  it('is quiet when all that waited is durable', async () => {
    host.add('a');
    await turn();
    host.add('b');
    let quiet = false;
    const end = host.commits.quiet().then(() => {
      quiet = true;
    });
    host.end();
    await turn();
    expect([host.committed, quiet]).toEqual([['a'], false]);
    host.end();
    await end;
    expect(host.committed).toEqual(['a', 'b']);
  });

  it('is quiet when a write fails: whoever closes does not wait for ever', async () => {
    host.add('a');
    const end = host.commits.quiet();
    host.end(new Error('EIO'));
    await end;
    await host.commits.quiet();
    expect(host.committed).toEqual([]);
  });
});
