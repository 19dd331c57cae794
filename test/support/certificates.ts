/** Certificates for tests, made with the openssl command: authorities, servers, clients, and those that must not be accepted. */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Pair {
  cert: string;
  key: string;
}

export interface CertificateOptions {
  /** Common name. */
  name: string;
  /** `openssl -not_before`/`-not_after`: YYYYMMDDHHMMSSZ. */
  from?: string;
  to?: string;
  /** Subject alternative names, for servers. */
  hosts?: string[];
  /** What it is good for alone. */
  use?: 'clientAuth' | 'serverAuth';
  /** It may sign others. */
  isAuthority?: boolean;
}

const openssl = (args: string[]): void => {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
};

/** A server's certificate that nobody but itself has signed. */
export function selfSigned(folder: string, host: string): Pair {
  mkdirSync(folder, { recursive: true });
  const [cert, key] = [join(folder, 'self.pem'), join(folder, 'self.key')];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30'];
  const name = ['-subj', `/CN=${host}`, '-addext', `subjectAltName=IP:${host}`];
  openssl(['req', '-x509', ...kind, '-keyout', key, '-out', cert, ...name]);
  return { cert, key };
}

/** An authority with a folder of its own. */
export class Authority {
  readonly folder: string;
  readonly cert: string;
  private readonly key: string;
  private readonly database: string;
  private made = 0;

  /** `by`: whose it is; undefined: its own. */
  constructor(folder: string, name = 'Test Authority', by?: Authority) {
    mkdirSync(folder, { recursive: true });
    this.folder = folder;
    this.cert = join(folder, 'ca.pem');
    this.key = join(folder, 'ca.key');
    this.database = join(folder, 'index.txt');
    writeFileSync(this.database, '');
    writeFileSync(join(folder, 'crlnumber'), '01\n');
    writeFileSync(
      join(folder, 'ca.cnf'),
      `[ca]\ndefault_ca=d\n[d]\ndatabase=${this.database}\nnew_certs_dir=${folder}\ncertificate=${this.cert}\nprivate_key=${this.key}\nserial=${join(folder, 'serial')}\ncrlnumber=${join(folder, 'crlnumber')}\ndefault_md=sha256\ndefault_crl_days=30\npolicy=p\nunique_subject=no\ncopy_extensions=copy\n[p]\ncommonName=supplied\n`,
    );
    writeFileSync(join(folder, 'serial'), '1000\n');
    if (by !== undefined) {
      const pair = by.issue({ name, isAuthority: true });
      copyFileSync(pair.cert, this.cert);
      copyFileSync(pair.key, this.key);
      return;
    }
    // Its dates span those of every certificate of a test.
    openssl([
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '7300',
      '-keyout',
      this.key,
      '-out',
      this.cert,
      '-subj',
      `/CN=${name}`,
      '-addext',
      'basicConstraints=critical,CA:TRUE',
      '-addext',
      'keyUsage=critical,keyCertSign,cRLSign',
    ]);
  }

  issue({ name, from, to, hosts = [], use, isAuthority = false }: CertificateOptions): Pair {
    const base = join(this.folder, `${++this.made}`);
    const [cert, key, request, extensions] = [
      `${base}.pem`,
      `${base}.key`,
      `${base}.csr`,
      `${base}.ext`,
    ];
    openssl([
      'req',
      '-new',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-keyout',
      key,
      '-out',
      request,
      '-subj',
      `/CN=${name}`,
    ]);
    chmodSync(key, 0o600);
    const names = hosts.map((host) => (/^[\d.]+$/.test(host) ? `IP:${host}` : `DNS:${host}`));
    writeFileSync(
      extensions,
      `basicConstraints=CA:${isAuthority ? 'TRUE\nkeyUsage=keyCertSign,cRLSign' : 'FALSE'}\n${names.length === 0 ? '' : `subjectAltName=${names.join(',')}\n`}${use === undefined ? '' : `extendedKeyUsage=${use}\n`}`,
    );
    openssl([
      'ca',
      '-batch',
      '-notext',
      '-config',
      join(this.folder, 'ca.cnf'),
      '-in',
      request,
      '-out',
      cert,
      '-extfile',
      extensions,
      '-startdate',
      from ?? '20200101000000Z',
      '-enddate',
      to ?? '20391231235959Z',
    ]);
    return { cert, key };
  }

  /** Takes a certificate back and writes the list of such. */
  revoke(pair: Pair | undefined): string {
    const config = join(this.folder, 'ca.cnf');
    if (pair !== undefined) openssl(['ca', '-config', config, '-revoke', pair.cert]);
    const list = join(this.folder, 'crl.pem');
    openssl(['ca', '-config', config, '-gencrl', '-out', list]);
    return list;
  }
}
