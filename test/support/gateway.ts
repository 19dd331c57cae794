/** A gateway in this process, listening on free ports of loopback, with what it said. */
import { GATEWAY_CONFIG } from '../../gateway/config.ts';
import { Gateway, type GatewayAddresses } from '../../gateway/gateway.ts';
import { environmentName, loadConfig } from '../../shared/config/spec.ts';
import { realEnv } from '../../shared/env/env.ts';
import type { Notice } from '../../shared/telemetry/log.ts';

export interface RunningGateway {
  gateway: Gateway;
  addresses: GatewayAddresses;
  port: number;
  http: string;
  /** Port of MQTT over WebSocket; 0: none. */
  ws: number;
  notices: Notice[];
  /** Value of a metric, named with its labels as they are written; NaN where it is not there. */
  metric(name: string): Promise<number>;
}

export async function runGateway(
  folder: string,
  settings: Record<string, string> = {},
  flags: Record<string, string> = {},
): Promise<RunningGateway> {
  const config = loadConfig(GATEWAY_CONFIG, {
    flags: { data: folder, id: 'gw', mqtt: '127.0.0.1:0', 'gateway-http': '127.0.0.1:0', ...flags },
    environment: Object.fromEntries(
      Object.entries(settings).map(([key, value]) => [environmentName(key), value]),
    ),
  });
  const notices: Notice[] = [];
  const gateway = new Gateway(realEnv(), config, (notice) => void notices.push(notice));
  const addresses = await gateway.start();
  const { mqtt, ws, http } = addresses;
  const base = `http://127.0.0.1:${http?.port}`;
  return {
    gateway,
    addresses,
    port: mqtt?.port ?? 0,
    http: base,
    ws: ws?.port ?? 0,
    notices,
    metric: async (name) => {
      const text = await (await fetch(`${base}/metrics`)).text();
      const line = text.split('\n').find((each) => each.startsWith(`${name} `));
      return Number(line?.slice(name.length + 1) ?? Number.NaN);
    },
  };
}
