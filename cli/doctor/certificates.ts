/** Certificates that a configuration names: whether they can be used, and for how long. */
import type { X509Certificate } from 'node:crypto';
import { readCertificates, secureOptions, type TlsFiles } from '../../shared/access/tls.ts';
import { fail, ok, tried, warn, type Finding } from './finding.ts';

const DAY_MS = 86_400_000;
const SOON_DAYS = 30;

function dates(path: string, { validFrom, validTo, subject }: X509Certificate, nowMs: number) {
  const name = `${path}: '${subject.replaceAll('\n', ', ')}'`;
  const left = Date.parse(validTo) - nowMs;
  if (left < 0) return fail(`${name} has expired on ${validTo}: renew it`);
  if (Date.parse(validFrom) > nowMs)
    return fail(`${name} is not valid before ${validFrom}: look at the clock, or wait`);
  return left < SOON_DAYS * DAY_MS
    ? warn(`${name} expires in ${Math.floor(left / DAY_MS)} days, on ${validTo}: renew it`)
    : ok(`${name} is valid until ${validTo}`);
}

/** One certificate with its key and authorities; '' for what is not given. `isServer`: clients look for its names. */
export async function certificates(
  what: string,
  files: TlsFiles,
  isServer: boolean,
  nowMs: number,
): Promise<Finding[]> {
  const { certFile, keyFile, caFile } = files;
  if (Object.values(files).every((path) => path === '')) return [];
  const findings = await tried(() => {
    secureOptions(files, what);
    return certFile === '' ? [] : [ok(`${what}: ${keyFile} is the key of ${certFile}`)];
  });
  for (const path of [certFile, caFile]) {
    if (path === '') continue;
    const read = await tried(() =>
      readCertificates(path, what).map((each) => dates(path, each, nowMs)),
    );
    findings.push(...read);
  }
  if (!isServer || certFile === '') return findings;
  const named = await tried(() => {
    const names = readCertificates(certFile, what)[0]?.subjectAltName;
    return names === undefined
      ? [
          warn(
            `${what}: ${certFile} names no host (subjectAltName): clients refuse it; have it issued for the name by which they reach this machine`,
          ),
        ]
      : [ok(`${what}: ${certFile} is for ${names}`)];
  });
  // That it cannot be read was said above.
  return [...findings, ...named.filter(({ level }) => level !== 'fail')];
}
