/** The processes of a layout, as one machine: started together, killed together. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { start, temporaryFolder, until, type Child } from '../../support/process.ts';
import type { Place, System } from './systems.ts';

const START_MS = 60_000;

export function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
}

export class Edge {
  private children: Child[] = [];
  private readonly system: System;
  private readonly place: Place;
  private readonly conf = temporaryFolder();

  constructor(system: System, place: Place) {
    this.system = system;
    this.place = place;
  }

  /** Resolves when it listens. Rejects with what it said when it does not come so far. */
  async start(): Promise<void> {
    const { files, processes } = this.system.layout(this.place);
    mkdirSync(this.place.folder, { recursive: true });
    for (const [name, text] of Object.entries(files)) writeFileSync(join(this.conf, name), text);
    this.children = [];
    for (const words of processes) {
      const [command = '', ...args] = words.map((word) => word.replace('{conf}', this.conf));
      this.children.push(start(command, args));
      await until(
        'the edge to listen',
        async () => ((await accepts(this.place.port)) ? true : undefined),
        START_MS,
      ).catch((error: unknown) => {
        throw new Error(`it did not start again: ${this.output().slice(-300)}`, { cause: error });
      });
    }
  }

  private output(): string {
    return this.children.map((child) => child.output()).join('\n');
  }

  async kill(): Promise<void> {
    await Promise.all(this.children.map((child) => child.kill('SIGKILL')));
  }
}
