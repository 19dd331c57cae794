/** The attacker, a process of its own, of lower priority: what it costs is not to be taken for what the attacked one costs. */
import { setMaxListeners } from 'node:events';
import { constants, setPriority } from 'node:os';
import { HTTP_ATTACKS } from './attacks-http.ts';
import { MQTT_ATTACKS } from './attacks-mqtt.ts';
import { hangUp, type Attack, type Target, type Told } from './attack.ts';

const PRIORITY_BELOW_NORMAL = constants.priority.PRIORITY_BELOW_NORMAL;

export const ATTACKS: Record<string, Attack> = { ...MQTT_ATTACKS, ...HTTP_ATTACKS };

export interface Order {
  name: string;
  target: Target;
  ms: number;
  /** Share of a core to be burnt, for the control, in place of an attack. */
  load?: number;
}

export interface Report extends Told {
  /** Of a core. */
  load: number;
}

async function burn(share: number, over: AbortSignal): Promise<Told> {
  while (!over.aborted) {
    const until = performance.now() + 10 * Math.min(share, 1);
    while (performance.now() < until);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, 10 * (1 - share))));
  }
  return { tried: 0, refused: 0 };
}

async function carryOut({ name, target, ms, load }: Order): Promise<Report> {
  const over = AbortSignal.timeout(ms);
  setMaxListeners(0, over);
  const [before, began] = [process.cpuUsage(), performance.now()];
  const told = load === undefined ? await ATTACKS[name]?.(target, over) : await burn(load, over);
  hangUp();
  const { user, system } = process.cpuUsage(before);
  const { tried, refused } = told ?? { tried: 0, refused: 0 };
  return { tried, refused, load: (user + system) / 1000 / (performance.now() - began) };
}

if (process.send !== undefined) {
  setPriority(PRIORITY_BELOW_NORMAL);
  process.on('message', (order: Order) => {
    void carryOut(order).then((report) => process.send?.(report));
  });
  process.on('disconnect', () => process.exit(0));
}
