/** Binding a server to an address, with errors that say which flag helps. */
import type { AddressInfo, Server } from 'node:net';
import { HeadwaterError, codeOf, messageOf } from '../errors.ts';

export interface Address {
  host: string;
  port: number;
}

export function addressText({ host, port }: Address): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Connections that wait to be accepted. With fewer than come at once the kernel forgets some without a word: their
 * clients believe to be connected until they send something.
 */
const BACKLOG = 4096;

/** Resolves with the real address (port 0 takes a free one). Throws ADDRESS_IN_USE or CONFIG_INVALID, naming `flag`. */
export function listen(server: Server, address: Address, flag: string): Promise<Address> {
  return new Promise((resolve, reject) => {
    const onError = (error: unknown): void => {
      const text = addressText(address);
      if (codeOf(error) === 'EADDRINUSE') {
        reject(
          new HeadwaterError(
            'ADDRESS_IN_USE',
            `${text} is in use by another process: choose another with ${flag} HOST:PORT (port 0 takes a free one)`,
            {
              cause: error,
            },
          ),
        );
      } else {
        reject(
          new HeadwaterError(
            'CONFIG_INVALID',
            `cannot listen on ${text} (${flag}): ${messageOf(error)}`,
            { cause: error },
          ),
        );
      }
    };
    server.once('error', onError);
    server.listen({ host: address.host, port: address.port, backlog: BACKLOG }, () => {
      server.off('error', onError);
      const bound = server.address() as AddressInfo; // A TCP server's address is never a path.
      resolve({ host: address.host, port: bound.port });
    });
  });
}
