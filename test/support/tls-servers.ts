/** TLS servers that write down what they are sent, with a right certificate and with each kind that must not be believed. */
import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createServer, type Server } from 'node:tls';
import { Authority, selfSigned, type CertificateOptions, type Pair } from './certificates.ts';

export interface Listening {
  port: number;
  heard: () => string;
  /** Connections whose handshake was complete on both sides. */
  secured: () => number;
}

/** Why a certificate is not believed, in the words that follow `sentence`. */
const WRONG = {
  'of a wrong name':
    "it is for another name (IP: 127.0.0.1 is not in the cert's list: 10.9.9.9): use the name",
  'that has expired': 'it has expired (',
  'that is not valid yet': 'it is not valid yet (',
  'for clients alone': 'it is not one for servers (',
  'of a foreign authority': 'it is not signed by an authority that is known here (',
  'signed by itself': 'it is signed by itself (',
};
export const WRONG_CERTIFICATES = Object.entries(WRONG) as [keyof typeof WRONG, string][];

export const sentence = (why: string): string =>
  `its certificate is not accepted, so nothing was sent: ${why}`;

export class TlsServers {
  /** Whose certificates are believed. */
  readonly ours: Authority;
  private readonly folder: string;
  private readonly foreign: Authority;
  private readonly servers: Server[] = [];

  constructor(folder: string) {
    this.folder = folder;
    this.ours = new Authority(join(folder, 'ours'));
    this.foreign = new Authority(join(folder, 'foreign'), 'Foreign');
  }

  private issue(options: Omit<CertificateOptions, 'name'>, authority = this.ours): Pair {
    return authority.issue({ name: 'server', hosts: ['127.0.0.1'], ...options });
  }

  good(greeting = ''): Promise<Listening> {
    return this.serve(this.issue({}), greeting);
  }

  wrong(how: keyof typeof WRONG): Promise<Listening> {
    const [past, future] = [
      { from: '20200101000000Z', to: '20240101000000Z' },
      { from: '20380101000000Z', to: '20391231000000Z' },
    ];
    const make: Record<keyof typeof WRONG, () => Pair> = {
      'of a wrong name': () => this.issue({ hosts: ['10.9.9.9'] }),
      'that has expired': () => this.issue(past),
      'that is not valid yet': () => this.issue(future),
      'for clients alone': () => this.issue({ use: 'clientAuth' }),
      'of a foreign authority': () => this.issue({}, this.foreign),
      'signed by itself': () => selfSigned(join(this.folder, 'itself'), '127.0.0.1'),
    };
    return this.serve(make[how]());
  }

  private async serve({ cert, key }: Pair, greeting = ''): Promise<Listening> {
    let heard = '';
    let secured = 0;
    const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (socket) => {
      secured++;
      if (greeting !== '') socket.write(greeting);
      socket.on('error', () => undefined);
      socket.on('data', (bytes: Buffer) => {
        heard += bytes.toString('latin1');
        socket.destroy();
      });
    });
    server.on('tlsClientError', () => undefined); // A refused handshake is what is looked for.
    this.servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return {
      port: (server.address() as AddressInfo).port,
      heard: () => heard,
      secured: () => secured,
    };
  }

  close(): void {
    for (const server of this.servers) server.close();
  }
}
